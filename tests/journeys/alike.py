"""Requests that nobody may tell apart: what one asks for is not there, what the others ask for is there and hidden."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.journeys.hospital import CUSTOMER, booked
from tests.journeys.partner import Client, birth_date, comment, parameters, patient, reason
from tests.journeys.processes import Json

LABEL = "http://fhir.patientsknowbest.com/codesystem/privacy-label"
FHIR = {"Content-Type": "application/fhir+json"}
PATCH_JSON = "application/json-patch+json"
VERSION = {"If-Match": 'W/"1"'}
SOMEBODY_ELSE = (patient("9999999999"), birth_date("1901-01-01"))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a partner."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    partner: str = "swiftbook"


@dataclass(frozen=True, slots=True)
class Question:
    """The same question about what is not there, and about what must seem not to be; each about ids of its own."""

    name: str
    code: str
    missing: Sequence[Asked]
    hidden: Mapping[str, Sequence[Asked]]
    """By why it is hidden."""


async def questions(client: Client, count: int) -> list[Question]:
    """Every way of being refused without being told why, with so many ids for each."""
    absent = [f"a-{uuid.uuid4().hex[:20]}" for _ in range(count)]
    hidden = {
        "another customer's": await _like(client, count, "other-customer", owner="wharfedale"),
        "label outside": await _like(client, count, "label-outside"),
    }
    others = hidden | {"another patient's": await _like(client, count, "changeable")}
    return [
        _no_grant(count),
        *(_question(kind, absent, hidden) for kind in ("read", "$actions")),
        *(_question(kind, absent, hidden) for kind in ("PUT", "PATCH")),
        *(_question(kind, absent, others) for kind in ("$cancel", "$change")),
        await _over_hl7(client, absent),
        await _tasks(client, absent),
    ]


def _question(kind: str, absent: Sequence[str], hidden: Mapping[str, Sequence[str]]) -> Question:
    asked = {why: _each(kind, ids) for why, ids in hidden.items()}
    return Question(kind, "not-found", _each(kind, absent), asked)


def _no_grant(count: int) -> Question:
    # Names of one length: how long a name is, is known to whoever sends it.
    unknown, silent = "nobodyhere", "wharfedale"
    paths = ([f"/{customer}/fhir/Appointment/x" for _ in range(count)] for customer in (unknown, silent))
    missing, hidden = ([Asked("GET", path) for path in each] for each in paths)
    return Question("read of a customer", "no-grant", missing, {"grants nothing": hidden})


async def _over_hl7(client: Client, absent: Sequence[str]) -> Question:
    labelled = [(await booked(client, "label-outside")).id for _ in absent]
    own = [(await booked(client)).id for _ in absent]
    there = [f"h-{each[2:]}" for each in absent]
    asked = {"label outside": labelled, "another patient's": own}
    told = {why: _each("$cancel", ids, CUSTOMER) for why, ids in asked.items()}
    return Question("$cancel over HL7", "not-found", _each("$cancel", there, CUSTOMER), told)


def _each(kind: str, ids: Sequence[str], customer: str = "airedale") -> list[Asked]:
    return [_asked(kind, f"/{customer}/fhir/Appointment/{each}", each) for each in ids]


def _asked(kind: str, path: str, id_: str) -> Asked:
    match kind:
        case "PUT":
            resource = {"resourceType": "Appointment", "id": id_, "status": "booked", "comment": "Bring your glasses."}
            return Asked("PUT", path, json.dumps(resource).encode(), FHIR | VERSION)
        case "PATCH":
            steps = [{"op": "add", "path": "/comment", "value": "Bring your glasses."}]
            return Asked("PATCH", path, json.dumps(steps).encode(), {"Content-Type": PATCH_JSON} | VERSION)
        case "read":
            return Asked("GET", path)
        case "$actions":
            return Asked("GET", f"{path}/$actions")
        case "$cancel":
            return Asked("POST", f"{path}/$cancel", _body(reason(), *SOMEBODY_ELSE), FHIR)
        case _:
            return Asked("POST", f"{path}/$change", _body(comment("Bring your glasses."), *SOMEBODY_ELSE), FHIR)


def _body(*given: Json) -> bytes:
    return json.dumps(parameters(*given)).encode()


async def _like(client: Client, count: int, scenario: str, owner: str | None = None) -> list[str]:
    """New appointments in PKB, each like the first demo one of a scenario, under ids as long as the absent ones."""
    like = await client.copy(client.demo(scenario)["id"])
    made = [f"a-{uuid.uuid4().hex[:20]}" for _ in range(count)]
    for each in made:
        await client.put(each, {**like, "id": each}, owner)
    return made


async def _tasks(client: Client, absent: Sequence[str]) -> Question:
    """A Task that is another partner's, at the same customer."""
    made = await client.fresh()
    changed = await client.change(made, comment("Bring your glasses."))
    assert changed.status == 200, changed.body
    (outcome,) = await client.audit_of(changed.request_id, "outcome")
    missing, hidden = (
        [Asked("GET", f"/airedale/fhir/Task/{task}", partner="viewonly") for task in each]
        for each in ([str(uuid.uuid4()) for _ in absent], [outcome["task"] for _ in absent])
    )
    return Question("Task", "not-found", missing, {"another partner's": hidden})
