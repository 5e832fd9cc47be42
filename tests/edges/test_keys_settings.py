"""What both files say of keys by URL and of other issuers."""

import re
from pathlib import Path

import pytest

from gateway.configuration.settings_file import load_settings
from tests.edges.grants_files import GOOD as GOOD_GRANTS
from tests.edges.grants_files import grants_file, reader
from tests.edges.grants_files import problems as problems_of
from tests.edges.settings_files import ENVIRON, GOOD, problems, settings_file

ISSUER = 'issuers."https://iam.example/realms/pkb"'


def test_an_issuer_and_the_file_of_a_key_are_where_the_settings_say(tmp_path: Path) -> None:
    tokens = load_settings(settings_file(tmp_path), environ=ENVIRON).tokens
    (issuer,) = tokens.issuers.values()
    assert (issuer.jwks_url, issuer.algorithms, issuer.partner_claim) == (
        "https://iam.example/certs",
        ("RS256",),
        "azp",
    )
    assert tokens.signing_key.path == tmp_path / "tokens.pem"


def test_no_issuer_is_the_gateway_itself(tmp_path: Path) -> None:
    own = GOOD.replace("https://iam.example/realms/pkb", "https://appointments.example.nhs.uk")
    (problem,) = problems(settings_file(tmp_path, own))
    assert "public_url" in problem.message
    assert problem.line == 1 + own[: own.index("[tokens.issuers")].count("\n")


@pytest.mark.parametrize(
    "url", ["http://iam.example/certs", "ftp://iam.example/certs", "https://a:b@iam.example/certs"]
)
def test_keys_come_over_https(tmp_path: Path, url: str) -> None:
    (problem,) = problems(settings_file(tmp_path, GOOD.replace("https://iam.example/certs", url)))
    assert problem.place.endswith("jwks_url")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081/certs", "http://[::1]/certs", "http://localhost/certs"])
def test_keys_may_come_over_http_from_this_machine(tmp_path: Path, url: str) -> None:
    assert problems(settings_file(tmp_path, GOOD.replace("https://iam.example/certs", url))) == ()


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES512", "rs256"])
def test_an_issuer_uses_no_algorithm_with_a_shared_secret_or_an_unknown_one(tmp_path: Path, algorithm: str) -> None:
    found = problems(settings_file(tmp_path, GOOD.replace('["RS256"]', f'["{algorithm}"]')))
    assert any("is not an algorithm taken" in problem.message for problem in found)


def test_the_grants_tell_the_urls_of_keys_and_the_partner_of_a_client(tmp_path: Path) -> None:
    text = GOOD_GRANTS.replace('jwks_file = "keys/swiftbook.jwks.json"', 'jwks_url = "https://swiftbook.example/jwks"')
    grants = reader(grants_file(tmp_path, text)).load()
    assert grants.key_urls == {"https://swiftbook.example/jwks"}
    assert grants.registrations["swiftbook"].key_urls == ("https://swiftbook.example/jwks",)
    assert grants.clients[("https://iam.example/realms/pkb", "swiftbook")] == "swiftbook"


@pytest.mark.parametrize("url", ["http://swiftbook.example/jwks", "https://swiftbook.example/jwks?x=1"])
def test_a_partners_keys_come_from_a_plain_https_address(tmp_path: Path, url: str) -> None:
    text = GOOD_GRANTS.replace('jwks_file = "keys/swiftbook.jwks.json"', f'jwks_url = "{url}"')
    assert re.search("jwks_url", str(problems_of(grants_file(tmp_path, text))))
