"""Somebody else writes meanwhile, or a person reviews: nothing is revived, undone or sent twice."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.journeys import hospital
from tests.journeys.grants import grant_table, partner_table, with_added
from tests.journeys.hospital import CUSTOMER, URL, Booked, booked
from tests.journeys.partner import Client, Reply, comment, instant, reason, until
from tests.journeys.processes import Json, Place, gateway_process

RIVAL = (
    partner_table("rival")
    + 'pkb = { hl7_username = "file:keys/swiftbook-hl7-user", hl7_password = "file:keys/swiftbook-hl7-password" }\n'
)
FIELDS = 'change = { fields = ["start", "end", "comment", "location", "managementUrl"] }'


@pytest.fixture(scope="module")
def shared(place: Place) -> Place:
    """`rival` may write at the hospital like swiftbook."""

    async def prepare() -> None:
        grants = place.grants.read_text(encoding="utf-8")
        grant = grant_table("rival", FIELDS, f'hl7_alias = "{CUSTOMER}"', customer=CUSTOMER)
        async with Client(place) as client:
            await client.regrant(with_added(grants, RIVAL, grant))

    asyncio.run(prepare())
    return place


@pytest.fixture(scope="module")
def impatient(shared: Place) -> Iterator[Place]:
    limits = '[limits]\nunresolved_after = { unknown = "2s", accepted = "2s" }'
    with gateway_process(shared, "impatient", limits) as running:
        yield running


async def cancel(client: Client, booking: Booked, **how: Any) -> Reply:
    return await client.cancel(booking.id, *booking.who, reason(), customer=CUSTOMER, **how)


async def change(client: Client, booking: Booked, *given: Json, **how: Any) -> Reply:
    return await client.change(booking.id, *booking.who, *(given or (comment("New."),)), customer=CUSTOMER, **how)


async def move(client: Client, booking: Booked, days: int = 3, **how: Any) -> Reply:
    start, end = (datetime.fromisoformat(booking.held[name]) + timedelta(days=days) for name in ("start", "end"))
    return await change(client, booking, instant("start", start), instant("end", end), **how)


async def hold_next(client: Client) -> None:
    await client.fault("ack", "AA-held", target="hl7", count=1, customer=CUSTOMER)


async def hospital_cancels(client: Client, booking: Booked) -> None:
    copy = await client.copy(booking.id, CUSTOMER)
    await client.put(booking.id, {**copy, "status": "cancelled"}, customer=CUSTOMER)


async def task(client: Client, reply: Reply, status: str) -> Json:
    """Follow a Task until it has this status."""
    found = await until(
        lambda: client.task(reply.task, customer=CUSTOMER), lambda task: bool(task.body["status"] == status), 10
    )
    return dict(found.body)


async def assert_outcomes(client: Client, reply: Reply, *words: str) -> Json:
    """The outcomes on record are these, the last alone final; gives the last."""
    records = await client.audit_of(reply.request_id, "outcome", count=len(words))
    assert [each["outcome"] for each in records] == list(words)
    assert [each["final"] for each in records] == [*[False] * (len(words) - 1), True]
    return records[-1]


@pytest.mark.parametrize("operation", [move, change, cancel])
async def test_what_is_cancelled_while_it_is_read_is_refused(operation: Any, client: Client) -> None:
    booking = await booked(client)
    await client.fault("delay", 600, target="aggregated", on="read", count=1)
    running = asyncio.create_task(operation(client, booking))
    await asyncio.sleep(0.2)
    await hospital_cancels(client, booking)
    reply = await running
    assert (reply.status, reply.code) == (409, "already-cancelled")
    assert await hospital.messages(client, booking.placer) == []


@pytest.mark.parametrize("fault", ["AE", "AA-held"])
async def test_a_change_after_which_somebody_cancelled_ends_as_a_conflict(fault: str, client: Client) -> None:
    booking = await booked(client)
    await client.fault("ack", fault, target="hl7", count=1, customer=CUSTOMER)
    reply = await move(client, booking)
    assert (reply.status, reply.code) == ((504, "outcome-unknown") if fault == "AE" else (202, ""))
    await hospital_cancels(client, booking)
    ended = await task(client, reply, "rejected")
    assert ended["statusReason"]["coding"][0]["code"] == "version-conflict"
    last = await assert_outcomes(client, reply, "unknown" if fault == "AE" else "accepted", "rejected")
    assert (last["code"], last["recovered"]) == ("version-conflict", True)
    assert (await client.copy(booking.id, CUSTOMER))["status"] == "cancelled"
    assert len(await hospital.messages(client, booking.placer)) == 1


async def test_a_second_write_waits_reads_again_and_is_judged_by_what_the_first_did(
    shared: Place, client: Client
) -> None:
    booking = await booked(client)
    await client.fault("delay", 800, target="hl7", count=1, customer=CUSTOMER)
    first = asyncio.create_task(cancel(client, booking))
    await until(lambda: hospital.messages(client, booking.placer), bool)
    second = await move(client, booking, partner="rival")
    assert (second.status, second.code) == (409, "already-cancelled")
    assert (await first).status == 200
    assert [each.trigger for each in await hospital.messages(client, booking.placer)] == ["S15"]


async def test_while_a_change_is_held_for_review_nobody_writes_and_its_task_is_its_partners(
    shared: Place, client: Client
) -> None:
    booking = await booked(client)
    await hold_next(client)
    held = await move(client, booking)
    assert held.status == 202
    for partner, knows in (("swiftbook", True), ("rival", False)):
        for operation in (cancel, move, change):
            reply = await operation(client, booking, partner=partner)
            assert (reply.status, reply.code) == (409, "appointment-busy")
            assert int(reply.headers["Retry-After"]) > 0
            assert reply.headers.get("Content-Location") == (held.headers["Content-Location"] if knows else None)
            assert "booking team" in reply.body["issue"][0]["diagnostics"]
    assert (await client.task(held.task, customer=CUSTOMER, partner="rival")).code == "not-found"
    assert (await client.read(booking.id, customer=CUSTOMER)).status == 200
    assert len(await hospital.messages(client, booking.placer)) == 1


async def held_number(client: Client, booking: Booked) -> int:
    [number] = [each["n"] for each in await client.review() if each["placer"] == booking.placer]
    return int(number)


async def test_what_is_approved_completes_and_the_appointment_is_free_again(client: Client) -> None:
    booking = await booked(client)
    await hold_next(client)
    reply = await move(client, booking)
    assert (await client.task(reply.task, customer=CUSTOMER)).body["status"] == "accepted"
    assert (await client.decide(await held_number(client, booking), "approve"))["applied"]
    await task(client, reply, "completed")
    last = await assert_outcomes(client, reply, "accepted", "applied")
    assert (last["upstream"]["collateral"], last["upstream"]["status"]) == ([], "AA")
    assert (await cancel(client, booking)).status == 200
    assert [each.trigger for each in await hospital.messages(client, booking.placer)] == ["S13", "S15"]


async def test_what_is_rejected_stays_accepted_until_nobody_looks_any_more(impatient: Place, client: Client) -> None:
    gateway, booking = client.at(impatient), await booked(client)
    await hold_next(client)
    reply = await move(gateway, booking)
    assert not (await client.decide(await held_number(client, booking), "reject"))["applied"]
    open_task = await gateway.task(reply.task, customer=CUSTOMER)
    assert (open_task.body["status"], "Retry-After" in open_task.headers) == ("accepted", True)
    assert (await cancel(gateway, booking)).code == "appointment-busy"
    closed = await task(gateway, reply, "failed")
    assert closed["businessStatus"]["coding"][0]["code"] == "unknown"
    await assert_outcomes(gateway, reply, "accepted", "unknown")
    assert await client.copy(booking.id, CUSTOMER) == booking.held
    assert (await cancel(gateway, booking)).status == 200


async def test_a_cancel_that_readers_see_late_is_busy_and_then_cancelled(client: Client) -> None:
    booking = await booked(client)
    await client.fault("lag", 1400, target="aggregated", count=1, customer=CUSTOMER)
    reply = await cancel(client, booking)
    assert reply.status == 202
    assert (await client.read(booking.id, customer=CUSTOMER)).body["status"] == "booked"
    again = await move(client, booking)
    assert (again.code, again.headers["Content-Location"]) == ("appointment-busy", reply.headers["Content-Location"])
    await task(client, reply, "completed")
    assert (await move(client, booking)).code == "already-cancelled"
    assert len(await hospital.messages(client, booking.placer)) == 1


async def under_another_id(client: Client, booking: Booked) -> Booked:
    """The same appointment of the hospital under a second id of PKB's."""
    other = f"{booking.id}-b"
    held = await client.put(other, {**booking.held, "id": other}, customer=CUSTOMER)
    return Booked(other, booking.placer, booking.number, booking.born, held)


async def test_one_placer_id_is_one_appointment_whatever_its_ids(shared: Place, client: Client) -> None:
    booking = await booked(client)
    other = await under_another_id(client, booking)
    await hold_next(client)
    held = await change(client, booking)
    busy = await cancel(client, other)
    assert (busy.code, busy.headers["Content-Location"]) == ("appointment-busy", held.headers["Content-Location"])
    assert "Content-Location" not in (await cancel(client, other, partner="rival")).headers
    assert len(await hospital.messages(client, booking.placer)) == 1


async def test_writes_to_one_placer_id_go_out_one_after_the_other(shared: Place, client: Client) -> None:
    booking = await booked(client)
    other = await under_another_id(client, booking)
    await client.fault("delay", 700, target="hl7", count=1, customer=CUSTOMER)
    first = asyncio.create_task(change(client, booking))
    await until(lambda: hospital.messages(client, booking.placer), bool)
    second = asyncio.create_task(change(client, other, comment("Other."), partner="rival"))
    await asyncio.sleep(0.3)
    assert len(await hospital.messages(client, booking.placer)) == 1
    assert (await first).status == 200
    await second
    assert [each.field("NTE", 3) for each in await hospital.messages(client, booking.placer)] == ["New.", "Other."]


async def test_a_management_url_is_never_taken_for_seen_because_somebody_wrote(client: Client) -> None:
    booking = await booked(client)
    await client.fault("ack", "AE", target="hl7", count=1, customer=CUSTOMER)
    reply = await change(client, booking, {"name": "managementUrl", "valueUrl": URL})
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    await client.put(booking.id, {**booking.held, "comment": "The hospital's own words."}, customer=CUSTOMER)
    await asyncio.sleep(1.8)
    assert (await client.task(reply.task, customer=CUSTOMER)).body["status"] == "in-progress"
    assert (await cancel(client, booking)).code == "appointment-busy"
