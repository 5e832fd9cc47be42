"""The time of day jumps, hours ahead or back, under a running gateway: what it must not upset, and what it may."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.cli.token import make_assertion
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS
from tests.journeys.network_place import World, bent_gateway
from tests.journeys.partner import Client, Reply, until
from tests.journeys.processes import Place

HOUR = 3600.0
JUMPS = {"three hours ahead": 3 * HOUR, "three hours back": -3 * HOUR, "a day back": -26 * HOUR}
LIMITS = '[limits]\ndeadline = "1500ms"\nnot_found_step = "0s"\nwrite_settles_after = "20s"'


@dataclass
class Clock:
    """The gateway's time of day, wrong by so many seconds, and a partner that goes by the same time."""

    client: Client
    world: World
    wrong: float = 0.0

    def jump(self, seconds: float) -> None:
        self.wrong = seconds
        self.world.say("clock", str(seconds))

    def token(self) -> str:
        """A token issued now, by the gateway's own clock."""
        return self.client.place.token("swiftbook", age=-self.wrong)

    async def read(self, id_: str, token: str = "") -> Reply:
        return await self.client.read(id_, token=token or self.token())

    async def cancel(self, id_: str, **how: Any) -> Reply:
        return await self.client.cancel(id_, token=self.token(), **how)

    async def issue(self, jti: str) -> int:
        """Ask for a token with an assertion made now, by the gateway's clock; the status of the answer."""
        return await self.offer(self.assertion(jti))

    def assertion(self, jti: str) -> str:
        entry = self.client.place.told["partners"]["swiftbook"]
        key = Path(entry["private_key_file"]).read_text(encoding="ascii")
        url = f"{self.client.place.gateway_url}/oauth2/token"
        now = time.time() + self.wrong
        return make_assertion(entry["client_id"], key, entry["kid"], entry["alg"], url, now=now, jti=jti)

    async def offer(self, assertion: str) -> int:
        fields = {"grant_type": CLIENT_CREDENTIALS, "client_assertion_type": ASSERTION_TYPE}
        data = urlencode({**fields, "client_assertion": assertion}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self.client.place.gateway_url}/oauth2/token"
        async with self.client.session.post(url, data=data, headers=headers) as response:
            return response.status


@pytest.fixture(scope="module")
def bent(place: Place) -> Iterator[tuple[Place, World]]:
    with bent_gateway(place, "jumping", LIMITS) as (running, world, _):
        yield running, world


@pytest.fixture
async def clock(bent: tuple[Place, World], client: Client) -> AsyncIterator[Clock]:
    running, world = bent
    wrong = Clock(client.at(running), world)
    yield wrong
    await client.clear()
    wrong.jump(0.0)


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_partners_whose_clocks_agree_with_the_gateways_read_and_write_as_before(
    jump: float, clock: Clock
) -> None:
    id_ = await clock.client.fresh()
    assert (await clock.read(id_)).status == 200
    clock.jump(jump)
    assert (await clock.read(id_)).status == 200
    reply = await clock.cancel(id_)
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    intent, outcome = await clock.client.audit_of(reply.request_id, count=2)
    assert (outcome["outcome"], outcome["final"], outcome["intent"]) == ("applied", True, intent["seq"])
    assert await clock.issue(str(uuid.uuid4())) == 200


@pytest.mark.parametrize(
    ("jump", "code"), [(3 * HOUR, "token-expired"), (-3 * HOUR, "token-invalid")], ids=["ahead", "back"]
)
async def test_a_token_from_before_is_refused_until_the_clock_is_right_again(
    jump: float, code: str, clock: Clock
) -> None:
    id_, before = await clock.client.fresh(), clock.token()
    clock.jump(jump)
    reply = await clock.read(id_, before)
    assert (reply.status, reply.code) == (401, code)
    clock.jump(0.0)
    assert (await clock.read(id_, before)).status == 200


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR], ids=["ahead", "back"])
async def test_a_deadline_is_neither_early_nor_late_when_the_clock_jumps_under_it(jump: float, clock: Clock) -> None:
    id_ = await clock.client.fresh()
    await clock.read(id_)
    await clock.client.fault("delay", 300, on="read", count=1)
    asked = asyncio.create_task(clock.read(id_))
    await asyncio.sleep(0.1)
    clock.jump(jump)
    assert (await asked).status == 200

    await clock.client.fault("delay", 4_000, on="read", count=1)
    asked = asyncio.create_task(clock.read(id_))
    await asyncio.sleep(0.2)
    clock.jump(0.0)
    late = await asked
    assert (late.status, late.code) == (504, "upstream-timeout")
    assert 1.4 < late.seconds < 2.9


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR], ids=["ahead", "back"])
async def test_the_breaker_lets_a_trial_through_two_seconds_later_all_the_same(jump: float, clock: Clock) -> None:
    id_ = await clock.client.fresh()
    await clock.read(id_)
    await clock.client.fault("status", 503, on="read")
    await asyncio.gather(*(clock.read(id_) for _ in range(22)))
    await clock.client.clear()
    assert (await clock.read(id_)).code == "upstream-unavailable"
    opened = time.monotonic()
    clock.jump(jump)
    await until(lambda: clock.read(id_), lambda reply: reply.status == 200)
    assert time.monotonic() - opened < 3.5


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR], ids=["ahead", "back"])
async def test_a_rate_neither_fills_nor_empties_when_the_clock_jumps(jump: float, clock: Clock) -> None:
    id_ = await clock.client.fresh()

    async def left() -> int:
        reply = await clock.read(id_)
        assert reply.status == 200
        return int(reply.headers["RateLimit"].split("r=")[1].split(";")[0])

    await asyncio.gather(*(left() for _ in range(30)))
    before = await left()
    clock.jump(jump)
    # A thousand requests a second are refilled.
    assert abs(await left() - before) < 60_000 / 2


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_an_assertion_that_was_used_is_not_good_again_after_a_jump_and_back(jump: float, clock: Clock) -> None:
    used = clock.assertion(str(uuid.uuid4()))
    assert await clock.offer(used) == 200
    # A day: the memory for used assertions is kept that much longer than their lifetime.
    for wrong in (max(min(jump, 23 * HOUR), -23 * HOUR), 0.0):
        clock.jump(wrong)
        assert await clock.issue(str(uuid.uuid4())) == 200
        assert await clock.offer(used) == 401


async def test_a_chain_whose_times_go_back_and_forth_over_midnight_verifies(
    bent: tuple[Place, World], clock: Clock
) -> None:
    running, _ = bent
    id_ = await clock.client.fresh()
    files = set(running.audit.iterdir())
    for jump in (26 * HOUR, -26 * HOUR, 0.0):
        clock.jump(jump)
        assert (await clock.read(id_)).status == 200
    times = [each["time"] for each in running.records()]
    assert times != sorted(times)
    # One segment for each change of the day, and no more.
    assert len(set(running.audit.iterdir()) - files) == 3
    command = [sys.executable, "-m", "gateway", "audit", "verify", str(running.audit)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR], ids=["ahead", "back"])
async def test_a_write_in_doubt_that_was_done_is_found_whatever_the_clock_says(jump: float, clock: Clock) -> None:
    id_ = await clock.client.fresh()
    await clock.client.fault("delay", 0, on="read", count=2)
    await clock.client.fault("status", 503, on="read")
    await clock.client.fault("drop-after", on="write")
    reply = await clock.cancel(id_)
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    clock.jump(jump)
    await clock.client.clear()
    assert await ends(clock, reply) == ["applied"]
    assert [each["applied"] for each in await clock.client.writes(id_)] == [True]


async def test_a_write_in_doubt_is_not_called_off_because_the_clock_jumped_ahead(clock: Clock) -> None:
    id_ = await clock.client.fresh()
    await clock.client.fault("drop-before", on="write", count=1)
    reply = await clock.cancel(id_)
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    clock.jump(3 * HOUR)
    # Two looks pass; PKB may still be about to do it.
    await asyncio.sleep(2.5)
    assert [each["final"] for each in await clock.client.audit_of(reply.request_id, "outcome")] == [False]


async def ends(clock: Clock, reply: Reply) -> list[str]:
    """Wait for the final outcomes of a write."""

    async def final() -> list[str]:
        return [each["outcome"] for each in await clock.client.audit_of(reply.request_id, "outcome") if each["final"]]

    return await until(final, bool)
