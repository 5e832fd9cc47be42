"""One write at a time to one appointment in this process, whatever path it came by; the store sees to the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from gateway.flow.store import Key


class Place(IntEnum):
    """What came of asking for a turn; anything but NONE is a turn."""

    NONE = 0
    AT_ONCE = 1
    AFTER_WAITING = 2
    """Somebody else wrote meanwhile: what was read before says nothing any more."""


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass(slots=True)
class Turns:
    """Turns are forgotten when nobody holds or awaits them."""

    _turns: dict[Key, _Turn] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, key: Key, patience: float) -> AsyncIterator[Place]:
        """Wait at most `patience` seconds for the appointment's turn; yields whether it was got, and how."""
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        got = Place.NONE
        try:
            got = await _acquire(turn, patience)
            yield got
        finally:
            if got:
                turn.lock.release()
            turn.users -= 1
            if turn.users == 0:
                del self._turns[key]


async def _acquire(turn: _Turn, patience: float) -> Place:
    # Between two turns the lock is open for a moment, though the next one has it already.
    place = Place.AFTER_WAITING if turn.users > 1 else Place.AT_ONCE
    try:
        async with asyncio.timeout(patience):
            await turn.lock.acquire()
    except TimeoutError:
        return Place.NONE
    return place
