"""One write at a time to one appointment, whatever path it came by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Key = tuple[str, str]
"""Route and appointment id: the organisation's path and the team's lead to the same appointment."""


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass(slots=True)
class Turns:
    """Turns are forgotten when nobody holds or awaits them."""

    _turns: dict[Key, _Turn] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, key: Key, patience: float) -> AsyncIterator[bool]:
        """Wait at most `patience` seconds for the appointment's turn; yields whether it was got."""
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        got = False
        try:
            got = await _acquire(turn.lock, patience)
            yield got
        finally:
            if got:
                turn.lock.release()
            turn.users -= 1
            if turn.users == 0:
                del self._turns[key]


async def _acquire(lock: asyncio.Lock, patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            await lock.acquire()
    except TimeoutError:
        return False
    return True
