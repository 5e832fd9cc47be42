"""The gateway as a contender: `serve` as shipped, with grants, keys, state and audit in a folder of its own."""

import contextlib
import functools
import json
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bench.speed.box import ORGANISATION
from bench.speed.contender import CUSTOMER, WITHOUT_GRANT, Contender, Running, Scenario, Setting
from bench.speed.harness import answers, process, wait_for
from bench.speed.keys import ISSUER, PARTNER, private_pem
from gateway.partner.keys import read_signing_keys

PROGRAM = (sys.executable, "-m", "gateway")
SETTINGS = """
public_url = "{issuer}"
grants = "grants.toml"
state = {{ url = "sqlite:///state.db" }}
listen = {{ host = "127.0.0.1", port = {port}, workers = {workers} }}
admin = {{ host = "127.0.0.1", port = {admin_port} }}

[audit]
directory = "audit"
pseudonym_key = "file:pseudonym.key"
signing_key = "file:audit.pem"

[tokens]
signing_key = "file:{token_key}"

[routes.box]
kind = "customer-fhir"
base_url = "http://127.0.0.1:{upstream}/fhir"
fhir_version = "R4"
ownership = "managing-organisation"

[routes.box.token]
url = "http://127.0.0.1:{upstream}/auth/token"
client_id = "gateway"
client_secret = "file:upstream.secret"
"""
GRANTS = f"""
version = 1

[partners.{PARTNER}]
name = "Partner"
pkb_client_id = "pkb-partner"
rate = "100000000/min"
authentication = [{{ method = "private_key_jwt", jwks_file = "partner.jwks.json" }}]

[customers.{CUSTOMER}]
name = "Clinic"
kind = "organisation"
source_organisation = "{ORGANISATION}"
route = "box"
privacy_labels = ["GENERAL_HEALTH", "SEXUAL_HEALTH"]

[customers.{WITHOUT_GRANT}]
name = "Elsewhere"
kind = "organisation"
source_organisation = "Organization/elsewhere"
route = "box"
privacy_labels = ["GENERAL_HEALTH"]

[[grants]]
id = "clinic-partner"
customer = "{CUSTOMER}"
partner = "{PARTNER}"
operations = ["read", "change", "cancel"]
from = 2026-01-01
until = 2098-01-01
privacy_labels = ["GENERAL_HEALTH"]
notice = "48h"
change = {{ fields = ["start", "end", "comment"] }}
cancel = {{ reasons = ["pat", "pat-crs", "other"] }}
approved_by = "Director of Informatics"
"""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def written(setting: Setting, folder: Path, workers: int) -> Running:
    """Write all that `serve` needs; nothing runs yet."""
    folder.mkdir(parents=True)
    port, admin_port = free_port(), free_port()
    (folder / "pseudonym.key").write_text(secrets.token_urlsafe(32), encoding="ascii")
    (folder / "upstream.secret").write_text(secrets.token_urlsafe(32), encoding="ascii")
    (folder / "audit.pem").write_text(private_pem(ed25519.Ed25519PrivateKey.generate()), encoding="ascii")
    (folder / "partner.pem").write_text(private_pem(ec.generate_private_key(ec.SECP256R1())), encoding="ascii")
    key = read_signing_keys((folder / "partner.pem").read_text(encoding="ascii")).first
    jwk = {**key.verifying.jwk, "kid": key.kid, "use": "sig", "alg": "ES256"}
    (folder / "partner.jwks.json").write_text(json.dumps({"keys": [jwk]}), encoding="ascii")
    text = SETTINGS.format(
        issuer=ISSUER,
        port=port,
        admin_port=admin_port,
        workers=workers,
        upstream=setting.upstream.port,
        token_key=setting.keys.private,
    )
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    return Running(0, port, admin_port, folder / "gateway.log", folder)


@contextlib.contextmanager
def serving(
    setting: Setting,
    workers: int,
    *,
    grants: str = GRANTS,
    environment: dict[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> Iterator[Running]:
    """Run it until the caller is done with it."""
    place = written(setting, setting.folder / f"gateway-{workers}-{secrets.token_hex(4)}", workers)
    (place.folder / "grants.toml").write_text(grants, encoding="utf-8")
    command = [*program, "serve", "--config", place.folder / "gateway.toml"]
    begun = time.monotonic()
    with process(command, setting.cores.measured, place.log, environment=environment) as started:
        wait_for(lambda: _serves(place, workers), started, place.log)
        yield replace(place, pid=started.pid, started_after=time.monotonic() - begun)


def _serves(place: Running, workers: int) -> bool:
    if workers > 1:
        return place.log.read_text(encoding="utf-8").count('"worker serving"') == workers
    return answers(place.admin_port, "/health/ready")


@contextlib.contextmanager
def _apart(setting: Setting) -> Iterator[Running]:
    """Run two that share the load and the machine, and nothing else."""
    with serving(setting, 1) as one, serving(setting, 1) as other:
        yield replace(one, beside=other)


SCENARIOS = (Scenario.CANCEL, Scenario.READ, Scenario.REFUSAL, Scenario.TOKEN)
ONE = Contender("gateway", "gateway, 1 worker", functools.partial(serving, workers=1), SCENARIOS, durable=True)
TWO = Contender("gateway-2", "gateway, 2 workers", functools.partial(serving, workers=2), SCENARIOS, durable=True)
APART = Contender("gateway-apart", "two gateways that share nothing", _apart, (Scenario.CANCEL,), durable=True)
