"""What partners, operators and auditors see when the disk of the audit is full, read-only or gone."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from gateway.storage.verification import verify
from tests.journeys.disks import (
    MIB,
    SmallDisk,
    audit_checked,
    ends,
    full_for,
    gateway_as,
    readiness,
    small_disk,
)
from tests.journeys.partner import Client, Reply, until
from tests.journeys.processes import Place

RESERVE = 4 * MIB


@dataclass
class OnSmallDisk:
    place: Place
    disk: SmallDisk


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[OnSmallDisk]:
    with (
        small_disk(place.directory / "small") as disk,
        gateway_as(place, "small", ["-m", "gateway"], 'reserve = "4MiB"') as (further, _),
    ):
        yield OnSmallDisk(further, disk)


@pytest.fixture
async def small(running: OnSmallDisk, client: Client) -> AsyncIterator[OnSmallDisk]:
    """Room at the beginning, and at the end again."""
    gateway = client.at(running.place)
    await audit_checked(gateway, good=True)
    yield running
    running.disk.empty()
    await audit_checked(gateway, good=True)
    assert not verify([running.place.audit]).bad


def refused(reply: Reply) -> bool:
    return (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "audit-unavailable", "5")


async def metric(client: Client, name: str) -> str:
    async with client.session.get(f"{client.place.admin_url}/metrics") as response:
        return next(line for line in (await response.text()).splitlines() if line.startswith(f"{name} "))


async def test_at_the_reserve_nothing_new_is_done_and_what_is_under_way_gets_its_end(
    small: OnSmallDisk, client: Client
) -> None:
    gateway = client.at(small.place)
    running, waiting = await gateway.fresh(), await gateway.fresh()
    await gateway.fault("delay", 1500, on="write", count=1)
    cancelling = asyncio.create_task(gateway.cancel(running))
    await until(lambda: gateway.writes(running), bool)
    small.disk.fill(leave=RESERVE - MIB)
    await audit_checked(gateway, good=False)
    assert await metric(gateway, "pkb_gateway_audit_healthy") == "pkb_gateway_audit_healthy 0.0"
    assert refused(await gateway.read(waiting))
    assert refused(await gateway.cancel(waiting))
    assert await gateway.writes(waiting) == []
    done = await cancelling
    assert (done.status, done.body["status"]) == (200, "cancelled")
    (_, outcome) = await gateway.audit_of(done.request_id, count=2)
    assert (outcome["event"], outcome["outcome"], outcome["final"]) == ("outcome", "applied", True)
    assert (await readiness(gateway))[0] == 503

    small.disk.empty()
    await audit_checked(gateway, good=True, seconds=3)
    assert (await gateway.read(waiting)).status == 200
    assert (await gateway.cancel(waiting)).status == 200


async def test_an_open_write_is_ended_though_the_reserve_is_reached(small: OnSmallDisk, client: Client) -> None:
    gateway = client.at(small.place)
    id_ = await gateway.fresh()
    await gateway.fault("drop-before", count=1)
    doubtful = await gateway.cancel(id_)
    assert doubtful.code == "outcome-unknown"
    small.disk.fill(leave=RESERVE - MIB)
    await audit_checked(gateway, good=False)
    stored = await gateway.copy(id_)
    reasons = [{"system": "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason", "code": "pat"}]
    await gateway.put(id_, {**stored, "status": "cancelled", "cancelationReason": {"coding": reasons}})

    async def ended() -> list[str]:
        return [each["outcome"] for each in ends(small.place, doubtful.task)]

    assert await until(ended, bool, 30) == ["applied"]
    assert (await readiness(gateway))[0] == 503


async def test_on_a_full_disk_the_partner_gets_the_true_answer_and_the_record_follows(
    small: OnSmallDisk, client: Client
) -> None:
    gateway = client.at(small.place)
    several = [await gateway.fresh() for _ in range(8)]
    waiting = await gateway.fresh()
    await gateway.fault("delay", 2000, on="write")
    cancelling = [asyncio.create_task(gateway.cancel(id_)) for id_ in several]

    async def sent() -> int:
        return sum(each["path"].rsplit("/", 1)[1] in several for each in await gateway.writes())

    await until(sent, lambda count: count == len(several))
    small.disk.fill()
    replies = await asyncio.gather(*cancelling)
    await gateway.clear()
    assert [(reply.status, reply.body["status"]) for reply in replies] == [(200, "cancelled")] * len(several)
    assert (await readiness(gateway))[0] == 503
    assert refused(await gateway.cancel(waiting))
    assert await gateway.writes(waiting) == []
    # The last page of a file may have room for a record or two; the others are owed.
    owed = [each for each in small.place.records() if each["event"] == "intent" and not ends(small.place, each["task"])]
    assert len(owed) >= 4

    small.disk.empty()
    await audit_checked(gateway, good=True)
    for intent in owed:
        (end,) = ends(small.place, intent["task"])
        assert (end["outcome"], end["recovered"], end["intent"]) == ("applied", True, intent["seq"])
    for id_ in several:
        assert [each["applied"] for each in await gateway.writes(id_)] == [True]
    assert (await gateway.cancel(waiting)).status == 200


async def test_where_log_and_state_find_no_room_either_the_answers_are_the_same(
    small: OnSmallDisk, client: Client
) -> None:
    gateway, place = client.at(small.place), small.place
    id_, other = await gateway.fresh(), await gateway.fresh()
    await gateway.fault("delay", 1500, on="write", count=1)
    cancelling = asyncio.create_task(gateway.cancel(id_))
    await until(lambda: gateway.writes(id_), bool)
    with full_for(place.pid):
        assert refused(await gateway.read(other))
        reply = await gateway.cancel(other)
        assert (reply.status, reply.code) in {(503, "audit-unavailable"), (503, "state-unavailable")}
        done = await cancelling
        assert (done.status, done.body["status"]) == (200, "cancelled")
        async with gateway.session.get(f"{place.admin_url}/health/live") as response:
            assert response.status == 200
        assert (await readiness(gateway))[1]["checks"]["audit"] is False
    await audit_checked(gateway, good=True)

    async def ended() -> list[bool]:
        intent = next(each for each in place.records() if (each["appointment"], each["event"]) == (id_, "intent"))
        return [each["recovered"] for each in ends(place, intent["task"])]

    assert await until(ended, bool) == [True]
    assert (await gateway.cancel(other)).status == 200
    assert [each["applied"] for each in await gateway.writes(other)] == [True]


async def test_an_audit_folder_that_is_removed_is_begun_anew_and_the_lost_chain_is_missed(client: Client) -> None:
    id_ = await client.fresh()
    assert (await client.read(id_)).status == 200
    lost = client.place.records()[-1]
    shutil.rmtree(client.place.audit)
    assert (await client.cancel(id_)).status == 200
    assert (await readiness(client))[0] == 200
    start = client.place.records()[0]
    assert (start["event"], start["chains"][0]["chain"]) == ("start", lost["chain"])
    assert [each["event"] for each in client.place.records() if each["appointment"] == id_] == ["intent", "outcome"]
    assert [(each.chain, each.what) for each in verify([client.place.audit]).bad] == [(lost["chain"], "missing chain")]


def test_a_gateway_whose_audit_folder_is_read_only_does_not_start(place: Place) -> None:
    with small_disk(place.directory / "fixed") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
        config = place.directory / "fixed.toml"
        text = (place.directory / "gateway.toml").read_text(encoding="utf-8")
        config.write_text(text.replace('directory = "audit"', 'directory = "fixed"'), encoding="utf-8")
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "cannot start: the audit stream cannot be written: Read-only file system" in ended.stderr
