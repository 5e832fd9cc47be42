"""The HL7 route when PKB refuses, is slow or away, or holds what no message can name."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys import hospital
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.hospital import CUSTOMER, Booked, booked
from tests.journeys.partner import Client, Reply, comment, reason, until
from tests.journeys.processes import Json, Place, gateway_process

MISNAMED = (
    partner_table("misnamed")
    + 'pkb = { hl7_username = "file:keys/swiftbook-hl7-user", hl7_password = "file:keys/swiftbook-hl7-password" }\n'
)


@pytest.fixture(scope="module")
def hasty(place: Place) -> Iterator[Place]:
    """A gateway of short patience; `misnamed` has a grant with an alias that PKB does not know."""

    async def prepare() -> None:
        grants = place.grants.read_text(encoding="utf-8")
        grant = grant_table("misnamed", 'hl7_alias = "elsewhere"', customer=CUSTOMER)
        async with Client(place) as client:
            await client.regrant(with_added(grants, MISNAMED, grant))

    asyncio.run(prepare())
    limits = '[limits]\ndeadline = "2s"\nnot_found_step = "0s"\nwrite_settles_after = "0s"'
    with gateway_process(place, "hasty", limits) as running:
        yield running


@pytest.fixture
async def gateway(hasty: Place, client: Client) -> Client:
    return client.at(hasty)


async def cancel(gateway: Client, booking: Booked, **how: Any) -> Reply:
    return await gateway.cancel(booking.id, *booking.who, reason(), customer=CUSTOMER, **how)


async def change(gateway: Client, booking: Booked, **how: Any) -> Reply:
    return await gateway.change(booking.id, *booking.who, comment("New."), customer=CUSTOMER, **how)


READS: dict[str, tuple[Json, int, str]] = {
    "PKB answers 503": ({"kind": "status", "value": 503}, 503, "upstream-unavailable"),
    "PKB hangs up": ({"kind": "drop-before"}, 503, "upstream-unavailable"),
    "PKB is slow": ({"kind": "delay", "value": 2600, "count": 1}, 504, "upstream-timeout"),
    "PKB talks HTML": ({"kind": "garbage"}, 502, "upstream-invalid"),
    "PKB redirects": ({"kind": "status", "value": 302}, 502, "upstream-invalid"),
    "PKB forbids": ({"kind": "status", "value": 403}, 502, "upstream-refused"),
    "PKB says gone": ({"kind": "status", "value": 410}, 404, "not-found"),
}


@pytest.mark.parametrize("trouble", READS)
async def test_without_a_good_read_no_message_is_sent(trouble: str, gateway: Client) -> None:
    fault, status, code = READS[trouble]
    booking = await booked(gateway)
    await gateway.fault(**{"target": "aggregated", "on": "read", **fault})
    reply = await cancel(gateway, booking)
    assert (reply.status, reply.code) == (status, code)
    assert [(each["event"], each["code"]) for each in await gateway.audit_of(reply.request_id)] == [("refused", code)]
    assert await hospital.messages(gateway, booking.placer) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 412, 429])
async def test_what_is_turned_away_at_the_door_is_rejected_whatever_the_status(status: int, gateway: Client) -> None:
    booking = await booked(gateway)
    await gateway.fault("status", status, target="hl7", count=1, customer=CUSTOMER)
    reply = await change(gateway, booking)
    assert (reply.status, reply.code) == (502, "upstream-refused")
    [outcome] = await gateway.audit_of(reply.request_id, "outcome")
    assert (outcome["outcome"], outcome["final"], outcome["upstream"]["status"]) == ("rejected", True, status)
    assert (await gateway.copy(booking.id, CUSTOMER)) == booking.held
    assert (await change(gateway, booking)).status == 200


@pytest.mark.parametrize("status", [201, 202, 204, 302, 307, 408, 503])
async def test_any_other_status_is_doubt_however_long_nothing_is_seen(status: int, gateway: Client) -> None:
    """A message may wait for review, so that nothing happened yet proves nothing."""
    booking = await booked(gateway)
    await gateway.fault("status", status, target="hl7", count=1, customer=CUSTOMER)
    reply = await change(gateway, booking)
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    await asyncio.sleep(0.7)
    assert (await gateway.task(reply.task, customer=CUSTOMER)).body["status"] == "in-progress"
    assert (await cancel(gateway, booking)).code == "appointment-busy"
    assert len(await hospital.messages(gateway, booking.placer)) == 1


async def test_an_alias_that_pkb_does_not_know_is_rejected(gateway: Client) -> None:
    booking = await booked(gateway)
    reply = await cancel(gateway, booking, partner="misnamed")
    assert (reply.status, reply.code) == (502, "upstream-refused")
    [sent] = await hospital.messages(gateway, booking.placer)
    assert (sent.field("MSH", 4), sent.write["ack"]) == ("elsewhere{elsewhere}", "AR")
    assert (await gateway.copy(booking.id, CUSTOMER))["status"] == "booked"


async def test_a_message_slower_than_the_deadline_is_unknown_and_then_found_applied(gateway: Client) -> None:
    booking = await booked(gateway)
    await gateway.fault("delay", 2600, target="hl7", count=1, customer=CUSTOMER)
    reply = await cancel(gateway, booking)
    assert (reply.status, reply.code, reply.seconds < 2.8) == (504, "outcome-unknown", True)
    await until(
        lambda: gateway.task(reply.task, customer=CUSTOMER), lambda task: bool(task.body["status"] == "completed"), 10
    )
    assert len(await hospital.messages(gateway, booking.placer)) == 1
    assert (await cancel(gateway, booking)).code == "already-cancelled"


async def test_what_was_taken_while_nobody_can_read_is_accepted_and_completes_later(gateway: Client) -> None:
    booking = await booked(gateway)
    # The appointment and its patient are read before the message; what comes after it fails.
    await gateway.fault("delay", 0, target="aggregated", on="read", count=2)
    await gateway.fault("status", 503, target="aggregated", on="read")
    reply = await change(gateway, booking)
    assert (reply.status, reply.code) == (202, "")
    await gateway.clear()
    await until(
        lambda: gateway.task(reply.task, customer=CUSTOMER), lambda task: bool(task.body["status"] == "completed"), 10
    )
    outcomes = await gateway.audit_of(reply.request_id, "outcome", count=2)
    assert [(each["outcome"], each["final"]) for each in outcomes] == [("accepted", False), ("applied", True)]


def doubled(booking: Booked, member: str, **changed: Any) -> Json:
    first = booking.held[member][0]
    return {**booking.held, member: [*booking.held[member], {**first, **changed}]}


def specialties(booking: Booked) -> Json:
    [coding] = booking.held["specialty"][0]["coding"]
    return doubled(booking, "specialty", coding=[{**coding, "code": "300"}])


@pytest.mark.parametrize(
    ("held", "cancels"),
    [
        pytest.param(
            lambda booking: {**booking.held, "identifier": []}, (422, "not-supported-on-route"), id="no placer"
        ),
        pytest.param(
            lambda booking: doubled(booking, "identifier", value="J2"),
            (422, "not-supported-on-route"),
            id="two placers",
        ),
        pytest.param(specialties, (200, ""), id="two specialties"),
    ],
)
async def test_what_no_message_can_name_or_keep_is_not_changed(
    held: Any, cancels: tuple[int, str], gateway: Client
) -> None:
    booking = await booked(gateway)
    await gateway.put(booking.id, held(booking), customer=CUSTOMER)
    reply = await change(gateway, booking)
    assert (reply.status, reply.code) == (422, "not-supported-on-route")
    reply = await cancel(gateway, booking)
    assert (reply.status, reply.code) == cancels
    assert len(await hospital.messages(gateway, booking.placer)) == (1 if cancels[0] == 200 else 0)


async def test_an_appointment_of_another_organisation_does_not_exist(gateway: Client) -> None:
    booking = await booked(gateway)
    await gateway.put(booking.id, booking.held, owner="leeds", customer=CUSTOMER)
    for reply in (
        await gateway.read(booking.id, customer=CUSTOMER),
        await cancel(gateway, booking),
        await change(gateway, booking),
    ):
        assert (reply.status, reply.code) == (404, "not-found")
    assert await hospital.messages(gateway, booking.placer) == []


async def test_a_version_that_was_asked_for_is_kept_to(gateway: Client) -> None:
    booking = await booked(gateway)
    old = await change(gateway, booking, headers={"If-Match": 'W/"0"'})
    assert (old.status, old.code) == (412, "version-conflict")
    tag = (await gateway.read(booking.id, customer=CUSTOMER)).headers["ETag"]
    now = await change(gateway, booking, headers={"If-Match": tag})
    assert (now.status, now.headers["ETag"] != tag) == (200, True)
    assert len(await hospital.messages(gateway, booking.placer)) == 1


async def test_what_may_be_done_is_told_as_it_is_decided(gateway: Client) -> None:
    booking = await booked(gateway)
    path = f"/{CUSTOMER}/fhir/Appointment/{booking.id}/$actions"
    told = {each["name"]: each["part"] for each in (await gateway.ask("GET", path)).body["parameter"]}
    for operation in ("read", "change", "cancel"):
        assert {"name": "allowed", "valueBoolean": True} in told[operation]
    assert {"name": "fields", "valueCode": "managementUrl"} in told["change"]
    assert await hospital.messages(gateway, booking.placer) == []
