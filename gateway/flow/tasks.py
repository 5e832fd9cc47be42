"""What a partner may see of a write that has not ended, or has."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus


@dataclass(frozen=True, slots=True)
class Task:
    """One write, from durable intent to final outcome."""

    id: str
    partner: str
    customer: str
    appointment: str
    operation: Operation
    status: TaskStatus
    requested: datetime
    updated: datetime
    code: str | None = None
    outcome: str | None = None
    version: str | None = None

    @property
    def open(self) -> bool:
        """Whether its end is still to come."""
        return self.status in {TaskStatus.REQUESTED, TaskStatus.IN_PROGRESS, TaskStatus.ACCEPTED}


class Tasks(Protocol):
    """Where Tasks are kept."""

    async def put(self, task: Task) -> None:
        """Keep a Task as it now is."""
        ...

    async def get(self, task: str) -> Task | None:
        """Find a Task. Raises StateUnavailable."""
        ...
