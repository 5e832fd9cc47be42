"""One good gateway.toml and its surroundings, for tests that spoil it in one place."""

from pathlib import Path
from types import MappingProxyType

from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.settings_file import load_settings

GOOD = """\
public_url = "https://appointments.example.nhs.uk"
grants = "grants.toml"
state = { url = "sqlite:///../var/state.db", keep = "30d" }
listen = { host = "127.0.0.1", port = 8080, workers = 1, trusted_proxies = ["10.1.2.0/24"] }
admin = { host = "127.0.0.1", port = 9090, hosts = [], operators = [] }

[audit]
directory = "../var/audit"
pseudonym_key = "env:PSEUDONYM_KEY"
pseudonym_keys = [{ id = "k1", key = "env:PSEUDONYM_KEY_1" }]
signing_key = "file:audit.pem"
unauthenticated = { process = "20/s", client = "5/s" }
reserve = "64MiB"
keep = "2920d"

[limits]
body = "64KiB"
deadline = "10s"
in_flight = 512
not_found_step = "250ms"
unresolved_after = { unknown = "24h", accepted = "14d" }

[tokens]
signing_key = "file:tokens.pem"
lifetime = "300s"

[tokens.issuers."https://iam.example/realms/pkb"]
jwks_url = "https://iam.example/certs"
audience = "gateway"
algorithms = ["RS256"]
partner_claim = "azp"

[routes.box]
kind = "customer-fhir"
base_url = "https://box.example/fhir/"
fhir_version = "R4"
ownership = "managing-organisation"
token = { url = "https://iam.example/t", style = "basic", client_id = "env:BOX_ID", client_secret = "env:BOX_SECRET" }

[routes.hl7-bradford]
kind = "hl7"
url = "https://pkb.example:7443/services/hl7"

[routes.hl7-bradford.read]
base_url = "https://aggregated.example/fhir"
ownership = "resource-meta"
placer_id_system = "https://bradford.example/placer"
token = { url = "https://iam.example/token", client_id = "plain-id", client_secret = "env:BOX_SECRET" }

[routes.leeds-box]
kind = "customer-fhir"
base_url = "https://leeds.example/fhir"
fhir_version = "STU3"
ownership = "whole-endpoint"
token = { url = "https://iam.example/token", client_id = "env:BOX_ID", client_secret = "env:BOX_SECRET" }
"""

ENVIRON = MappingProxyType(
    {
        "PSEUDONYM_KEY": "pseudonym-secret",
        "PSEUDONYM_KEY_1": "older-secret",
        "BOX_ID": "box-id",
        "BOX_SECRET": "box-secret",
        "EMPTY": "",
        "STATE": "postgresql://gateway:state-secret@db.example/gateway",
    }
)
SECRETS = ("pseudonym-secret", "older-secret", "box-secret", "audit-secret", "token-secret", "state-secret", "hunter2")


def settings_file(folder: Path, text: str = GOOD) -> Path:
    """Write gateway.toml and the files its secrets are in."""
    (folder / "audit.pem").write_text("audit-secret\n")
    (folder / "tokens.pem").write_text("token-secret\r\n")
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, *flags: str) -> tuple[Problem, ...]:
    """What is wrong with a file; nothing when it is taken."""
    try:
        load_settings(path, allowed=frozenset(flags), environ=ENVIRON)
    except ConfigurationRefused as refused:
        return refused.problems
    return ()
