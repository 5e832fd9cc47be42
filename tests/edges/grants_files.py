"""One good grants file and its surroundings, for tests that spoil it in one place."""

from pathlib import Path
from types import MappingProxyType

from gateway.configuration.grants import GrantsReader
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.domain.grant import Ownership, Route, RouteKind

GOOD = """\
version = 1

[partners.swiftbook]
name = "SwiftBook Ltd"
pkb_client_id = "2f6c0b1e"
status = "active"
rate = "600/min"
authentication = [
  { method = "private_key_jwt", jwks_file = "keys/swiftbook.jwks.json" },
  { method = "access_token", issuer = "https://iam.example/realms/pkb", client_id = "swiftbook" },
]
pkb = { hl7_username = "env:HL7_USER", hl7_password = "env:HL7_PASSWORD" }

[partners.viewonly]
name = "View Only"
pkb_client_id = "77aa"
status = "suspended"

[customers.airedale]
name = "Airedale NHS Foundation Trust"
kind = "organisation"
ods_code = "RCF"
source_organisation = "Organization/airedale"
route = "box"
privacy_labels = ["GENERAL_HEALTH", "SEXUAL_HEALTH"]
notice = "72h"

[customers.airedale-cardiology]
name = "Cardiology"
kind = "team"
organisation = "airedale"
source_team = "Organization/cardiology"
privacy_labels = ["GENERAL_HEALTH"]

[customers.bradford]
name = "Bradford"
kind = "organisation"
source_organisation = "Organization/bradford"
route = "hl7-bradford"
time_zone = "Europe/London"
privacy_labels = ["GENERAL_HEALTH"]

[customers.leeds]
name = "Leeds"
kind = "organisation"
source_organisation = "Organization/leeds"
route = "leeds-box"
privacy_labels = ["GENERAL_HEALTH"]

[[grants]]
id = "airedale-swiftbook"
customer = "airedale"
partner = "swiftbook"
operations = ["read", "change", "cancel"]
from = 2026-01-01
until = 2027-01-01
privacy_labels = ["GENERAL_HEALTH"]
specialties = ["394579002", "https://codes.example/own|CARD"]
notice = "48h"
patient = "required"
change = { fields = ["start", "end"], within = "90d" }
cancel = { reasons = ["pat", "other"] }
rate = "60/min"
approved_by = "Director of Informatics"

[[grants]]
id = "airedale-swiftbook-summer"
customer = "airedale"
partner = "swiftbook"
operations = ["read"]
from = 2027-06-01T00:00:00+01:00
until = 2027-09-01

[[grants]]
id = "airedale-swiftbook-trial"
customer = "airedale"
partner = "swiftbook"
operations = ["read", "change"]
from = 2026-01-01
until = 2026-07-01
shadow = true

[[grants]]
id = "cardiology-viewonly"
customer = "airedale-cardiology"
partner = "viewonly"
operations = ["read"]
from = 2026-01-01
until = 2027-01-01

[[grants]]
id = "bradford-swiftbook"
customer = "bradford"
partner = "swiftbook"
operations = ["read", "change", "cancel"]
from = 2026-01-01
until = 2027-01-01
hl7_alias = "bradford"
"""

ROUTES = MappingProxyType(
    {
        "box": Route("box", RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION),
        "hl7-bradford": Route("hl7-bradford", RouteKind.HL7, Ownership.RESOURCE_META),
        "leeds-box": Route("leeds-box", RouteKind.CUSTOMER_FHIR, Ownership.WHOLE_ENDPOINT),
    }
)
ISSUERS = frozenset({"https://iam.example/realms/pkb"})
ENVIRON = MappingProxyType({"HL7_USER": "swift", "HL7_PASSWORD": "not-to-be-seen"})


def grants_file(folder: Path, text: str = GOOD) -> Path:
    """Write a grants file and the key file it refers to."""
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / "swiftbook.jwks.json").write_text("{}")
    path = folder / "grants.toml"
    path.write_text(text, encoding="utf-8")
    return path


def reader(path: Path) -> GrantsReader:
    return GrantsReader(path, routes=ROUTES, issuers=ISSUERS, read_keys=lambda file: file.name, environ=ENVIRON)


def problems(path: Path) -> tuple[Problem, ...]:
    """What is wrong with a file; nothing when it is taken."""
    try:
        reader(path).load()
    except ConfigurationRefused as refused:
        return refused.problems
    return ()
