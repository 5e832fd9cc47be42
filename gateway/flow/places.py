"""An appointment's turn: in this process by waiting in line, among processes by what the store says of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from gateway.flow.store import Filed, Key, Phase, Store, Turn
from gateway.flow.tasks import Task
from gateway.flow.turns import Place, Taking, Turns

PATIENCE: Final = 2.0
"""Seconds a second write to one appointment waits for the first."""

ASK_EVERY: Final = 0.05
"""Seconds between two looks for the end of another process's write."""

_RUNNING: Final = frozenset({Phase.HELD, Phase.SENT})


@dataclass(slots=True)
class Stand:
    """What one write knows of its appointment's names, until it leaves. `until` is a time of the running event loop."""

    places: "Places"
    until: float
    _takings: list[Taking] = field(default_factory=list)
    _mine: dict[Key, Place] = field(default_factory=dict)
    _turns: dict[Key, Turn] = field(default_factory=dict)
    filed: bool = False
    """Whether the write is in the store; then its end lets go of the appointment and of its key."""

    async def __aenter__(self) -> Self:
        """Stand there."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave all turns, the last one first."""
        while self._takings:
            self._takings.pop().leave()

    async def enter(self, key: Key) -> Place:
        """Wait for a name's turn in this process and for writes of other processes that still run.

        Says how it was got, or that it was not. Raises StateUnavailable.
        """
        if key not in self._mine:
            left = max(0.0, self.until - asyncio.get_running_loop().time())
            taking = self.places.turns.take(key, left)
            self._mine[key] = await taking.enter()
            self._takings.append(taking)
        (turn,), waited = await self.places.wait((key,), self.until)
        self._turns[key] = turn
        if self._mine[key] is Place.NONE or _runs(turn):
            return Place.NONE
        return Place.AFTER_WAITING if waited else self._mine[key]

    async def hold(self, task: Task, chain: str) -> bool:
        """File the write; False where somebody else took one of its names meanwhile. Raises StateUnavailable."""
        # A store that broke off may have filed it all the same.
        self.filed = True
        epochs = {key: turn.epoch for key, turn in self._turns.items()}
        self.filed = await self.places.store.hold(task, epochs, chain)
        return self.filed

    async def joins(self, names: Sequence[Key]) -> bool:
        """Enter names that PKB's copy showed; False where the copy may be older than their turn."""
        places = [await self.enter(name) for name in names]
        return bool(places) and all(place is Place.AT_ONCE for place in places) and self.even

    @property
    def even(self) -> bool:
        """Whether every name was taken equally often: an appointment's own names always are taken together.

        Where one was taken more often, another appointment bears it too, and may have been written just now.
        """
        return len({turn.epoch for turn in self._turns.values()}) <= 1

    @property
    def free(self) -> bool:
        """Whether every name is free for this write."""
        return all(self._mine.values()) and all(turn.holder is None for turn in self._turns.values())

    @property
    def open_holder(self) -> Filed | None:
        """Give the write in doubt that holds the appointment, where it is one of those."""
        holders = [turn.holder for turn in self._turns.values() if turn.holder is not None]
        return next((holder for holder in holders if holder.phase is Phase.OPEN), None)

    @property
    def has_time(self) -> bool:
        """Whether there is patience left for another try."""
        return asyncio.get_running_loop().time() < self.until


@dataclass(slots=True)
class Places:
    """Where writes stand in line for their appointments."""

    store: Store
    patience: float = PATIENCE
    turns: Turns = field(default_factory=Turns)

    def stand(self) -> Stand:
        """Stand in line for one appointment, under all the names it turns out to have, as a context of its own."""
        return Stand(self, asyncio.get_running_loop().time() + self.patience)

    async def wait(self, keys: Sequence[Key], until: float) -> tuple[Sequence[Turn], bool]:
        """Look until no write that still runs holds any of the names; says whether that took waiting."""
        waited = False
        while True:
            turns = await self.store.look(keys)
            if not any(map(_runs, turns)) or asyncio.get_running_loop().time() >= until:
                return turns, waited
            waited = True
            await asyncio.sleep(ASK_EVERY)


def _runs(turn: Turn) -> bool:
    return turn.holder is not None and turn.holder.phase in _RUNNING
