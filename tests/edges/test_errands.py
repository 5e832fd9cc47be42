"""The way from the event loop to a thread and back."""

import asyncio
import time

from gateway.storage.errands import Errand, Errands


def unheard(errand: Errand) -> None:
    raise AssertionError("nothing is overdue")


async def test_what_is_handed_in_within_one_round_of_the_loop_is_gathered_at_once() -> None:
    errands = Errands(unheard)
    gathering = asyncio.create_task(asyncio.to_thread(errands.gather))
    # The thread waits now, and would run off with the first.
    await asyncio.sleep(0.05)
    several = [Errand(errands.waiter()) for _ in range(5)]
    for errand in several:
        errands.hand_in(errand, 60)
        time.sleep(0.01)  # noqa: ASYNC251 - a loop that has much to do
    assert await gathering == (several, True)
    errands.settle([(errand, None) for errand in several])


async def test_what_was_handed_in_last_is_gathered_before_the_end() -> None:
    errands = Errands(unheard)
    last = Errand(None)
    errands.hand_in(last, 60)
    assert len(errands) == 1
    errands.close()
    assert await asyncio.to_thread(errands.gather) == ([last], False)
    await asyncio.sleep(0)
    assert len(errands) == 0
