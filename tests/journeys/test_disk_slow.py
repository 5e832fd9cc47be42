"""What partners, operators and auditors see when the disk of the audit is slow, does not answer, or breaks."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.storage.verification import verify
from tests.journeys.disks import Switch, audit_checked, ends, gateway_with_a_switch, readiness
from tests.journeys.partner import Client, Reply, until
from tests.journeys.processes import Place

WAIT = 8.0
"""Seconds that a caller waits for the disk."""
DEADLINE = 10.0

Switched = tuple[Place, Switch]


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Switched]:
    with gateway_with_a_switch(place, "switched") as switched:
        yield switched


@pytest.fixture
async def switched(running: Switched, client: Client) -> AsyncIterator[Switched]:
    yield running
    place, switch = running
    switch.set()
    await audit_checked(client.at(place), good=True)
    assert not verify([place.audit]).bad


def refused(reply: Reply) -> bool:
    return (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "audit-unavailable", "5")


async def unrecorded(client: Client) -> float:
    """Ask what leaves no record; the seconds that it took."""
    begun = time.monotonic()
    assert (await client.ask("GET", "/airedale/fhir/metadata", token="")).status == 200
    assert (await readiness(client))[0] in {200, 503}
    return time.monotonic() - begun


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO], ids=["read-only", "broken"])
async def test_a_disk_that_turns_read_only_or_breaks_is_noticed_and_waited_for(
    number: int, switched: Switched, client: Client
) -> None:
    place, switch = switched
    gateway = client.at(place)
    id_, other = await gateway.fresh(), await gateway.fresh()
    await gateway.fault("delay", 1000, on="write", count=1)
    cancelling = asyncio.create_task(gateway.cancel(id_))
    await until(lambda: gateway.writes(id_), bool)
    switch.set(f"errno {number}")
    assert refused(await gateway.read(other))
    done = await cancelling
    assert (done.status, done.body["status"]) == (200, "cancelled")
    await audit_checked(gateway, good=False)
    switch.set()
    await audit_checked(gateway, good=True)
    (intent,) = [each for each in place.records() if (each["event"], each["appointment"]) == ("intent", id_)]
    assert [(each["outcome"], each["recovered"]) for each in ends(place, intent["task"])] == [("applied", True)]
    assert (await gateway.cancel(other)).status == 200


async def test_a_slow_disk_makes_requests_wait_together_and_stops_nothing_else(
    switched: Switched, client: Client
) -> None:
    place, switch = switched
    gateway = client.at(place)
    ids = [await gateway.fresh() for _ in range(4)]
    switch.set("slow 1.0")
    reading = [asyncio.create_task(gateway.read(id_)) for id_ in ids * 8]
    cancelling = asyncio.create_task(gateway.cancel(ids[0]))
    slowest = 0.0
    while not all(each.done() for each in reading):
        slowest = max(slowest, await unrecorded(gateway))
        await asyncio.sleep(0.05)
    replies = [await each for each in reading]
    assert {reply.status for reply in replies} == {200}
    # The one sync that is under way, and one for all who came meanwhile; a checkpoint or a start may come between.
    assert 0.9 < max(reply.seconds for reply in replies) < 4.5
    assert slowest < 0.9
    done = await cancelling
    assert (done.status, done.body["status"]) == (200, "cancelled")
    assert (await readiness(gateway))[0] == 200


async def test_a_disk_that_does_not_answer_is_told_within_the_deadline_and_nothing_is_sent(
    switched: Switched, client: Client
) -> None:
    place, switch = switched
    gateway = client.at(place)
    held, queued, third = [await gateway.fresh() for _ in range(3)]
    switch.set("hang")
    begun = time.monotonic()
    late = asyncio.create_task(gateway.cancel(held))
    await asyncio.sleep(1)
    replies = await asyncio.gather(gateway.read(queued), gateway.cancel(queued))
    # Their records were not in the hands of the disk yet: they are in no chain, and never will be.
    assert all(refused(reply) for reply in replies)
    assert all(WAIT - 0.5 < reply.seconds < DEADLINE for reply in replies)
    assert (await readiness(gateway))[0] == 503
    assert await unrecorded(gateway) < 0.5
    for reply in (await gateway.read(queued), await gateway.cancel(third)):
        assert refused(reply)
        assert reply.seconds < 2.0

    # The intent that the disk has in hand is waited for: whether it is on record must be known.
    await asyncio.sleep(max(0.0, begun + DEADLINE + 0.5 - time.monotonic()))
    assert not late.done()
    switch.set()
    reply = await late
    assert reply.status in {503, 504}
    intent, outcome = await gateway.audit_of(reply.request_id, count=2)
    assert (intent["event"], outcome["event"]) == ("intent", "outcome")
    assert (outcome["outcome"], outcome["final"]) == ("rejected", True)
    await audit_checked(gateway, good=True)
    assert [each for id_ in (held, queued, third) for each in await gateway.writes(id_)] == []
    assert [each["event"] for each in place.records() if each["appointment"] in {queued, third}] == []
    assert [(await gateway.cancel(id_)).status for id_ in (held, queued, third)] == [200] * 3
