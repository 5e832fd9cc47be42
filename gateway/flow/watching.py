"""What metrics, log and traces see of a request: the time that its stages take, and what goes on record about it."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    """What takes the time of a request."""

    AUTHENTICATE = "authenticate"
    READ = "read"
    """Of PKB, reading back after a write in doubt included."""
    DECIDE = "decide"
    INTENT = "intent"
    """Taking the appointment, the decision under the grants then in force, and the durable record of the intent."""
    WRITE = "write"
    OUTCOME = "outcome"
    """The durable record of the outcome."""


class StageObserver(Protocol):
    """Hears of every stage when it ends, well or not."""

    def __call__(self, stage: Stage, seconds: float) -> None:
        """Take note. It is called in the middle of a request: it must be quick, and must not raise."""
        ...


def unwatched(stage: Stage, seconds: float) -> None:
    """Take no note."""
    del stage, seconds


@dataclass(slots=True)
class Noted:
    """What is on record about the request that this context belongs to: what was decided about whom."""

    partner: str | None = None
    operation: str | None = None
    decision: str | None = None


NOTED: ContextVar[Noted | None] = ContextVar("noted", default=None)
