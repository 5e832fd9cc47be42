"""The files of a sandbox: keys, secrets, both TOML files, and sandbox.json for those who drive it."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.partner.access_tokens import Scopes, TokenPress
from gateway.partner.keys import SigningKey, SigningKeys, read_signing_keys
from gateway.simulator import AGGREGATED_READER, CARDIOLOGY, GATEWAY, PLACER_SYSTEM, Customer, Simulator

TOKEN_LIFETIME: Final = 3600
"""Seconds an access token in sandbox.json is good for."""

SCOPE: Final = "system/Appointment.rus"
OPERATOR: Final = "sandbox"
"""The name under which things done in the console of a sandbox go on record."""
PARTNERS: Final = {
    "swiftbook": ("SwiftBook Ltd", "ES384"),
    "cardiolink": ("CardioLink Ltd", "RS384"),
    "viewonly": ("ViewOnly Ltd", "ES256"),
    "formerly": ("Formerly Ltd", "ES256"),
    "suspended": ("Suspended Ltd", "ES256"),
    "newcomer": ("Newcomer Ltd", "EdDSA"),
}
_LABELS: Final = '["GENERAL_HEALTH", "MENTAL_HEALTH", "SEXUAL_HEALTH", "SOCIAL_CARE"]'


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a sandbox listens; all on 127.0.0.1."""

    partner: int
    admin: int

    @property
    def gateway_url(self) -> str:
        """The base URL for partners."""
        return f"http://127.0.0.1:{self.partner}"

    @property
    def admin_url(self) -> str:
        """The base URL for operators."""
        return f"http://127.0.0.1:{self.admin}"


@dataclass(frozen=True, slots=True)
class SandboxFiles:
    """A sandbox's folder."""

    directory: Path

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.directory / "gateway.toml"

    @property
    def grants(self) -> Path:
        """The grants file."""
        return self.directory / "grants.toml"

    @property
    def audit(self) -> Path:
        """The folder of the audit stream."""
        return self.directory / "audit"

    @property
    def operator_token(self) -> Path:
        """What the operator of the sandbox logs in with."""
        return self.directory / "keys" / "operator.token"

    @property
    def description(self) -> Path:
        """What scripts and tests read."""
        return self.directory / "sandbox.json"

    def write(self, ports: Ports, simulator: Simulator, now: datetime) -> None:
        """Write everything that `serve` needs. Keys and audit of an earlier run in the same folder are kept."""
        # The simulated PKB starts anew, so writes that an earlier run left open would be followed for nothing.
        for leftover in self.directory.glob("state.db*"):
            leftover.unlink()
        # Whoever waits for this file must not find the last run's.
        self.description.unlink(missing_ok=True)
        keys = self.directory / "keys"
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(keys / "pseudonym.key", secrets.token_urlsafe(32))
        _write_once(self.operator_token, secrets.token_urlsafe(32))
        hl7 = simulator.hl7_credentials["swiftbook"]
        for name, secret in {
            "pkb-client-secret": GATEWAY.client_secret,
            "pkb-aggregated-secret": AGGREGATED_READER.client_secret,
            "swiftbook-hl7-user": hl7.username,
            "swiftbook-hl7-password": hl7.password,
        }.items():
            _write_once(keys / name, secret)
            (keys / name).write_text(secret, encoding="ascii")
        _write_once(keys / "tokens.pem", _pem("ES256"))
        _write_once(keys / "audit.pem", _pem("EdDSA"))
        for partner, (_, algorithm) in PARTNERS.items():
            _write_once(keys / f"{partner}.pem", _pem(algorithm))
            key = self._key(partner)
            jwk = {**key.verifying.jwk, "kid": key.kid, "use": "sig", "alg": algorithm}
            (keys / f"{partner}.jwks.json").write_text(json.dumps({"keys": [jwk]}, indent=1), encoding="ascii")
        audit_jwks = read_signing_keys((keys / "audit.pem").read_text(encoding="ascii")).public_jwks()
        (keys / "audit.jwks.json").write_text(json.dumps(audit_jwks, indent=1), encoding="ascii")
        digest = hashlib.sha256(self.operator_token.read_bytes()).hexdigest()
        self.config.write_text(_gateway_toml(ports, simulator, digest), encoding="utf-8")
        self.grants.write_text(_grants_toml(now.date(), list(simulator.customers.values())), encoding="utf-8")

    def describe(self, ports: Ports, simulator: Simulator, now: datetime) -> Mapping[str, Any]:
        """Write sandbox.json, by rename, and give what it says."""
        press = self._press(ports)
        partners = {
            partner: {
                "client_id": partner,
                "private_key_file": str(self.directory / "keys" / f"{partner}.pem"),
                "kid": self._key(partner).kid,
                "alg": algorithm,
                "token_url": f"{ports.gateway_url}/oauth2/token",
                "access_token": press.issue(partner, Scopes.read(SCOPE), now, secrets.token_hex(16)).text,
            }
            for partner, (_, algorithm) in PARTNERS.items()
        }
        told = {
            "gateway_url": ports.gateway_url,
            "admin_url": ports.admin_url,
            "pkb_url": simulator.url,
            "pkb_control_url": simulator.control_url,
            "config_file": str(self.config),
            "grants_file": str(self.grants),
            "audit_directory": str(self.audit),
            "operator": OPERATOR,
            "operator_token_file": str(self.operator_token),
            "partners": partners,
            "customers": {
                customer.id: {"kind": customer.kind, "route": _route(customer)}
                for customer in simulator.customers.values()
            },
            "appointments": [asdict(appointment) for appointment in simulator.appointments],
        }
        draft = self.description.with_suffix(".draft")
        draft.write_text(json.dumps(told, indent=1), encoding="utf-8")
        draft.replace(self.description)
        return told

    def _key(self, partner: str) -> SigningKey:
        return read_signing_keys((self.directory / "keys" / f"{partner}.pem").read_text(encoding="ascii")).first

    def _press(self, ports: Ports) -> TokenPress:
        pem = (self.directory / "keys" / "tokens.pem").read_text(encoding="ascii")
        keys: SigningKeys = read_signing_keys(pem)
        return TokenPress(ports.gateway_url, keys, TOKEN_LIFETIME)


def _write_once(path: Path, value: str) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(value, encoding="ascii")


def _pem(algorithm: str) -> str:
    private: Any
    match algorithm:
        case "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            private = ec.generate_private_key(ec.SECP384R1())
        case "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        case _:
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text: bytes = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode("ascii")


def _gateway_toml(ports: Ports, simulator: Simulator, operator: str) -> str:
    operators = f'[{{ name = "{OPERATOR}", token_sha256 = "{operator}" }}]'
    return f"""# The settings of a sandbox: everything on this machine, every secret in a file beside it.
public_url = "{ports.gateway_url}"
grants = "grants.toml"
state = {{ url = "sqlite:///state.db", keep = "30d" }}
listen = {{ host = "127.0.0.1", port = {ports.partner} }}
admin = {{ host = "127.0.0.1", port = {ports.admin}, operators = {operators} }}

[audit]
directory = "audit"
pseudonym_key = "file:keys/pseudonym.key"
signing_key = "file:keys/audit.pem"
unauthenticated = {{ process = "10000/s", client = "10000/s" }}

[tokens]
signing_key = "file:keys/tokens.pem"

[routes.airedale-box]
kind = "customer-fhir"
base_url = "{simulator.box_url("airedale")}"
fhir_version = "R4"
ownership = "managing-organisation"

[routes.airedale-box.token]
url = "{simulator.token_url}"
client_id = "{GATEWAY.client_id}"
client_secret = "file:keys/pkb-client-secret"
style = "body"

[routes.leeds-box]
kind = "customer-fhir"
base_url = "{simulator.box_url("leeds")}"
fhir_version = "STU3"
ownership = "managing-organisation"

[routes.leeds-box.token]
url = "{simulator.token_url}"
client_id = "{GATEWAY.client_id}"
client_secret = "file:keys/pkb-client-secret"
style = "body"

[routes.bradford]
kind = "hl7"
url = "{simulator.hl7_url}"
processing_id = "P"

[routes.bradford.read]
base_url = "{simulator.aggregated_url}"
fhir_version = "R4"
ownership = "resource-meta"
placer_id_system = "{PLACER_SYSTEM}"

[routes.bradford.read.token]
url = "{simulator.aggregated_token_url}"
client_id = "{AGGREGATED_READER.client_id}"
client_secret = "file:keys/pkb-aggregated-secret"
style = "body"
"""


def _route(customer: Customer) -> str:
    return customer.box if customer.route == "hl7" else f"{customer.box}-box"


def _grants_toml(today: date, customers: list[Customer]) -> str:
    begun, ends, ended = today - timedelta(days=60), today + timedelta(days=365), today - timedelta(days=1)
    parts = ["# Who may do what in the sandbox. Change it while the gateway runs: it is read again within a second.\n"]
    parts.append("version = 1\n")
    for partner, (name, _) in PARTNERS.items():
        parts.append(
            f'\n[partners.{partner}]\nname = "{name}"\npkb_client_id = "pkb-{partner}"\n'
            f'status = "{"suspended" if partner == "suspended" else "active"}"\nrate = "60000/min"\n'
            f'authentication = [{{ method = "private_key_jwt", jwks_file = "keys/{partner}.jwks.json" }}]\n'
        )
        if partner == "swiftbook":
            login = 'hl7_username = "file:keys/swiftbook-hl7-user", hl7_password = "file:keys/swiftbook-hl7-password"'
            parts.append(f"pkb = {{ {login} }}\n")
    for customer in customers:
        parts.append(f'\n[customers.{customer.id}]\nname = "{customer.name}"\nkind = "{customer.kind}"\n')
        if customer.organisation is None:
            parts.append(f'ods_code = "{customer.ods_code}"\norg_public_id = "{customer.public_id}"\n')
            parts.append(f'source_organisation = "{customer.source}"\nroute = "{_route(customer)}"\n')
        else:
            parts.append(f'organisation = "{customer.organisation}"\nsource_team = "{customer.source}"\n')
        parts.append(f"privacy_labels = {_LABELS}\n")
    every = '["read", "change", "cancel"]'
    fields = 'change = { fields = ["start", "end", "comment", "location"] }\n'
    hl7_fields = 'change = { fields = ["start", "end", "comment", "location", "managementUrl"] }\n'
    only = f'specialties = ["{CARDIOLOGY[0]}"]\n'
    parts += [
        _grant("airedale", "swiftbook", every, (begun, ends), f'notice = "48h"\n{fields}'),
        _grant("airedale-cardiology", "cardiolink", every, (begun, ends), f'{only}notice = "48h"\n{fields}'),
        _grant("bradford", "swiftbook", every, (begun, ends), f'notice = "48h"\n{hl7_fields}hl7_alias = "bradford"\n'),
        _grant("leeds", "swiftbook", every, (begun, ends), f'notice = "48h"\n{fields}'),
        _grant("airedale", "viewonly", '["read"]', (begun, ends), ""),
        _grant("airedale", "formerly", every, (begun, ended), f'notice = "48h"\n{fields}'),
        _grant("airedale", "suspended", every, (begun, ends), f'notice = "48h"\n{fields}'),
    ]
    return "".join(parts)


def _grant(customer: str, partner: str, operations: str, days: tuple[date, date], rest: str) -> str:
    return (
        f'\n[[grants]]\nid = "{customer}-{partner}"\ncustomer = "{customer}"\npartner = "{partner}"\n'
        f'operations = {operations}\nfrom = {days[0]}\nuntil = {days[1]}\nprivacy_labels = ["GENERAL_HEALTH"]\n{rest}'
        f'approved_by = "Director of Informatics, sandbox"\n'
    )
