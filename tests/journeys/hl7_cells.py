"""The table of the HL7 route: every state, operation, acknowledgement and visibility, and how each cell must end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.journeys.hospital import URL, Booked
from tests.journeys.partner import comment, instant, location, reason
from tests.journeys.processes import Json


@dataclass(frozen=True)
class State:
    """How an appointment stands before the request."""

    scenario: str = "changeable"
    members: Mapping[str, Any] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    """What every write of it is answered; None where it may be written."""
    exists: bool = True


STATES = {
    "booked": State(),
    "pending": State(members={"status": "pending"}),
    "cancelled": State("cancelled", refusal=(409, "already-cancelled")),
    "noshow": State(members={"status": "noshow"}, refusal=(409, "not-changeable")),
    "past": State("past", refusal=(422, "in-the-past")),
    "inside notice": State("inside-notice", refusal=(422, "too-late")),
    "label outside": State("label-outside", refusal=(404, "not-found")),
    "unknown id": State(refusal=(404, "not-found"), exists=False),
}
OPERATIONS = {
    # name: message, members of PKB's copy that it changes
    "cancel": ("S15", {"status"}),
    "times": ("S13", {"start", "end"}),
    "texts": ("S14", {"comment", "participant"}),
    "managementUrl": ("S14", set[str]()),
}


def given(operation: str, booked: Booked) -> tuple[Json, ...]:
    """The parameters of an operation."""
    start = datetime.fromisoformat(booked.held["start"])
    match operation:
        case "cancel":
            return (*booked.who, reason())
        case "times":
            moved = start + timedelta(days=3)
            return (*booked.who, instant("start", moved), instant("end", moved + timedelta(minutes=45)))
        case "texts":
            return (*booked.who, comment("Bring your glasses | ~ & \\ ^."), location("Ward 7"))
    return (*booked.who, {"name": "managementUrl", "valueUrl": URL})


@dataclass(frozen=True)
class Ack:
    """What PKB does with a message, and says of it."""

    fault: Mapping[str, Any] | None
    says: str
    """yes, no, or nothing that could be relied on."""
    applied: bool


# In this order no row of failures is so long that the circuit breaker opens.
ACKS = {
    "AA": Ack(None, "yes", applied=True),
    "AR": Ack({"kind": "ack", "value": "AR"}, "no", applied=False),
    "500": Ack({"kind": "status", "value": 500}, "?", applied=False),
    "AE": Ack({"kind": "ack", "value": "AE"}, "?", applied=False),
    "drop before": Ack({"kind": "drop-before"}, "?", applied=False),
    "held": Ack({"kind": "ack", "value": "AA-held"}, "yes", applied=False),
    "drop after": Ack({"kind": "drop-after"}, "?", applied=True),
    "wrong id": Ack({"kind": "ack", "value": "wrong-id"}, "?", applied=True),
    "HTML, done": Ack({"kind": "garbage", "value": "applied"}, "?", applied=True),
    "HTML, not done": Ack({"kind": "garbage", "value": "not-applied"}, "?", applied=False),
}


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    state: str
    operation: str
    ack: str
    late: bool
    """Whether readers see what was done only a while later."""

    def __str__(self) -> str:
        return ", ".join((self.state, self.operation, self.ack, "seen late" if self.late else "seen at once"))

    @property
    def refusal(self) -> tuple[int, str] | None:
        if self.state == "pending" and self.operation != "cancel":
            # HL7 has no word for it: any message but a cancel would book what is pending.
            return 422, "not-supported-on-route"
        return STATES[self.state].refusal

    @property
    def sent(self) -> bool:
        return self.refusal is None

    @property
    def applied(self) -> bool:
        return self.sent and ACKS[self.ack].applied


@dataclass(frozen=True)
class End:
    """How a cell ends: the answer, the outcomes on record (the last alone is final), the Task."""

    status: int
    code: str = ""
    outcomes: tuple[str, ...] = ()
    task: str = ""


CELLS = tuple(
    Cell(state, operation, ack, late)
    for ack in ACKS
    for late in (False, True)
    for state in STATES
    for operation in OPERATIONS
    # Where nothing is done, there is nothing to see late.
    if not late or Cell(state, operation, ack, late).applied
)


def end_of(cell: Cell) -> End:
    """How a cell must end."""
    if cell.refusal is not None:
        return End(*cell.refusal)
    ack = ACKS[cell.ack]
    if ack.says == "no":
        return End(502, "upstream-refused", ("rejected",), "rejected")
    shown = ack.applied and cell.operation != "managementUrl"
    if ack.says == "yes" and cell.operation == "managementUrl":
        # No read ever shows it, so PKB's word is the last; without that word nothing is.
        return End(202, "", ("accepted",), "completed")
    if shown and not cell.late:
        return End(200, "", ("applied",), "completed")
    first, status, code = ("accepted", 202, "") if ack.says == "yes" else ("unknown", 504, "outcome-unknown")
    if shown:
        return End(status, code, (first, "applied"), "completed")
    # Nobody looks for ever: what was taken and is never shown may still wait for review.
    return End(status, code, (first, "unknown"), "failed")
