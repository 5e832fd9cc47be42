"""Several processes serve on the same ports, and one that dies costs no more than what it had under way."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.admin.metrics import MOMENT
from tests.journeys.partner import Client, replace_file, until
from tests.journeys.processes import Json, Place, Sandbox
from tests.journeys.workers import (
    Crew,
    Load,
    crew_settings,
    fresh_connections,
    is_alive,
    samples,
    serve_command,
    started_crew,
)

SETTLED = 5 * MOMENT
"""Seconds after which every worker has told the others what it counted, on a busy machine too."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


@pytest.fixture(scope="module")
def crew(sandbox: Sandbox, stray: int) -> Iterator[Crew]:
    with started_crew(sandbox.place, "crew", pass_fds=(stray,)) as running:
        yield running
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        assert list(running.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def stray() -> Iterator[int]:
    """A descriptor that whoever started the gateway left open for it by mistake."""
    reading, writing = os.pipe()
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.fixture(scope="module")
def strange(stray: int) -> str:
    """The same, as the system names it."""
    return str(Path(f"/proc/self/fd/{stray}").readlink())


@pytest.fixture
async def asking(crew: Crew) -> AsyncIterator[Client]:
    async with fresh_connections(crew.place) as client:
        yield client


async def whole(crew: Crew, asking: Client) -> None:
    """Wait until both workers serve."""
    await until(lambda: samples(asking), lambda seen: seen.get("pkb_gateway_workers") == 2, 15)


async def test_workers_share_the_ports_and_serving_is_said_once(crew: Crew, asking: Client) -> None:
    id_ = await asking.fresh()

    async def seen_by() -> set[int]:
        assert (await asking.read(id_)).status == 200
        return {each["worker"] for each in crew.said("request")}

    assert await until(seen_by, lambda workers: len(workers) == 2) == {1, 2}
    assert len(crew.workers()) == 2
    assert len(crew.said("serving")) == 1
    assert sorted(crew.chains()) == [1, 2]


async def test_each_worker_has_a_chain_of_its_own_and_all_verify(crew: Crew, asking: Client) -> None:
    id_ = await asking.fresh()
    own = {lives[-1] for lives in crew.chains().values()}

    async def chains() -> set[str]:
        await asking.read(id_)
        return {each["chain"] for each in crew.place.records() if each["appointment"] == id_}

    assert await until(chains, lambda seen: len(seen) == 2) == own
    command = [sys.executable, "-m", "gateway", "audit", "verify", str(crew.place.audit)]
    checked = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert {chain for chain in own if f"chain {chain}: good" in checked.stdout} == own


async def test_whoever_is_asked_tells_the_metrics_of_all(crew: Crew, asking: Client) -> None:
    id_ = await asking.fresh()
    name = "pkb_gateway_requests_total"
    await asyncio.sleep(SETTLED)
    before = (await samples(asking)).get(name, 0.0)
    for _ in range(10):
        await asking.read(id_)
    await asyncio.sleep(SETTLED)
    told = [await samples(asking) for _ in range(10)]
    assert {each[name] - before for each in told} == {10.0}
    assert {each["pkb_gateway_request_seconds_count"] for each in told} == {before + 10.0}
    assert {each["pkb_gateway_workers"] for each in told} == {2.0}
    assert {each["pkb_gateway_audit_healthy"] for each in told} == {1.0}


def descriptors(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        target = str(each.readlink())
        if target.startswith(("socket:", "pipe:")):
            found.add(target)
    return found


def listening() -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}


async def test_workers_inherit_the_two_ports_and_nothing_else(crew: Crew, asking: Client, strange: str) -> None:
    await whole(crew, asking)
    first, second = crew.workers()
    ports = descriptors(crew.process.pid) & listening()
    assert len(ports) == 2
    assert descriptors(first) & descriptors(second) == ports
    assert strange in descriptors(crew.process.pid)
    for worker in (first, second):
        assert descriptors(worker) & descriptors(crew.process.pid) == ports


async def test_a_hangup_signal_has_every_worker_read_the_grants(crew: Crew, asking: Client) -> None:
    await whole(crew, asking)
    grants = crew.place.grants.read_text(encoding="utf-8")

    async def refusals() -> list[int]:
        return sorted(each["worker"] for each in crew.said("grants refused"))

    replace_file(crew.place.grants, grants + "\n[[grants")
    try:
        await until(refusals, lambda seen: set(seen) == {1, 2})
        assert (await samples(asking))["pkb_gateway_grants_degraded"] == 1.0
        crew.process.send_signal(signal.SIGHUP)
        await until(refusals, lambda seen: seen == [1, 1, 2, 2], 5)
    finally:
        replace_file(crew.place.grants, grants)
    await until(lambda: samples(asking), lambda seen: seen["pkb_gateway_grants_degraded"] == 0.0)


async def test_a_killed_worker_costs_what_it_had_under_way_and_is_replaced(crew: Crew, asking: Client) -> None:
    await whole(crew, asking)
    await asyncio.sleep(SETTLED)
    before = await samples(asking)
    workers = crew.workers()
    async with Load(asking, await asking.fresh()).steady() as load:
        await asyncio.sleep(1.0)
        os.kill(workers[1], signal.SIGKILL)
        killed = time.monotonic()

        async def crewed() -> list[int]:
            return crew.workers()

        await until(crewed, lambda now: len(now) == 2 and now != workers, 2)
        await whole(crew, asking)
        await asyncio.sleep(0.2)

    assert load.statuses() == {200}
    assert len(load.errors()) <= load.width
    assert all(killed <= at < killed + 1 for at, _ in load.errors())
    assert len([at for at, _ in load.ended if at > killed + 0.1]) > load.width
    await asyncio.sleep(SETTLED)
    after = await samples(asking)
    counted = after["pkb_gateway_requests_total"] - before.get("pkb_gateway_requests_total", 0.0)
    # What the killed one had counted in its last moment went with it, and nothing else.
    last_moment = [at for at, _ in load.ended if killed - SETTLED < at < killed + SETTLED]
    assert len(load.ended) - len(load.errors()) - len(last_moment) <= counted <= len(load.ended)
    replaced = "pkb_gateway_workers_replaced_total"
    assert after[replaced] == before[replaced] + 1
    assert [each["status"] for each in crew.said("worker ended")][-1] == -signal.SIGKILL
    assert sorted(map(len, crew.chains().values())) == [1, 2]


async def test_a_write_of_a_killed_worker_is_finished_by_another(crew: Crew, asking: Client) -> None:
    await whole(crew, asking)
    id_ = await asking.fresh()
    await asking.fault("delay", 1000, on="write", count=1)
    writing = asyncio.create_task(asking.cancel(id_))
    await until(lambda: asking.writes(id_), bool)
    (intent,) = [each for each in crew.place.records() if each["appointment"] == id_]
    os.kill(crew.pid_of(intent["chain"]), signal.SIGKILL)
    with pytest.raises((aiohttp.ClientError, OSError)):
        await writing

    async def final() -> list[Json]:
        outcomes = [each for each in crew.place.records() if each["event"] == "outcome" and each["appointment"] == id_]
        return [each for each in outcomes if each["final"]]

    (outcome,) = await until(final, bool, 20)
    assert outcome["chain"] != intent["chain"]
    assert (outcome["task"], outcome["outcome"], outcome["recovered"]) == (intent["task"], "applied", True)
    assert (await asking.cancel(id_)).code == "already-cancelled"
    assert len(await asking.writes(id_)) == 1


async def test_told_to_stop_under_load_it_fails_no_request(place: Place) -> None:
    with started_crew(place, "ending") as crew:
        async with fresh_connections(crew.place) as asking:
            slow = [await asking.fresh() for _ in range(4)]
            async with Load(asking, await asking.fresh()).steady() as load:

                async def going() -> int:
                    return len(load.ended)

                await until(going, lambda count: count > 20)
                await asking.fault("delay", 1000, on="write", count=len(slow))
                writing = [asyncio.create_task(asking.cancel(each)) for each in slow]
                await until(asking.writes, lambda seen: {each["path"].rsplit("/", 1)[1] for each in seen} >= set(slow))
                told = time.monotonic()
                crew.process.send_signal(signal.SIGTERM)
                replies = await asyncio.gather(*writing)
                assert await asyncio.to_thread(crew.process.wait, 30) == 0
                ended = time.monotonic()

    assert [(each.status, each.body["status"]) for each in replies] == [(200, "cancelled")] * len(slow)
    assert load.statuses() == {200, 503}
    assert {outcome for at, outcome in load.ended if at < told} == {200}
    # The system resets a connection that nobody has accepted when the port closes; what was accepted was answered.
    answered = [outcome for _, outcome in load.ended if isinstance(outcome, int)]
    assert len(crew.said("request")) == len(answered) + len(slow)
    assert all(at > told for at, _ in load.errors())
    assert ended - told < 10
    stops = [each["chain"] for each in crew.place.records() if each["event"] == "stop"]
    assert sorted(stops) == sorted(chain for lives in crew.chains().values() for chain in lives)
    assert list(crew.temporary.iterdir()) == []


async def test_no_worker_outlives_a_supervisor_that_is_killed(place: Place) -> None:
    with started_crew(place, "orphaned", workers=3) as crew:
        workers = crew.workers()
        assert len(workers) == 3
        async with fresh_connections(crew.place) as asking:
            id_ = await asking.fresh()
            await asking.fault("delay", 700, on="write", count=1)
            writing = asyncio.create_task(asking.cancel(id_))
            await until(lambda: asking.writes(id_), bool)
            crew.process.kill()
            assert (await writing).status == 200

        async def left() -> list[int]:
            return [each for each in workers if is_alive(each)]

        assert await until(left, lambda alive: not alive, 10) == []
        assert list(crew.temporary.iterdir()) == []
        events = [each["event"] for each in crew.place.records()]
        assert events.count("start") == events.count("stop") == 3


def test_what_keeps_a_worker_from_starting_is_said_once(place: Place) -> None:
    config = crew_settings(place, "spoilt", 3, audit="keys/tokens.pem")
    ran = subprocess.run(serve_command(config), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert re.findall("cannot start: .*", ran.stderr) == [
        "cannot start: the audit stream cannot be written: File exists"
    ]
