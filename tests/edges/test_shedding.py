"""The turnstile in front of every request: one a round, a few waiting, the newest first once the queue stands."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.partner.shedding import CALM, GRACE, PATIENCE, PLACES, Rounds, Turnstile


@dataclass
class Bench:
    """A turnstile whose rounds and seconds pass when a test says so."""

    few: int = 0
    many: int = 0
    """Let in without a round while nobody is turned away; never fewer than `few`."""
    now: float = 100.0
    due: list[Callable[[], None]] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)
    away: list[int] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turnstile = Turnstile(lambda: self.now, self.due.append, self.few, self.many)

    async def come(self, *names: int) -> None:
        for name in names:
            self.tasks.append(asyncio.create_task(self._enter(name)))
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _enter(self, name: int) -> None:
        (self.inside if await self.turnstile.enter() else self.away).append(name)

    async def round(self, count: int = 1) -> None:
        for _ in range(count):
            due, self.due[:] = [*self.due], []
            for call in due:
                call()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


async def crowded() -> Bench:
    """A turnstile at which more than may have been waiting for too long, the last ones not for long."""
    bench = Bench()
    await bench.come(0, -1)
    bench.now += GRACE + 0.01
    await bench.come(*range(1, PLACES + 1))
    assert (bench.away, bench.turnstile.overloaded) == ([-1], True)
    return bench


async def test_a_request_to_an_idle_gateway_is_let_in_at_once() -> None:
    bench = Bench()
    await bench.come(1)
    assert (bench.inside, len(bench.turnstile)) == ([1], 0)


async def test_one_request_is_let_in_each_round_in_the_order_in_which_they_came() -> None:
    bench = Bench()
    await bench.come(1, 2, 3)
    assert bench.inside == [1]
    await bench.round()
    assert bench.inside == [1, 2]
    await bench.round()
    assert bench.inside == [1, 2, 3]


async def test_after_a_round_without_anybody_waiting_the_next_is_let_in_at_once() -> None:
    bench = Bench()
    await bench.come(1)
    await bench.round()
    assert bench.due == []
    await bench.come(2)
    assert bench.inside == [1, 2]


async def test_a_burst_is_let_in_whole_however_large_it_is() -> None:
    bench = Bench()
    await bench.come(*range(400))
    for _ in range(400):
        await bench.round()
        bench.now += 0.01
    assert (sorted(bench.inside), bench.away) == ([*range(400)], [])


async def test_who_waited_longest_gives_way_to_a_newcomer_once_the_queue_stands() -> None:
    bench = await crowded()
    await bench.come(100)
    assert (bench.away, len(bench.turnstile)) == ([-1, 1], PLACES)


async def test_who_waited_too_long_gives_way_in_an_overload_although_there_are_places() -> None:
    bench = await crowded()
    await bench.round(PLACES - 2)
    bench.now += PATIENCE + 0.01
    await bench.come(100)
    assert (bench.away, len(bench.turnstile)) == ([-1, 1, 2], 1)


async def test_nobody_gives_way_before_the_queue_stood_for_long_enough() -> None:
    bench = Bench()
    await bench.come(*range(PLACES + 2))
    bench.now += GRACE
    await bench.come(100)
    assert (bench.away, bench.turnstile.overloaded) == ([], False)


async def test_callers_who_wait_for_their_answers_are_never_turned_away_and_come_in_their_order() -> None:
    """As many as there are places, each asking again as soon as it was answered, on however slow a machine."""
    bench = Bench()
    await bench.come(*range(PLACES + 1))
    for number in range(10 * PLACES):
        bench.now += 0.1
        await bench.round()
        await bench.come(PLACES + 1 + number)
    assert (bench.inside, bench.away) == ([*range(10 * PLACES + 1)], [])


async def test_the_newest_is_let_in_first_once_the_queue_stands() -> None:
    bench = await crowded()
    await bench.come(100)
    await bench.round()
    assert bench.inside == [0, 100]


async def test_an_empty_queue_ends_the_overload() -> None:
    bench = await crowded()
    bench.now += CALM
    await bench.round(PLACES)
    assert (len(bench.turnstile), bench.turnstile.overloaded, bench.away) == (0, False, [-1])
    await bench.come(*range(200, 200 + PLACES + 2))
    assert bench.away == [-1]


async def test_after_a_refusal_the_overload_lasts_for_a_while_although_the_queue_was_empty() -> None:
    bench = await crowded()
    await bench.come(100)
    await bench.round(PLACES + 1)
    assert (bench.away, len(bench.turnstile), bench.turnstile.overloaded) == ([-1, 1], 0, True)
    bench.now += CALM - 0.02
    await bench.come(*range(200, 200 + PLACES + 2))
    assert bench.away == [-1, 1, 201]
    await bench.round(PLACES + 2)
    bench.now += CALM
    await bench.come(*range(300, 300 + PLACES + 2))
    assert (bench.away, bench.turnstile.overloaded) == ([-1, 1, 201], False)


async def test_the_queue_that_was_empty_for_a_moment_counts_as_new() -> None:
    bench = Bench()
    await bench.come(0, 1)
    bench.now += GRACE / 2
    await bench.round()
    await bench.come(2)
    bench.now += GRACE
    assert not bench.turnstile.overloaded


@pytest.mark.parametrize("gone", [pytest.param(1, id="let in"), pytest.param(0, id="turned away")])
async def test_one_whose_request_was_cancelled_holds_nobody_up(gone: int) -> None:
    bench = await crowded()
    await bench.come(100)
    bench.tasks[-1 if gone else 2].cancel()
    await asyncio.sleep(0)
    await bench.come(101)
    await bench.round(PLACES + 1)
    assert len(bench.turnstile) == 0
    await bench.round(2)
    await bench.come(102)
    assert bench.inside[-1] == 102


async def test_under_lasting_overload_the_queue_stays_short_and_work_goes_on_every_round() -> None:
    bench = await crowded()
    for number in range(300):
        await bench.come(1000 + 3 * number, 1001 + 3 * number, 1002 + 3 * number)
        await bench.round()
        bench.now += 0.005
        assert len(bench.turnstile) <= PLACES
    assert len(bench.inside) == 301
    assert len(bench.away) == 300 * 3 + PLACES + 1 - 300 - len(bench.turnstile)


async def test_a_few_are_let_in_at_once_and_start_no_round() -> None:
    bench = Bench(few=3)
    await bench.come(1, 2, 3)
    assert (bench.inside, bench.due) == ([1, 2, 3], [])


async def test_beyond_a_few_one_is_let_in_each_round() -> None:
    bench = Bench(few=2)
    await bench.come(1, 2, 3, 4, 5)
    assert bench.inside == [1, 2, 3]
    await bench.round()
    assert bench.inside == [1, 2, 3, 4]
    await bench.round()
    assert bench.inside == [1, 2, 3, 4, 5]


async def test_who_leaves_a_few_behind_makes_room_without_a_round() -> None:
    bench = Bench(few=2)
    await bench.come(1, 2, 3, 4, 5)
    bench.turnstile.leave()
    await bench.come()
    assert bench.inside == [1, 2, 3]
    bench.turnstile.leave()
    await bench.come()
    assert bench.inside == [1, 2, 3, 4]


async def test_nobody_overtakes_those_who_wait() -> None:
    bench = Bench(few=1)
    await bench.come(1, 2, 3, 4)
    bench.turnstile.leave()
    bench.turnstile.leave()
    await bench.come(5)
    await bench.round(2)
    assert bench.inside == [1, 2, 3, 4, 5]


async def test_a_few_come_in_without_a_round_again_once_all_have_left() -> None:
    bench = Bench(few=1)
    await bench.come(1, 2, 3)
    await bench.round(2)
    for _ in range(3):
        bench.turnstile.leave()
    await bench.come(4)
    assert (bench.inside, bench.due) == ([1, 2, 3, 4], [])


async def test_many_are_let_in_at_once_while_there_is_no_overload_and_start_no_round() -> None:
    bench = Bench(few=1, many=4)
    await bench.come(1, 2, 3, 4)
    assert (bench.inside, bench.due) == ([1, 2, 3, 4], [])
    await bench.come(5, 6)
    assert (bench.inside, len(bench.due)) == ([1, 2, 3, 4, 5], 1)
    bench.turnstile.leave()
    bench.turnstile.leave()
    await bench.come()
    assert bench.inside == [1, 2, 3, 4, 5, 6]


async def test_callers_who_wait_for_their_answers_start_no_round_however_many_answers_they_get() -> None:
    bench = Bench(few=1, many=8)
    await bench.come(*range(8))
    for number in range(100):
        bench.turnstile.leave()
        await bench.come(8 + number)
    assert (bench.inside, bench.due) == ([*range(108)], [])


async def test_in_an_overload_only_a_few_are_let_in_without_a_round() -> None:
    bench = Bench(few=1, many=3)
    await bench.come(*range(5 + PLACES))
    bench.now += GRACE + 0.01
    assert (bench.inside, bench.turnstile.overloaded) == ([0, 1, 2, 3], True)
    for _ in range(3):
        bench.turnstile.leave()
    await bench.come()
    assert bench.inside == [0, 1, 2, 3], "one is still inside, and that is a few"
    bench.turnstile.leave()
    await bench.come()
    assert len(bench.inside) == 5


async def test_once_the_overload_is_over_many_are_let_in_without_a_round_again() -> None:
    bench = Bench(few=1, many=3)
    await bench.come(*range(5 + PLACES))
    bench.now += GRACE + 0.01
    await bench.come(100)
    await bench.round(2 * PLACES)
    let_in = len(bench.inside)
    for _ in range(let_in):
        bench.turnstile.leave()
    assert bench.away, "who had waited for too long"
    assert (bench.due, bench.turnstile.overloaded) == ([], True)
    bench.now += CALM
    await bench.come(200, 201, 202)
    assert (bench.inside[let_in:], bench.due) == ([200, 201, 202], [])


async def test_a_round_comes_back_to_the_loop_by_way_of_another_thread() -> None:
    back = asyncio.Event()
    Rounds()(back.set)
    async with asyncio.timeout(5):
        await back.wait()


async def test_requests_get_through_with_real_rounds() -> None:
    turnstile = Turnstile()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(turnstile.enter() for _ in range(100))) == [True] * 100
