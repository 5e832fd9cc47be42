"""Tasks, kept in memory for as long as there is room."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from gateway.flow.tasks import Task

ROOM: Final = 100_000
"""Ended Tasks kept; the oldest go first. Open ones are never forgotten."""


@dataclass(slots=True)
class TaskBook:
    """The Tasks of one process."""

    room: int = ROOM
    _open: dict[str, Task] = field(default_factory=dict)
    _ended: OrderedDict[str, Task] = field(default_factory=OrderedDict)

    async def put(self, task: Task) -> None:
        """Keep a Task as it now is."""
        if task.open:
            self._open[task.id] = task
            return
        self._open.pop(task.id, None)
        self._ended[task.id] = task
        while len(self._ended) > self.room:
            self._ended.popitem(last=False)

    async def get(self, task: str) -> Task | None:
        """Find a Task."""
        return self._open.get(task) or self._ended.get(task)
