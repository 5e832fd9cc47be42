import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.app.exact_loop import ExactLoop
from gateway.app.loop import new_loop, run_served


async def _early(set_timer: Callable[[float, Callable[[], None]], object], delay: float) -> float:
    """Give how much before its time a timer rang, in seconds; below zero where it was late."""
    rang: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    until = time.monotonic() + delay
    set_timer(delay, lambda: rang.set_result(time.monotonic()))
    return until - await rang


def test_the_serving_loop_is_uvloops_where_it_is_installed() -> None:
    loop = new_loop()
    try:
        assert isinstance(loop, ExactLoop)
    finally:
        loop.close()


def test_its_time_goes_on_in_mid_round_as_a_stopped_process_would_find() -> None:
    async def stopped() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        time.sleep(0.02)  # noqa: ASYNC251  # as SIGSTOP does
        return loop.time() - before

    assert run_served(stopped()) >= 0.02


@pytest.mark.parametrize("delay", [0.0004, 0.001, 0.0014, 0.0026, 0.0104, 0.0206])
def test_no_timer_rings_before_its_time(delay: float) -> None:
    async def timers() -> list[float]:
        loop = asyncio.get_running_loop()
        found = []
        for _ in range(10):
            found.append(await _early(loop.call_later, delay))
            found.append(await _early(lambda wait, call: loop.call_at(loop.time() + wait, call), delay))
        return found

    assert max(run_served(timers())) <= 0


def test_a_timeout_that_rings_finds_its_deadline_over() -> None:
    async def waits() -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.0127
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(5)
        except TimeoutError:
            return loop.time() >= deadline
        return False

    assert all(run_served(waits()) for _ in range(10))
