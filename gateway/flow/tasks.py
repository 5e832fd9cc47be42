"""What a partner may see of a write that has not ended, or has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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
    repeated: Mapping[str, object] = field(default_factory=dict, hash=False)
    """What the record of its end repeats of the first outcome's: ids, versions, a status; no text, no patient."""
    trace: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What a process that did not send it needs to follow it; texts as keyed hashes."""

    @property
    def open(self) -> bool:
        """Whether its end is still to come."""
        return self.status in {TaskStatus.REQUESTED, TaskStatus.IN_PROGRESS, TaskStatus.ACCEPTED}


def outline(task: Task) -> dict[str, str | None]:
    """Tell people which write it is and how far it has come."""
    return {
        "id": task.id,
        "partner": task.partner,
        "customer": task.customer,
        "appointment": task.appointment,
        "operation": task.operation.value,
        "status": task.status.value,
        "outcome": task.outcome,
    }
