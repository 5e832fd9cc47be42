"""PUT and PATCH, in which the partner says what an appointment is to look like: the same two intents, and no more."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.domain import strict_json
from gateway.domain.strict_json import Number
from tests.journeys import hospital
from tests.journeys.exact import STRANGE
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.partner import (
    NHS_NUMBER,
    REASONS,
    Client,
    Reply,
    birth_date,
    comment,
    instant,
    location,
    patient,
    reason,
)
from tests.journeys.processes import Place

PATCH = "application/json-patch+json"
REASON = {"coding": [{"system": REASONS, "code": "pat-crs"}]}
CANCELLED = {"status": "cancelled", "cancelationReason": REASON}


@dataclass(frozen=True)
class Held:
    """One appointment as its partner read it, numbers as written."""

    client: Client
    customer: str
    id: str
    shown: Any
    tag: str

    async def put(self, wanted: Any, **headers: str) -> Reply:
        data = strict_json.write(wanted)
        return await self._ask("PUT", data, {"If-Match": self.tag, "Content-Type": "application/fhir+json", **headers})

    async def patch(self, *operations: Any, **headers: str) -> Reply:
        data = json.dumps(operations).encode()
        return await self._ask("PATCH", data, {"If-Match": self.tag, "Content-Type": PATCH, **headers})

    async def _ask(self, method: str, data: bytes, headers: dict[str, str]) -> Reply:
        path = f"/{self.customer}/fhir/Appointment/{self.id}"
        return await self.client.ask(method, path, data=data, headers=headers)

    async def written(self) -> str:
        """The one message that PKB got, without what differs from one appointment to the next."""
        if self.customer == hospital.CUSTOMER:
            placer = self.shown["identifier"][0]["value"]
            [sent] = await hospital.messages(self.client, placer)
            return re.sub(r"\|\d{14}\|", "|now|", sent.text.replace(placer, "PLACER").replace(sent.control_id, "ID"))
        [write] = await self.client.writes(self.id)
        body = re.sub(r'"(versionId|lastUpdated)":\s*"[^"]*"', r'"\1":""', write["body"].replace(self.id, "ID"))
        return str(body)


async def held(client: Client, customer: str) -> Held:
    """Make PKB hold one, full of what is easily spoilt, and read it."""
    if customer == hospital.CUSTOMER:
        id_ = (await hospital.booked(client)).id
    else:
        known = [each for each in client.place.told["appointments"] if each["customer"] == customer]
        like = next(each["id"] for each in known if each["scenario"] == "changeable")
        id_ = f"w-{uuid.uuid4().hex[:20]}"
        text = (await client.copy_text(like, customer)).replace(f'"id":"{like}"', f'"id":"{id_}"')
        strange = STRANGE.replace('"extension":', '"strange":')
        await client.put_text(id_, "{" + strange + text.lstrip()[1:], customer)
    read = await client.read(id_, customer=customer)
    return Held(client, customer, id_, strict_json.read(read.raw, depth=64), read.headers["ETag"])


@pytest.fixture(scope="module")
def trusting(place: Place) -> str:
    """The grants file, with partners that may do less, and with no patient to be named at Bradford."""
    partners = partner_table("canceller") + partner_table("changer") + partner_table("starter")
    grants = (
        grant_table("canceller", 'operations = ["read", "cancel"]')
        + grant_table("changer", 'operations = ["read", "change"]', 'change = { fields = ["start", "end", "comment"] }')
        + grant_table("starter", 'change = { fields = ["start"] }')
    )
    text = place.grants.read_text(encoding="utf-8")
    at = text.index('customer = "bradford"\npartner = "swiftbook"')
    return with_added(text[:at] + 'patient = "optional"\n' + text[at:], partners, grants)


@pytest.fixture
async def client(place: Place, trusting: str) -> AsyncIterator[Client]:
    async with Client(place) as speaking:
        if place.grants.read_text(encoding="utf-8") != trusting:
            await speaking.regrant(trusting)
        yield speaking
        await speaking.clear()


def moved(shown: Any, **members: Any) -> Any:
    """The copy three days later, for three quarters of an hour."""
    start = datetime.fromisoformat(shown["start"]) + timedelta(days=3)
    times: dict[str, Any] = {"start": start.isoformat(), "end": (start + timedelta(minutes=45)).isoformat()}
    if "minutesDuration" in shown:
        times["minutesDuration"] = Number("45")
    return shown | times | members


def is_place(participant: Any) -> bool:
    actor = participant["actor"]
    return actor.get("type") == "Location" or str(actor.get("reference")).startswith("Location/")


def renamed(shown: Any, name: str) -> Any:
    """The copy with another place, or with one at all."""
    people = [
        each | {"actor": each["actor"] | {"display": name}} if is_place(each) else each for each in shown["participant"]
    ]
    if people == shown["participant"]:
        people.append({"actor": {"type": "Location", "display": name}, "status": "accepted"})
    return shown | {"participant": people}


ROUTES = ["airedale", "leeds", "bradford"]
ANSWERED = {"airedale": 200, "leeds": 200, "bradford": 202}
"""Without the patient's birthday, which neither can carry, PKB holds a message for a person to look at."""


@pytest.mark.parametrize("customer", ROUTES)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_cancel_is_on_the_wire_what_the_operation_makes_of_it(
    method: str, customer: str, client: Client
) -> None:
    asked, told = await held(client, customer), await held(client, customer)
    texts = [] if customer == hospital.CUSTOMER else [comment("Not needed.")]
    by_operation = await client.cancel(asked.id, reason("pat-crs"), *texts, customer=customer)
    members = CANCELLED | ({"comment": "Not needed."} if texts else {})
    reply = await (
        told.put(told.shown | members)
        if method == "PUT"
        else told.patch(*({"op": "add", "path": f"/{name}", "value": value} for name, value in members.items()))
    )

    assert reply.status == by_operation.status == ANSWERED[customer]
    assert reply.body.get("status") == by_operation.body.get("status")
    assert await told.written() == await asked.written()
    intent, outcome = await client.audit_of(reply.request_id, count=2)
    assert [(each["operation"], each["reason"]) for each in (intent, outcome)] == [("cancel", "pat-crs")] * 2


@pytest.mark.parametrize("customer", ROUTES)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_is_on_the_wire_what_the_operation_makes_of_it(
    method: str, customer: str, client: Client
) -> None:
    asked, told = await held(client, customer), await held(client, customer)
    wanted = renamed(moved(told.shown, comment="Moved."), "Ward 7")
    times = [instant(name, datetime.fromisoformat(wanted[name])) for name in ("start", "end")]
    given = (*times, comment("Moved."), location("Ward 7"))
    by_operation = await client.change(asked.id, *given, customer=customer)
    steps = [("add", f"/{name}", wanted[name]) for name in ("start", "end", "comment")]
    place = next(n for n, each in enumerate(wanted["participant"]) if is_place(each))
    kind = "replace" if len(told.shown["participant"]) == len(wanted["participant"]) else "add"
    steps.append((kind, f"/participant/{place}", wanted["participant"][place]))
    reply = await (
        told.put(wanted)
        if method == "PUT"
        else told.patch(*({"op": kind, "path": path, "value": value} for kind, path, value in steps))
    )

    assert reply.status == by_operation.status == ANSWERED[customer]
    assert await told.written() == await asked.written()
    assert reply.body.get("comment") == by_operation.body.get("comment")
    intent, _ = await client.audit_of(reply.request_id, count=2)
    assert (intent["operation"], intent["facts"]["fields"]) == ("change", ["comment", "end", "location", "start"])


@pytest.mark.parametrize("customer", ROUTES)
async def test_what_was_read_and_is_put_back_changes_nothing(customer: str, client: Client) -> None:
    one = await held(client, customer)
    bare = one.shown | {"meta": {name: one.shown["meta"][name] for name in one.shown["meta"] if name != "versionId"}}
    replies = [await one.put(one.shown), await one.put(bare), await one.patch()]

    assert [reply.code for reply in replies] == ["nothing-to-change"] * 3
    assert await client.writes(one.id) == []
    [record] = await client.audit_of(replies[0].request_id)
    assert (record["operation"], record["decision"], record["code"]) == (None, "refuse", "nothing-to-change")


@pytest.mark.parametrize("customer", ROUTES)
async def test_everything_else_is_refused_and_named_without_its_value(customer: str, client: Client) -> None:
    one = await held(client, customer)
    before = len(await client.writes())
    other = {"system": NHS_NUMBER, "value": "9434765919"}
    for path, wanted in {
        "Appointment.description": one.shown | {"description": "Jane Doe"},
        "Appointment.status": one.shown | {"status": "arrived"},
        "Appointment.participant[0].actor": one.shown
        | {"participant": [{"actor": {"identifier": other}}, *one.shown["participant"][1:]]},
        "Appointment.meta.security": one.shown | {"meta": one.shown["meta"] | {"security": []}},
        "Appointment ": one.shown | {"JaneDoe9434765919": True},
    }.items():
        reply = await one.put(wanted)
        told = reply.body["issue"][0]["diagnostics"]
        assert (reply.status, reply.code) == (422, "field-not-changeable")
        assert path in told
        assert not re.search(r"Jane|9434765919|arrived", told)
    assert len(await client.writes()) == before


async def test_numbers_are_compared_as_they_are_written(client: Client) -> None:
    one = await held(client, "airedale")
    rounded = one.shown | {
        "unheardOf": one.shown["unheardOf"] | {"a": [None, [], {}, True, False, Number("0"), Number("0.1"), ""]}
    }
    reply = await one.put(rounded)
    assert (reply.code, "Appointment.unheardOf.a[6]" in reply.body["issue"][0]["diagnostics"]) == (
        "field-not-changeable",
        True,
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_where_the_patient_must_be_named_the_operations_are_named_instead(method: str, client: Client) -> None:
    one = await held(client, "bradford")
    text = client.place.grants.read_text(encoding="utf-8")
    await client.regrant(text.replace('patient = "optional"\n', ""))
    try:
        reply = await (one.put(one.shown | CANCELLED) if method == "PUT" else one.patch())
    finally:
        await client.regrant(text)
    assert (reply.status, reply.code) == (400, "missing-parameter")
    assert "$cancel" in reply.body["issue"][0]["diagnostics"]
    born = [each for each in client.place.told["appointments"] if each["customer"] == "bradford"][3]
    who = patient(born["patient_identifier"].split("|")[1]), birth_date(born["birth_date"])
    assert (await client.cancel(one.id, *who, reason(), customer="bradford")).status == 200


async def test_a_key_makes_a_repetition_one_and_a_preference_is_kept(client: Client) -> None:
    one = await held(client, "airedale")
    how = {"Idempotency-Key": one.id, "Prefer": "return=minimal"}
    first = await one.put(one.shown | CANCELLED, **how)
    again = await one.put(one.shown | CANCELLED, **how)
    other = await one.put(one.shown | {"comment": "x"}, **how)

    assert [(reply.status, reply.raw) for reply in (first, again)] == [(200, b"")] * 2
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.code == "idempotency-key-reused"
    assert len(await client.writes(one.id)) == 1
    assert "ETag" in first.headers


async def test_the_documents_tell_of_both(client: Client) -> None:
    told = (await client.ask("GET", "/airedale/fhir/metadata", token="")).body
    assert told["patchFormat"] == [PATCH]
    [appointment] = [each for each in told["rest"][0]["resource"] if each["type"] == "Appointment"]
    assert {"code": "update"} in appointment["interaction"]
    assert {"code": "patch"} in appointment["interaction"]
    one = await held(client, "airedale")
    reply = await one.patch(**{"Content-Type": "application/json"})
    assert (reply.code, reply.headers["Accept-Patch"]) == ("unsupported-media-type", PATCH)
