"""Processes that are killed in the middle of a write, and those that come after them."""

import asyncio
from typing import Any

from gateway.flow.orders import Once
from tests.flow.fakes import Bench, done, spin
from tests.makers import appointment, cancel

ONCE = Once("key-1", "print-1")


def finals(*benches: Bench) -> list[tuple[str, bool]]:
    """Every final outcome on record: the word, and whether recovered."""
    told = [outcome for bench in benches for outcome in bench.paper.outcomes]
    return [(word, recovered) for word, final, recovered in told if final]


async def killed_at(bench: Bench, method: str, *, after: bool = False) -> None:
    """Run a cancel and kill its process as it calls the store, or once the store has answered."""
    target: Any = bench.shelf
    original = getattr(target, method)
    reached = asyncio.Event()

    async def stuck(*args: Any, **named: Any) -> Any:
        if after:
            await original(*args, **named)
        reached.set()
        await asyncio.Event().wait()

    setattr(target, method, stuck)
    running = asyncio.create_task(bench.run(once=ONCE))
    await reached.wait()
    await bench.die()
    running.cancel()
    await spin()
    setattr(target, method, original)


async def killed_while_sent(bench: Bench, *, applied: bool) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run(once=ONCE))
    await spin()
    assert bench.hospital.under_way == 1
    await bench.die()
    running.cancel()
    await spin()
    bench.hospital.hold = None
    if applied:
        bench.hospital.copies["a-1"] = done(cancel(), appointment())


async def successor(bench: Bench) -> Bench:
    other = bench.beside()
    await other.caretaker.begin()
    return other


async def killed_follower(bench: Bench) -> None:
    """Kill a process that has just been promised the end of a write it follows."""
    original = bench.shelf.end
    reached = asyncio.Event()

    async def stuck(*args: Any, **named: Any) -> bool:
        await original(*args, **named)
        reached.set()
        await asyncio.Event().wait()
        return True

    bench.shelf.end = stuck  # type: ignore[method-assign] # the same fake, up to a point
    await bench.later(seconds=1)
    assert reached.is_set()
    await bench.die()
