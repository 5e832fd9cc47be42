"""gateway.toml: what it means, and how its mistakes are told."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.configuration.secret import Secret
from gateway.configuration.settings import CustomerFhirRoute, Hl7Route
from gateway.configuration.settings_file import load_settings
from gateway.domain.grant import Ownership, Rate, Route, RouteKind
from tests.edges.settings_files import ENVIRON, GOOD, SECRETS, problems, settings_file

SHORTEST = """\
public_url = "http://127.0.0.1:8080"
grants = "grants.toml"
state = { url = "sqlite:////var/lib/state.db" }
[audit]
directory = "audit"
pseudonym_key = "env:PSEUDONYM_KEY"
[tokens]
signing_key = "file:tokens.pem"
"""


def test_paths_are_absolute_and_secrets_resolved(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path), environ=ENVIRON)
    assert settings.grants == tmp_path / "grants.toml"
    assert settings.audit.directory == tmp_path.parent / "var" / "audit"
    assert settings.state.url.reveal() == f"sqlite:///{tmp_path.parent}/var/state.db"
    assert settings.audit.pseudonym_key.reveal() == "pseudonym-secret"
    assert settings.audit.signing_key is not None
    assert settings.audit.signing_key.reveal() == "audit-secret"
    assert settings.tokens.signing_key.reveal() == "token-secret"


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    shown = repr(load_settings(settings_file(tmp_path), environ=ENVIRON))
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "env:BOX_SECRET" in shown


def test_routes_come_with_what_a_decision_needs(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path), environ=ENVIRON)
    assert settings.policy_routes() == {
        "box": Route("box", RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION),
        "hl7-bradford": Route("hl7-bradford", RouteKind.HL7, Ownership.RESOURCE_META),
        "leeds-box": Route("leeds-box", RouteKind.CUSTOMER_FHIR, Ownership.WHOLE_ENDPOINT),
    }
    box, bradford = settings.routes["box"], settings.routes["hl7-bradford"]
    assert isinstance(box, CustomerFhirRoute)
    assert (box.base_url, box.token.style, box.token.client_id.reveal()) == (
        "https://box.example/fhir",
        "basic",
        "box-id",
    )
    assert isinstance(bradford, Hl7Route)
    assert (bradford.processing_id, bradford.read.token.client_id.reveal()) == ("P", "plain-id")


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path, SHORTEST), environ=ENVIRON)
    assert (settings.listen.host, settings.listen.port, settings.admin.port) == ("127.0.0.1", 8080, 9090)
    assert settings.state.keep == timedelta(days=30)
    assert (settings.audit.reserve, settings.audit.keep) == (64 * 1024**2, timedelta(days=2920))
    assert settings.audit.unauthenticated.process == Rate(20, 1)
    limits = settings.limits
    assert (limits.body, limits.in_flight, limits.per_customer) == (64 * 1024, 512, 64)
    assert (limits.deadline, limits.not_found_step) == (timedelta(seconds=10), timedelta(milliseconds=250))
    assert limits.unresolved_after.accepted == timedelta(days=14)
    assert settings.tokens.lifetime == timedelta(seconds=300)
    assert settings.codes_system == "https://pkb-gateway.example/codes"


@pytest.mark.parametrize(
    ("old", "id_"),
    [
        pytest.param("[]", "k1", id="first key"),
        pytest.param('[{ id = "k1", key = "env:PSEUDONYM_KEY_1" }]', "k2", id="one old key"),
        pytest.param(
            '[{ id = "k9", key = "env:BOX_ID" }, { id = "k2", key = "env:BOX_ID" }]', "k10", id="two old keys"
        ),
    ],
)
def test_the_current_pseudonym_key_comes_after_the_old_ones(tmp_path: Path, old: str, id_: str) -> None:
    text = GOOD.replace('[{ id = "k1", key = "env:PSEUDONYM_KEY_1" }]', old)
    assert load_settings(settings_file(tmp_path, text), environ=ENVIRON).audit.pseudonym_key_id == id_


def test_the_step_of_not_found_can_be_switched_off(tmp_path: Path) -> None:
    text = GOOD.replace('"250ms"', '"0s"')
    assert load_settings(settings_file(tmp_path, text), environ=ENVIRON).limits.not_found_step == timedelta(0)


def test_state_may_be_a_reference_to_an_address_with_a_password(tmp_path: Path) -> None:
    text = GOOD.replace('"sqlite:///../var/state.db"', '"env:STATE"')
    settings = load_settings(settings_file(tmp_path, text), environ=ENVIRON)
    assert settings.state.url.reveal() == ENVIRON["STATE"]
    assert "state-secret" not in repr(settings)


def test_without_secrets_references_are_checked_for_their_form_only(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path), secrets=False, environ={})
    assert settings.audit.pseudonym_key == Secret("env:PSEUDONYM_KEY")
    with pytest.raises(RuntimeError, match="env:PSEUDONYM_KEY was not resolved"):
        settings.audit.pseudonym_key.reveal()


INSECURE = {
    "plain http to a box": (
        '"https://box.example',
        '"http://box.example',
        "routes.box.base_url",
        "--insecure-http-upstream",
    ),
    "plain http to a token server": (
        'token = { url = "https://iam.example/t", style',
        'token = { url = "http://iam.example/t", style',
        "routes.box.token.url",
        "--insecure-http-upstream",
    ),
    "plain http to the HL7 endpoint": (
        '"https://pkb.',
        '"http://pkb.',
        "routes.hl7-bradford.url",
        "--insecure-http-upstream",
    ),
    "plain http towards partners": ('"https://app', '"http://app', "public_url", "--insecure-public-url"),
    "admin on the network": ('admin = { host = "127.0.0.1"', 'admin = { host = "0.0.0.0"', "admin", "--insecure-admin"),
}


@pytest.mark.parametrize(
    ("old", "new", "place", "flag"), [pytest.param(*each, id=id_) for id_, each in INSECURE.items()]
)
def test_an_insecure_setting_stops_the_start_until_its_flag_is_given(
    tmp_path: Path, old: str, new: str, place: str, flag: str
) -> None:
    assert old in GOOD
    path = settings_file(tmp_path, GOOD.replace(old, new, 1))
    assert [(problem.place, flag in problem.message) for problem in problems(path)] == [(place, True)]
    others = {"--insecure-http-upstream", "--insecure-public-url", "--insecure-admin"} - {flag}
    assert problems(path, *others) == problems(path)
    assert problems(path, flag) == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_plain_http_is_fine_on_the_loopback(tmp_path: Path, host: str) -> None:
    text = GOOD.replace("https://box.example", f"http://{host}:8081").replace(
        "https://appointments.example.nhs.uk", f"http://{host}:1"
    )
    assert problems(settings_file(tmp_path, text)) == ()


def test_admin_on_the_network_is_fine_with_operators(tmp_path: Path) -> None:
    operators = f'operators = [{{ name = "ops", token_sha256 = "{"a" * 64}" }}]'
    text = GOOD.replace('admin = { host = "127.0.0.1"', 'admin = { host = "10.1.1.1"').replace(
        "operators = []", operators
    )
    assert problems(settings_file(tmp_path, text)) == ()


@dataclass(frozen=True)
class Mistake:
    old: str
    new: str
    place: str
    gist: str


MISTAKES = {
    "host that is none": Mistake('listen = { host = "127.0.0.1"', 'listen = { host = "-"', "listen.host", "host name"),
    "port beyond the range": Mistake(
        "https://pkb.example:7443", "https://pkb.example:99999", "routes.hl7-bradford.url", "web"
    ),
    "state that is no address": Mistake(
        "sqlite:///../var/state.db", "postgresql://[", "state.url", "not an address such as"
    ),
    "route of no kind": Mistake(
        'kind = "customer-fhir"\nbase_url = "https://box', 'base_url = "https://box', "routes.box", "kind is missing"
    ),
    "list as a table": Mistake(
        "unauthenticated = {", 'unauthenticated = ["x"] # {', "audit.unauthenticated", "expected a table, found a list"
    ),
    "two operators of one name": Mistake(
        "operators = []",
        f'operators = [{{ name = "a", token_sha256 = "{"0" * 64}" }}, {{ name = "a", token_sha256 = "{"1" * 64}" }}]',
        "admin",
        "same name",
    ),
    "misspelt key": Mistake("in_flight", "inflight", "limits.inflight", 'did you mean "in_flight"'),
    "unknown table": Mistake("[limits]", "[limit]", "limit", 'did you mean "limits"'),
    "misspelt key of a route": Mistake(
        'base_url = "https://box', 'baseurl = "https://box', "routes.box.baseurl", "base_url"
    ),
    "misspelt key of a token server": Mistake("style =", "stile =", "routes.box.token.stile", 'did you mean "style"'),
    "unknown kind of route": Mistake(
        '"customer-fhir"\nbase_url = "https://box',
        '"fhir"\nbase_url = "https://box',
        "routes.box",
        "customer-fhir or hl7",
    ),
    "unknown ownership": Mistake(
        '"managing-organisation"', '"managing-organization"', "routes.box.ownership", "did you mean"
    ),
    "unknown version of FHIR": Mistake('"R4"', '"R5"', "routes.box.fhir_version", "R4 or STU3"),
    "literal secret": Mistake('"env:PSEUDONYM_KEY"', '"hunter2"', "audit.pseudonym_key", "never written here"),
    "literal client secret": Mistake(
        '"env:BOX_SECRET" }\n\n[routes.hl7', '"hunter2" }\n\n[routes.hl7', "routes.box.token.client_secret", "env:NAME"
    ),
    "literal token of an operator": Mistake(
        "operators = []",
        'operators = [{ name = "ops", token_sha256 = "hunter2" }]',
        "admin.operators[0].token_sha256",
        "SHA-256",
    ),
    "secret that is not there": Mistake(
        '"env:PSEUDONYM_KEY"', '"env:NO_SUCH"', "audit.pseudonym_key", "env:NO_SUCH cannot be resolved"
    ),
    "secret that is empty": Mistake('"env:PSEUDONYM_KEY"', '"env:EMPTY"', "audit.pseudonym_key", "is empty"),
    "secret in a file that is not there": Mistake(
        "file:tokens.pem", "file:token.pem", "tokens.signing_key", "file:token.pem cannot be resolved"
    ),
    "secret in a folder": Mistake("file:tokens.pem", "file:.", "tokens.signing_key", "not a plain file"),
    "reference without a name": Mistake(
        '"basic", client_id = "env:BOX_ID"', '"basic", client_id = "env:"', "routes.box.token.client_id", "env:NAME"
    ),
    "password in an address": Mistake(
        "sqlite:///../var/state.db", "postgresql://gateway:hunter2@db/x", "state.url", "env:NAME"
    ),
    "password as a parameter": Mistake(
        "sqlite:///../var/state.db", "postgresql://db/x?password=hunter2", "state.url", "env:NAME"
    ),
    "user in an address": Mistake(
        "https://box.example", "https://me:hunter2@box.example", "routes.box.base_url", "password"
    ),
    "unknown store": Mistake("sqlite:///../var/state.db", "mysql://db/x", "state.url", "postgresql://host/database"),
    "state forgotten too soon": Mistake('keep = "30d"', 'keep = "23h"', "state.keep", "at least 24h"),
    "whole internet as a proxy": Mistake("10.1.2.0/24", "0.0.0.0/0", "listen.trusted_proxies[0]", "whole internet"),
    "whole new internet as a proxy": Mistake("10.1.2.0/24", "::/0", "listen.trusted_proxies[0]", "whole internet"),
    "network that is none": Mistake("10.1.2.0/24", "10.1.2.3/24", "listen.trusted_proxies[0]", "a network such as"),
    "port in quotes": Mistake("port = 8080", 'port = "8080"', "listen.port", "whole number, found text"),
    "port out of range": Mistake("port = 8080", "port = 70000", "listen.port", "at most 65535"),
    "no deadline": Mistake('"10s"', '"0s"', "limits.deadline", "longer than zero"),
    "size without a unit": Mistake('"64KiB"', '"65536"', "limits.body", '"64KiB"'),
    "size as a number": Mistake('"64KiB"', "65536", "limits.body", "found a whole number"),
    "tokens of two hours": Mistake('"300s"', '"2h"', "tokens.lifetime", "between 1s and 1h"),
    "issuer with shared secrets": Mistake(
        '"RS256"', '"HS256"', 'tokens.issuers."https://iam.example/realms/pkb".algorithms[0]', "did you mean"
    ),
    "issuer's keys by plain http": Mistake(
        "https://iam.example/certs",
        "http://iam.example/certs",
        'tokens.issuers."https://iam.example/realms/pkb".jwks_url',
        "https://",
    ),
    "address with a path": Mistake("example.nhs.uk", "example.nhs.uk/", "public_url", "without a path"),
    "address of nothing": Mistake("https://box.example/fhir/", "box.example", "routes.box.base_url", "web address"),
    "address with a wildcard": Mistake(
        "https://box.example/fhir/", "https://box.example/*", "routes.box.base_url", "wildcards"
    ),
    "address with a query": Mistake(
        "https://box.example/fhir/", "https://box.example/?a=b", "routes.box.base_url", "no ?"
    ),
    "route in capitals": Mistake("[routes.box]", "[routes.BOX]", "routes.BOX", "small letters"),
    "two old keys of one id": Mistake(
        "pseudonym_keys = [", 'pseudonym_keys = [{ id = "k1", key = "env:BOX_ID" }, ', "audit", "same id"
    ),
    "audit kept for too short": Mistake('keep = "2920d"', 'keep = "29d"', "audit.keep", "at least 30d"),
    "checkpoints beside the chains": Mistake(
        'directory = "../var/audit"', 'directory = "../var"\ncheckpoints = "../var/kept.jsonl"', "audit", "elsewhere"
    ),
    "key id in words": Mistake('id = "k1"', 'id = "first"', "audit.pseudonym_keys[0].id", '"k1"'),
    "route as text": Mistake(
        "[routes.box]\nkind",
        'routes.x = "y"\n[routes.box]\nkind',
        'tokens.issuers."https://iam.example/realms/pkb".routes',
        "unknown key",
    ),
}


@pytest.mark.parametrize("mistake", [pytest.param(m, id=name) for name, m in MISTAKES.items()])
def test_a_mistake_in_gateway_toml_is_told_at_its_line(tmp_path: Path, mistake: Mistake) -> None:
    assert mistake.old in GOOD
    text = GOOD.replace(mistake.old, mistake.new, 1)
    found = problems(settings_file(tmp_path, text))
    told = [problem for problem in found if problem.place == mistake.place and mistake.gist in problem.message]
    assert told, [str(problem) for problem in found]
    changed = next(n for n, (a, b) in enumerate(zip(GOOD.splitlines(), text.splitlines(), strict=False), 1) if a != b)
    assert changed - 3 <= told[0].line <= changed
    assert [secret for secret in SECRETS if secret in str(found)] == []


def test_checkpoints_need_a_key_that_signs_them(tmp_path: Path) -> None:
    text = GOOD.replace('signing_key = "file:audit.pem"', 'checkpoints = "/mnt/kept.jsonl"', 1)
    [problem] = problems(settings_file(tmp_path, text))
    assert (problem.place, "signing_key" in problem.message) == ("audit", True)


def test_every_mistake_of_gateway_toml_is_told_in_one_go(tmp_path: Path) -> None:
    text = (
        GOOD.replace("https://app", "http://app")
        .replace('env:PSEUDONYM_KEY"', 'hunter2"')
        .replace("port = 8080", "prt = 1")
    )
    text = text.replace('"64KiB"', '"1"').replace("[routes.leeds-box]", "[routes.Leeds]")
    found = problems(settings_file(tmp_path, text))
    assert [problem.place for problem in found] == [
        "public_url", "listen.prt", "audit.pseudonym_key", "limits.body", "routes.Leeds",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "gist"),
    [
        pytest.param(b"\n", "the file is empty", id="empty"),
        pytest.param(b"\xff\xfe", "not UTF-8", id="no text"),
        pytest.param(b"x" * 65537, "larger than 64 KiB", id="huge"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, content: bytes, gist: str) -> None:
    path = settings_file(tmp_path)
    (tmp_path / "tokens.pem").write_bytes(content)
    assert [(problem.place, gist in problem.message) for problem in problems(path)] == [("tokens.signing_key", True)]


def test_an_address_in_a_reference_is_checked_as_well(tmp_path: Path) -> None:
    path = settings_file(tmp_path, GOOD.replace('"sqlite:///../var/state.db"', '"env:BOX_SECRET"'))
    assert [problem.place for problem in problems(path)] == ["state.url"]
    assert "box-secret" not in str(problems(path))
