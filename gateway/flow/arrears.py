"""What the store could not be told at once, told again until it listens."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.flow.faults import report
from gateway.flow.ports import StateUnavailable

PAUSE: Final = 1.0
"""Seconds between two tries."""

ROOM: Final = 10_000
"""Tellings that may wait. Beyond it the oldest is given up: what it was about ends with this process's lease."""

Telling = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Arrears:
    """Tellings that wait for the store, one after the other. `sleep` waits for seconds."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    room: int = ROOM
    _waiting: deque[Telling] = field(default_factory=deque)
    _teller: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def tell(self, telling: Telling) -> None:
        """Tell the store; where it does not answer go on telling it, without the caller."""
        if await _told(telling):
            return
        self._waiting.append(telling)
        if len(self._waiting) > self.room:
            self._waiting.popleft()
        if self._teller is None:
            self._teller = asyncio.create_task(self._insist())

    async def close(self) -> None:
        """Give up: whoever starts next finds out from the store and the audit stream what is left to do."""
        self._waiting.clear()
        if self._teller is not None:
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)

    async def _insist(self) -> None:
        while self._waiting:
            await self.sleep(PAUSE)
            # One question a pause, however many wait, until the store answers again.
            while self._waiting:
                telling = self._waiting.popleft()
                if not await _told(telling):
                    self._waiting.append(telling)
                    break
        self._teller = None


async def _told(telling: Telling) -> bool:
    try:
        await telling()
    except StateUnavailable:
        return False
    except Exception as fault:  # noqa: BLE001 - a store that breaks its promises is told again, and heard of
        report("the store could not be told", fault)
        return False
    return True
