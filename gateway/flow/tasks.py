"""What a partner may see of a write that has not ended, or has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.faults import report


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
    repeated: Mapping[str, object] = field(default_factory=dict, hash=False)
    """What the record of its end repeats of the first outcome's: ids, versions, a status; no text, no patient."""
    trace: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What a process that did not send it needs to follow it; texts as keyed hashes."""

    @property
    def open(self) -> bool:
        """Whether its end is still to come."""
        return self.status in {TaskStatus.REQUESTED, TaskStatus.IN_PROGRESS, TaskStatus.ACCEPTED}


class Tasks(Protocol):
    """Where Tasks are kept."""

    async def put(self, task: Task) -> None:
        """Keep a Task as it now is. Never raises: the audit stream is the truth, not this."""
        ...

    async def get(self, task: str) -> Task | None:
        """Find a Task. Raises StateUnavailable."""
        ...

    async def claim(self, task: Task) -> bool:
        """Say whether this process may record that the Task ended so; nobody else will. Raises StateUnavailable."""
        ...

    async def ended(self, tasks: Iterable[str]) -> Sequence[Task]:
        """Give those of these Tasks that another process may have ended. Raises StateUnavailable."""
        ...


async def keep(tasks: Tasks, task: Task) -> None:
    """Keep a Task; one that cannot be kept, against all promises, does not stop the write it tells of."""
    try:
        await tasks.put(task)
    except Exception as fault:  # noqa: BLE001 - whatever it is, the write goes on
        report("a Task could not be kept", fault)
