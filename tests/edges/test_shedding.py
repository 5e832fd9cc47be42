"""The turnstile in front of every request: how many are inside, who waits, who is turned away, and who comes first."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.partner.shedding import (
    AT_ONCE,
    CALM,
    GRACE,
    HURRY,
    LONGEST_REST,
    PATIENCE,
    PLACES,
    REST,
    Rounds,
    Turnstile,
)


@dataclass
class Bench:
    """A turnstile whose rounds and seconds pass when a test says so."""

    few: int = 1
    many: int = 1
    """Inside without a round while there is no crowd; never fewer than `few`."""
    now: float = 100.0
    due: list[Callable[[], None]] = field(default_factory=list)
    resting: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    """Rounds that begin later, and after how many seconds."""
    inside: list[int] = field(default_factory=list)
    away: list[int] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turnstile = Turnstile(lambda: self.now, self.due.append, self._later, self.few, self.many)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.resting.append((seconds, call))

    def rested(self) -> list[float]:
        """Begin the rounds that were to begin later."""
        resting, self.resting[:] = [*self.resting], []
        for _, call in resting:
            call()
        return [seconds for seconds, _ in resting]

    async def leave(self, count: int = 1) -> None:
        for _ in range(count):
            self.turnstile.leave()
            await asyncio.sleep(0)

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
    """One inside, and as many waiting as may, none of them for long; one who did was turned away."""
    bench = Bench()
    await bench.come(0, -1)
    bench.now += GRACE + 0.01
    await bench.come(*range(1, PLACES + 2))
    await bench.leave()
    assert (bench.inside, bench.away) == ([0, PLACES + 1], [-1])
    assert (bench.turnstile.overloaded, len(bench.turnstile)) == (True, PLACES)
    return bench


async def test_a_request_to_an_idle_gateway_is_let_in_at_once() -> None:
    bench = Bench()
    await bench.come(1)
    assert (bench.inside, len(bench.turnstile)) == ([1], 0)


async def test_one_more_is_let_in_after_each_round_in_which_nobody_left() -> None:
    bench = Bench()
    await bench.come(1, 2, 3)
    assert bench.inside == [1]
    await bench.round()
    assert bench.inside == [1, 2]
    await bench.round()
    assert (bench.inside, bench.rested()) == ([1, 2, 3], [])


async def test_after_a_round_in_which_somebody_left_there_are_not_more_inside_and_no_round_for_a_while() -> None:
    bench = Bench()
    await bench.come(1, 2, 3)
    await bench.leave()
    bench.now += 0.002
    await bench.round()
    assert (bench.inside, bench.due) == ([1, 2], [])
    assert bench.rested() == [pytest.approx(REST * 0.002)]
    await bench.round()
    assert bench.inside == [1, 2, 3]


async def test_a_process_that_is_very_late_is_measured_again_soon() -> None:
    bench = Bench()
    await bench.come(1, 2, 3)
    await bench.leave()
    bench.now += 5
    await bench.round()
    assert bench.rested() == [LONGEST_REST]


async def test_who_leaves_is_followed_by_another_without_a_round_beyond_a_few_too() -> None:
    bench = Bench()
    await bench.come(*range(10))
    await bench.round(3)
    assert bench.inside == [0, 1, 2, 3]
    await bench.leave(2)
    assert bench.inside == [0, 1, 2, 3, 4, 5]


async def test_where_more_than_one_left_in_a_round_fewer_are_inside_after_it() -> None:
    bench = Bench()
    await bench.come(*range(20))
    await bench.round(5)
    await bench.leave(3)
    assert len(bench.inside) == 9
    await bench.round()
    await bench.leave(2)
    assert len(bench.inside) == 9, "two who leave are followed by nobody"
    await bench.leave()
    assert len(bench.inside) == 10


async def test_nobody_is_held_up_for_good_by_those_who_hang() -> None:
    """Those inside leave quickly, and from one moment to the next not at all."""
    bench = Bench()
    await bench.come(*range(10))
    await bench.leave()
    await bench.round()
    bench.rested()
    await bench.round(8)
    assert bench.inside == [*range(10)]


async def test_after_a_round_without_anybody_waiting_the_next_is_let_in_at_once() -> None:
    bench = Bench()
    await bench.come(1, 2)
    await bench.round(2)
    assert bench.due == []
    await bench.leave(2)
    await bench.come(3)
    assert (bench.inside, bench.due) == ([1, 2, 3], [])


async def test_a_burst_is_let_in_whole_however_large_it_is() -> None:
    bench = Bench()
    await bench.come(*range(400))
    for _ in range(400):
        await bench.round()
        bench.now += 0.001
    assert (sorted(bench.inside), bench.away) == ([*range(400)], [])


async def test_a_newcomer_is_turned_away_once_the_queue_stands_and_all_places_are_taken() -> None:
    bench = await crowded()
    await bench.come(100)
    assert (bench.away, len(bench.turnstile)) == ([-1, 100], PLACES)


async def test_it_is_full_for_those_who_come_behind_as_many_as_there_are_places() -> None:
    bench = await crowded()
    assert bench.turnstile.is_full()
    await bench.leave()
    assert not bench.turnstile.is_full()
    assert bench.turnstile.is_full(1)


async def test_without_an_overload_it_is_never_full() -> None:
    bench = Bench()
    await bench.come(*range(2 * PLACES))
    assert not bench.turnstile.is_full(1000)


async def test_who_waited_too_long_is_turned_away_in_an_overload_although_there_are_places() -> None:
    bench = await crowded()
    await bench.leave(PLACES - 2)
    bench.now += PATIENCE + 0.01
    assert len(bench.turnstile) == 2
    await bench.come(100)
    await bench.leave()
    assert (bench.away, bench.inside[-1]) == ([-1, 1, 2], 100)


async def test_what_a_burst_has_left_is_turned_away_a_few_at_a_time_the_oldest_first_and_newcomers_get_its_places() -> (
    None
):
    bench = Bench()
    await bench.come(*range(3 * PLACES))
    bench.now += GRACE + 0.01
    await bench.come(1000)
    await bench.leave()
    assert bench.inside == [0, 1000]
    assert bench.away == [*range(1, 1 + AT_ONCE)]
    await bench.leave()
    assert bench.away == [*range(1, 1 + 2 * AT_ONCE)]


async def test_nobody_is_turned_away_before_the_queue_stood_for_long_enough() -> None:
    bench = Bench()
    await bench.come(*range(PLACES + 2))
    bench.now += GRACE
    await bench.come(100)
    await bench.leave()
    assert (bench.away, bench.turnstile.overloaded) == ([], False)


async def test_callers_who_wait_for_their_answers_are_never_turned_away_and_come_in_their_order() -> None:
    """As many as there are places, each asking again as soon as it was answered, on however slow a machine."""
    bench = Bench()
    await bench.come(*range(PLACES + 1))
    for number in range(10 * PLACES):
        bench.now += 0.1
        await bench.leave()
        await bench.come(PLACES + 1 + number)
    assert (bench.inside, bench.away) == ([*range(10 * PLACES + 1)], [])


async def test_the_newest_of_a_crowd_is_let_in_first_and_nobody_is_turned_away_for_it() -> None:
    bench = Bench()
    await bench.come(*range(PLACES + 3))
    bench.now += HURRY
    await bench.leave()
    bench.now += 0.01
    await bench.come(100)
    await bench.leave()
    assert (bench.inside, bench.away) == ([0, 1, 100], [])


async def test_a_calm_without_refusals_ends_the_overload() -> None:
    bench = await crowded()
    await bench.leave(PLACES)
    bench.now += CALM - 0.01
    assert bench.turnstile.overloaded
    bench.now += 0.02
    assert not bench.turnstile.overloaded
    await bench.come(*range(200, 200 + PLACES + 2))
    await bench.leave()
    assert bench.away == [-1]


async def test_a_burst_is_none_the_worse_for_an_overload_that_ended_with_everybody_turned_away() -> None:
    bench = await crowded()
    bench.now += PATIENCE + 0.01
    await bench.leave(PLACES // (AT_ONCE + 1))
    assert len(bench.turnstile) == 1
    await bench.round()
    assert len(bench.turnstile) == 0
    bench.now += 100.0
    away = len(bench.away)
    await bench.come(*range(1000, 1000 + 2 * PLACES))
    await bench.leave()
    assert (len(bench.away), bench.turnstile.overloaded) == (away, False)


async def test_the_queue_that_was_empty_for_a_moment_counts_as_new() -> None:
    bench = Bench()
    await bench.come(0, 1)
    bench.now += GRACE / 2
    await bench.leave()
    await bench.come(*range(100, 100 + 2 * PLACES))
    bench.now += GRACE - 0.01
    assert not bench.turnstile.overloaded
    bench.now += 0.02
    assert bench.turnstile.overloaded


@pytest.mark.parametrize("gone", [pytest.param(1, id="let in"), pytest.param(0, id="turned away")])
async def test_one_whose_request_was_cancelled_holds_nobody_up(gone: int) -> None:
    bench = await crowded()
    bench.tasks[-1 if gone else 2].cancel()
    await asyncio.sleep(0)
    await bench.leave(2 * PLACES)
    bench.now += PATIENCE + 0.01
    await bench.round(2)
    assert len(bench.turnstile) == 0
    await bench.come(102)
    assert bench.inside[-1] == 102


async def test_one_who_was_let_in_and_cancelled_before_it_knew_gives_the_place_back() -> None:
    bench = Bench()
    await bench.come(1, 2, 3)
    bench.turnstile.leave()
    bench.tasks[1].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert bench.inside == [1, 3]


async def test_under_lasting_overload_the_queue_stays_short_and_work_goes_on() -> None:
    bench = await crowded()
    for number in range(300):
        await bench.come(1000 + 3 * number, 1001 + 3 * number, 1002 + 3 * number)
        await bench.leave()
        bench.now += 0.005
        assert len(bench.turnstile) <= PLACES
    assert len(bench.inside) == 302
    came = PLACES + 3 + 3 * 300
    assert len(bench.away) == came - 302 - len(bench.turnstile)


async def test_many_are_let_in_at_once_while_there_is_no_crowd_and_start_no_round() -> None:
    bench = Bench(few=1, many=4)
    await bench.come(1, 2, 3, 4)
    assert (bench.inside, bench.due) == ([1, 2, 3, 4], [])
    await bench.come(5, 6)
    assert (bench.inside, len(bench.due)) == ([1, 2, 3, 4], 1)
    await bench.leave(2)
    assert bench.inside == [1, 2, 3, 4, 5, 6]


async def test_nobody_overtakes_those_who_wait() -> None:
    bench = Bench(few=2, many=2)
    await bench.come(1, 2, 3, 4)
    bench.turnstile.leave()
    await bench.come(5)
    await bench.leave(2)
    assert bench.inside == [1, 2, 3, 4, 5]


async def test_callers_who_wait_for_their_answers_start_no_round_however_many_answers_they_get() -> None:
    bench = Bench(few=1, many=8)
    await bench.come(*range(8))
    for number in range(100):
        bench.turnstile.leave()
        await bench.come(8 + number)
    assert (bench.inside, bench.due) == ([*range(108)], [])


async def test_in_a_crowd_only_a_few_are_inside_without_a_round() -> None:
    bench = Bench(few=1, many=3)
    await bench.come(*range(5 + PLACES))
    bench.now += HURRY + 0.01
    assert bench.inside == [0, 1, 2]
    await bench.leave(2)
    assert bench.inside == [0, 1, 2], "one is still inside, and that is a few"
    await bench.leave()
    assert len(bench.inside) == 4


async def test_once_the_overload_is_over_many_are_let_in_without_a_round_again() -> None:
    bench = Bench(few=1, many=3)
    await bench.come(*range(5 + 2 * PLACES))
    bench.now += GRACE + 0.01
    await bench.leave(3)
    assert bench.away, "who had waited for too long"
    await bench.leave(3 * PLACES)
    bench.now += CALM
    await bench.round()
    bench.rested()
    let_in = len(bench.inside)
    await bench.come(200, 201, 202)
    assert bench.inside[let_in:] == [200, 201, 202]


async def test_a_round_comes_back_to_the_loop_by_way_of_another_thread() -> None:
    back = asyncio.Event()
    Rounds()(back.set)
    async with asyncio.timeout(5):
        await back.wait()


async def test_requests_get_through_with_real_rounds() -> None:
    turnstile = Turnstile()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(turnstile.enter() for _ in range(100))) == [True] * 100
