"""What the store could not be told at once, told again until it listens."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.flow.faults import report
from gateway.flow.ports import StateUnavailable

PAUSE: Final = 1.0
"""Seconds between two tries."""

Telling = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Arrears:
    """Tellings that wait for the store. `sleep` waits for seconds."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _waiting: set[asyncio.Task[None]] = field(default_factory=set)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def tell(self, telling: Telling) -> None:
        """Tell the store; where it does not answer go on telling it, without the caller."""
        if await _told(telling):
            return
        task = asyncio.create_task(self._insist(telling))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Give up: whoever starts next finds out from the store and the audit stream what is left to do."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _insist(self, telling: Telling) -> None:
        await self.sleep(PAUSE)
        while not await _told(telling):
            await self.sleep(PAUSE)


async def _told(telling: Telling) -> bool:
    try:
        await telling()
    except StateUnavailable:
        return False
    except Exception as fault:  # noqa: BLE001 - a store that breaks its promises is told again, and heard of
        report("the store could not be told", fault)
        return False
    return True
