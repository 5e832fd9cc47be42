"""Every resource that leaves is FHIR R4, as the models of fhir.resources have it, required value sets included."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel

from tests.journeys.hospital import booked
from tests.journeys.partner import Client, Reply, comment, patient
from tests.journeys.processes import Json

CUSTOMERS = ("airedale", "airedale-cardiology", "bradford", "leeds")
TASK = (
    "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed entered-in-error"
)
"""R4's task-status, of which the models name only the beginning."""
PARTNER = {"airedale-cardiology": "cardiolink"}


def words_outside(model: Any, at: str) -> Iterator[str]:
    """The places whose value is not in its required value set; the models know the sets and do not look."""
    if isinstance(model, list):
        for number, each in enumerate(model):
            yield from words_outside(each, f"{at}[{number}]")
    if not isinstance(model, BaseModel):
        return
    for name, field in type(model).model_fields.items():
        value, extra = getattr(model, name), field.json_schema_extra
        known: Any = extra.get("enum_values") if isinstance(extra, dict) else None
        if known and "+" in known:
            known = TASK.split() if (at, name) == ("Task", "status") else None
        if known and isinstance(value, str) and value not in known:
            yield f"{at}.{name}: {value}"
        yield from words_outside(value, f"{at}.{name}")


def without_foreign(node: Any) -> Any:
    """Leave out what the sandbox's PKB adds to appointments to show that elements no standard has are kept."""
    match node:
        case dict():
            return {name: without_foreign(value) for name, value in node.items() if name != "pasRecord"}
        case list():
            return [without_foreign(each) for each in node]
    return node


def assert_r4(resource: Json) -> None:
    model = get_fhir_model_class(resource["resourceType"]).model_validate(without_foreign(resource))
    assert list(words_outside(model, resource["resourceType"])) == []


def assert_good(reply: Reply, kind: str, status: int = 200) -> None:
    assert (reply.status, reply.body["resourceType"]) == (status, kind)
    assert reply.headers["Content-Type"].startswith("application/fhir+json")
    assert_r4(reply.body)


@pytest.mark.parametrize("customer", CUSTOMERS)
async def test_appointments_of_every_route_and_scenario(customer: str, client: Client) -> None:
    partner = PARTNER.get(customer, "swiftbook")
    listed = client.place.told["appointments"]
    known = [each for each in listed if each["customer"] == customer or each["scenario"] == "team-owned"]
    replies = await asyncio.gather(*(client.read(each["id"], customer=customer, partner=partner) for each in known))
    for reply in replies:
        assert_good(reply, "Appointment" if reply.status == 200 else "OperationOutcome", reply.status)
    assert "booked" in {reply.body["status"] for reply in replies if reply.status == 200}


@pytest.mark.parametrize("customer", CUSTOMERS)
async def test_offers(customer: str, client: Client) -> None:
    known = [each for each in client.place.told["appointments"] if each["customer"] == customer]
    shown = {each["scenario"]: each["id"] for each in known if each["scenario"] in {"changeable", "cancelled", "past"}}
    for id_ in shown.values():
        path = f"/{customer}/fhir/Appointment/{id_}/$actions"
        assert_good(await client.ask("GET", path, partner=PARTNER.get(customer, "swiftbook")), "Parameters")


@pytest.mark.parametrize("customer", ["airedale", "bradford", "leeds"])
async def test_bundles_with_and_without_hits(customer: str, client: Client) -> None:
    known = [each for each in client.place.told["appointments"] if each["customer"] == customer]
    for sought in (known[0]["patient_identifier"], "https://nobody.example|1"):
        reply = await client.ask("GET", f"/{customer}/fhir/Appointment?patient.identifier={sought}&_count=1")
        assert_good(reply, "Bundle")


async def test_what_a_write_is_answered_with(client: Client) -> None:
    whole = await client.change(await client.fresh(), comment("Bring a friend."))
    assert_good(whole, "Appointment")
    told = await client.cancel(await client.fresh(), headers={"Prefer": "return=OperationOutcome"})
    assert_good(told, "OperationOutcome")
    assert_good(await client.cancel(await client.fresh(), patient("1")), "OperationOutcome", 400)


async def test_tasks_in_every_state_that_a_partner_sees(client: Client) -> None:
    seen = {}
    await client.fault("drop-before", on="write", count=1)
    unknown = await client.cancel(await client.fresh())
    applied = await client.cancel(await client.fresh())
    assert applied.status == 200
    told = await booked(client)
    url = {"name": "managementUrl", "valueUrl": "https://swiftbook.example/1"}
    final = await client.change(told.id, url, *told.who, customer="bradford")
    held = await booked(client)
    await client.fault("ack", "AA-held", target="hl7", count=1)
    waiting = await client.change(held.id, comment("Bring a friend."), *held.who, customer="bradford")
    for reply, customer in ((unknown, "airedale"), (final, "bradford"), (waiting, "bradford")):
        task = await client.task(reply.task, customer=customer)
        assert_good(task, "Task")
        assert_good(reply, "OperationOutcome", reply.status)
        seen[task.body["status"]] = task.body
    assert set(seen) == {"in-progress", "completed", "accepted"}
    assert "note" in seen["completed"]


@pytest.mark.parametrize("customer", ["airedale", "no-such-customer"])
async def test_capability_statements(customer: str, client: Client) -> None:
    assert_good(await client.ask("GET", f"/{customer}/fhir/metadata", token=""), "CapabilityStatement")


async def test_a_reason_beside_noshow_is_left_as_pkb_has_it(client: Client) -> None:
    # R4's rule app-4 means this and says 'no-show', a word that its own value set does not have.
    why = {"text": "Was in hospital elsewhere."}
    shown = await client.read(await client.fresh("noshow", cancelationReason=why))
    assert (shown.body["status"], shown.body["cancelationReason"]) == ("noshow", why)
    assert_r4(shown.body)


def test_what_is_not_r4_is_noticed() -> None:
    good: Json = {"resourceType": "Task", "status": "completed", "intent": "order"}
    assert_r4(good)
    for wrong in ({"status": "done"}, {"intent": None}, {"unheardOf": 1}, {"authoredOn": "yesterday"}):
        with pytest.raises((ValueError, AssertionError)):
            assert_r4({**good, **wrong})
