"""Token buckets: those of one process, and those that nodes share; the same cases for both."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.grant import Rate
from gateway.flow.ports import StateUnavailable
from gateway.flow.rates import RateLimits, Rates, SharedRates
from gateway.flow.request import Quota


@dataclass
class Shelf:
    """Shared buckets in memory. `fault` is raised in place of an answer; `stalls` answers when `released`."""

    clock: Callable[[], float]
    fault: Exception | None = None
    stalls: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    levels: dict[tuple[str, int, int], tuple[float, float]] = field(default_factory=dict)
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    async def take(self, key: str, requests: int, seconds: int) -> tuple[bool, float]:
        self.asked.append((key, requests, seconds))
        if self.stalls:
            await asyncio.shield(self.released.wait())
        if self.fault is not None:
            raise self.fault
        now = self.clock()
        level, at = self.levels.get((key, requests, seconds), (float(requests), now))
        level = min(requests, level + max(0.0, now - at) * requests / seconds)
        granted = level > 1 - 1e-9
        level = max(0.0, level - granted)
        self.levels[key, requests, seconds] = (level, now)
        return granted, level


class Bucket:
    """One bucket and its clock."""

    def __init__(self, rate: Rate, *, shared: bool = False) -> None:
        self.rate, self.now, self.key = rate, 1000.0, "partner:swiftbook"
        own = Rates(lambda: self.now)
        self.rates: RateLimits = SharedRates(Shelf(lambda: self.now), own) if shared else own

    async def take(self) -> tuple[bool, Quota]:
        return await self.rates.take(self.key, "partner", self.rate)

    async def taken(self, times: int) -> list[bool]:
        return [(await self.take())[0] for _ in range(times)]


RATES = st.builds(Rate, st.integers(1, 200), st.integers(1, 3600))
BOTH = pytest.mark.parametrize("shared", [False, True], ids=["of one process", "shared"])


@BOTH
@given(rate=RATES)
async def test_a_bucket_is_full_at_start_and_holds_no_more(rate: Rate, *, shared: bool) -> None:
    bucket = Bucket(rate, shared=shared)

    assert await bucket.taken(rate.requests + 1) == [True] * rate.requests + [False]


@BOTH
@given(rate=RATES)
async def test_one_that_waits_as_long_as_it_was_told_gets_in(rate: Rate, *, shared: bool) -> None:
    bucket = Bucket(rate, shared=shared)
    while (taken := await bucket.take())[0]:
        pass

    bucket.now += taken[1].reset

    assert await bucket.taken(1) == [True]


@BOTH
@given(rate=RATES, pauses=st.lists(st.floats(0, 100), max_size=60))
async def test_nobody_gets_more_than_the_capacity_and_what_is_refilled(
    rate: Rate, pauses: list[float], *, shared: bool
) -> None:
    bucket = Bucket(rate, shared=shared)
    granted = 0
    for pause in pauses:
        bucket.now += pause
        granted += (await bucket.take())[0]

    assert granted <= rate.requests + sum(pauses) * rate.requests / rate.seconds + 1e-6


@BOTH
async def test_a_bucket_is_refilled_evenly(*, shared: bool) -> None:
    bucket = Bucket(Rate(60, 60), shared=shared)
    assert (await bucket.taken(61))[-1] is False

    bucket.now += 0.5
    assert await bucket.taken(1) == [False]
    bucket.now += 0.5
    assert await bucket.taken(2) == [True, False]


@BOTH
async def test_a_bucket_left_alone_for_long_is_full_and_no_fuller(*, shared: bool) -> None:
    bucket = Bucket(Rate(2, 60), shared=shared)
    await bucket.take()

    bucket.now += 86_400

    assert await bucket.taken(3) == [True, True, False]


@BOTH
async def test_a_quota_tells_what_is_left_and_when_it_is_full_again(*, shared: bool) -> None:
    bucket = Bucket(Rate(3, 60), shared=shared)

    assert await bucket.take() == (True, Quota("partner", 3, 60, 2, 20))
    assert await bucket.take() == (True, Quota("partner", 3, 60, 1, 40))
    assert await bucket.take() == (True, Quota("partner", 3, 60, 0, 60))
    assert await bucket.take() == (False, Quota("partner", 3, 60, 0, 20))


@BOTH
async def test_a_changed_rate_starts_with_a_full_bucket(*, shared: bool) -> None:
    bucket = Bucket(Rate(1, 60), shared=shared)
    assert await bucket.taken(2) == [True, False]

    bucket.rate = Rate(2, 60)

    assert await bucket.taken(3) == [True, True, False]


@BOTH
async def test_buckets_of_two_partners_are_apart(*, shared: bool) -> None:
    bucket = Bucket(Rate(1, 60), shared=shared)
    await bucket.take()

    bucket.key = "partner:cardiolink"

    assert await bucket.taken(1) == [True]


@BOTH
async def test_a_clock_that_steps_back_takes_nothing_away(*, shared: bool) -> None:
    bucket = Bucket(Rate(2, 60), shared=shared)
    await bucket.take()

    bucket.now -= 500

    assert await bucket.take() == (True, Quota("partner", 2, 60, 0, 60))


async def test_a_process_keeps_so_many_buckets_and_forgets_the_one_unused_longest() -> None:
    rates, rate = Rates(lambda: 0.0, kept=2), Rate(1, 60)

    async def take(key: str) -> bool:
        return (await rates.take(key, "grant", rate))[0]

    assert [await take(key) for key in ("one", "two", "one", "three")] == [True, True, False, True]
    # "two" was used before "one" was last.
    assert [await take(key) for key in ("one", "two")] == [False, True]


class Nodes:
    """Two nodes on one shelf of buckets."""

    def __init__(self, patience: float = 5.0) -> None:
        self.now = 0.0
        self.shelf = Shelf(lambda: self.now)
        self.nodes = [SharedRates(self.shelf, Rates(lambda: self.now), patience) for _ in range(2)]

    async def take(self, node: int, rate: Rate) -> tuple[bool, Quota]:
        return await self.nodes[node].take("partner:swiftbook", "partner", rate)


async def test_two_nodes_take_from_one_bucket() -> None:
    nodes = Nodes()

    taken = [await nodes.take(n % 2, Rate(3, 60)) for n in range(4)]

    assert [granted for granted, _ in taken] == [True, True, True, False]
    assert [quota.remaining for _, quota in taken] == [2, 1, 0, 0]
    assert nodes.shelf.asked == [("partner:swiftbook", 3, 60)] * 4


@pytest.mark.parametrize("stalls", [False, True], ids=["says it cannot", "does not answer"])
async def test_a_node_counts_for_itself_while_the_store_fails(*, stalls: bool) -> None:
    nodes = Nodes(patience=0.01)
    nodes.shelf.stalls, nodes.shelf.fault = stalls, StateUnavailable()

    first = [await nodes.take(0, Rate(1, 60)) for _ in range(2)]
    second = [await nodes.take(1, Rate(1, 60)) for _ in range(2)]

    assert first == second == [(True, Quota("partner", 1, 60, 0, 60)), (False, Quota("partner", 1, 60, 0, 60))]
    # What comes too late is nobody's: a fault then is no fault of this program's.
    nodes.shelf.released.set()
    await asyncio.sleep(0)


async def test_a_question_that_is_called_off_at_the_end_of_the_process_is_no_fault() -> None:
    nodes = Nodes(patience=0.01)
    nodes.shelf.stalls = True
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    assert (await nodes.take(0, Rate(1, 60)))[0]

    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    await asyncio.sleep(0.01)

    assert faults == []


async def test_a_store_that_failed_is_left_alone_for_a_second_and_then_asked_again() -> None:
    nodes = Nodes()
    nodes.shelf.fault = StateUnavailable()
    await nodes.take(0, Rate(9, 60))
    nodes.shelf.fault = None

    nodes.now += 0.9
    await nodes.take(0, Rate(9, 60))
    assert len(nodes.shelf.asked) == 1

    nodes.now += 0.2
    granted, quota = await nodes.take(0, Rate(9, 60))
    assert (granted, quota.remaining) == (True, 8)
    assert len(nodes.shelf.asked) == 2


async def test_what_is_wrong_with_the_program_is_not_taken_for_a_store_that_fails() -> None:
    nodes = Nodes()
    nodes.shelf.fault = KeyError("a mistake")

    with pytest.raises(KeyError):
        await nodes.take(0, Rate(9, 60))
