"""One write at a time to one appointment in this process, whatever path it came by; the store sees to the others."""

import asyncio
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
class Taking:
    """One write's way to an appointment's turn and back: whoever entered, got or not, leaves."""

    turns: dict[Key, _Turn]
    key: Key
    patience: float
    got: Place = Place.NONE

    async def __aenter__(self) -> Place:
        """Enter."""
        return await self.enter()

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        self.leave()

    async def enter(self) -> Place:
        """Wait for the turn; says whether it was got, and how."""
        turn = self.turns.setdefault(self.key, _Turn())
        turn.users += 1
        try:
            self.got = await _acquire(turn, self.patience)
        except BaseException:
            self.leave()
            raise
        return self.got

    def leave(self) -> None:
        """Let the next one in. A turn is forgotten when nobody holds or awaits it."""
        turn = self.turns[self.key]
        if self.got:
            turn.lock.release()
        turn.users -= 1
        if turn.users == 0:
            del self.turns[self.key]


@dataclass(slots=True)
class Turns:
    """The turns of all appointments that somebody writes to."""

    _turns: dict[Key, _Turn] = field(default_factory=dict)

    def take(self, key: Key, patience: float) -> Taking:
        """Wait at most `patience` seconds for the appointment's turn, as a context of its own."""
        return Taking(self._turns, key, patience)


async def _acquire(turn: _Turn, patience: float) -> Place:
    if turn.users == 1:
        # Nobody else is there, so it is had without waiting.
        await turn.lock.acquire()
        return Place.AT_ONCE
    try:
        async with asyncio.timeout(patience):
            await turn.lock.acquire()
    except TimeoutError:
        return Place.NONE
    # Between two turns the lock is open for a moment, though the next one has it already.
    return Place.AFTER_WAITING
