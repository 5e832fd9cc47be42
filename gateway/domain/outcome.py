"""How a write ended, or that nobody knows yet."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from gateway.domain.appointment import Appointment, Cancel, Change, Status, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Field


@dataclass(frozen=True, slots=True)
class Applied:
    """PKB shows what the partner asked for."""

    version: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """PKB took the message; whether it does anything cannot be seen, or not yet."""

    final: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was changed, and nothing will be."""

    code: Code


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened."""


Outcome = Applied | Accepted | Rejected | Unknown


def is_final(outcome: Outcome) -> bool:
    """Whether nothing more will be recorded of the intent."""
    match outcome:
        case Applied() | Rejected():
            return True
        case Accepted(final=final):
            return final
        case Unknown():
            return False
        case unexpected:
            assert_never(unexpected)


_NOT_ATTEMPTED = frozenset({Code.UPSTREAM_UNAVAILABLE, Code.STATE_UNAVAILABLE})


def repeatable(outcome: Outcome) -> bool:
    """Whether the write was not attempted, so that a repetition of the request is carried out like a new one."""
    return isinstance(outcome, Rejected) and outcome.code in _NOT_ATTEMPTED


def word(outcome: Outcome) -> str:
    """Name an outcome as the audit stream and the Task do."""
    return type(outcome).__name__.lower()


class TaskStatus(StrEnum):
    """FHIR R4 `Task.status`, as far as a write can get."""

    REQUESTED = "requested"
    IN_PROGRESS = "in-progress"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    REJECTED = "rejected"
    FAILED = "failed"


def task_status(outcome: Outcome, *, closed: bool = False) -> TaskStatus:
    """Tell an outcome as the status of its Task; `closed`: an unknown nobody will look into any more."""
    match outcome:
        case Applied() | Accepted(final=True):
            return TaskStatus.COMPLETED
        case Accepted():
            return TaskStatus.ACCEPTED
        case Rejected():
            return TaskStatus.REJECTED
        case Unknown():
            return TaskStatus.FAILED if closed else TaskStatus.IN_PROGRESS
        case unexpected:
            assert_never(unexpected)


def read_back(
    command: Write, before: Appointment, after: Appointment | None, now: datetime, settled_at: datetime | None
) -> Outcome:
    """Say what a read after a doubtful answer proves.

    A write that is still under way inside PKB may land after the read, so an unchanged version proves nothing
    before `settled_at`, and on a route whose messages may be held for review (None) it never does. A later version
    that shows other values proves that somebody wrote, not who was first.
    """
    if after is None:
        return Unknown()
    if after.version == before.version:
        settled = settled_at is not None and now >= settled_at
        return Rejected(Code.UPSTREAM_REFUSED) if settled else Unknown()
    if not is_later(after.version, before.version):
        return Unknown()
    if can_be_seen(command) and shows(command, after):
        return Applied(after.version)
    if isinstance(command, Change) and after.status is Status.CANCELLED:
        return Rejected(Code.VERSION_CONFLICT)
    return Unknown()


def shows(command: Write, appointment: Appointment) -> bool:
    """Whether an appointment has every value the command gave it."""
    match command:
        case Cancel():
            same_comment = command.comment is None or command.comment == appointment.comment
            same_reason = not appointment.reason_shown or (
                command.reason is not None and command.reason == appointment.cancel_reason
            )
            return appointment.status is Status.CANCELLED and same_reason and same_comment
        case Change():
            return (
                appointment.status is not Status.CANCELLED
                and (command.start is None or command.start.at == appointment.start)
                and (command.end is None or command.end.at == appointment.end)
                and (command.comment is None or command.comment == appointment.comment)
                and (command.location is None or (command.location,) == appointment.locations)
            )
        case unexpected:
            assert_never(unexpected)


def can_be_seen(command: Write) -> bool:
    """Whether a read can show anything of a command; a management URL is in no resource of PKB's."""
    return isinstance(command, Cancel) or bool(command.fields - {Field.MANAGEMENT_URL})


def collateral(before: Appointment, after: Appointment) -> tuple[str, ...]:
    """Name what nobody asked to change and PKB changed all the same: HL7 derives labels and replaces participants."""
    compared = {
        "labels": before.labels == after.labels,
        "specialties": before.specialties == after.specialties,
        "participants": before.participants == after.participants,
    }
    return tuple(name for name, same in compared.items() if not same)


def is_later(version: str, than: str) -> bool:
    """Whether a version came after another, as far as the two can be told apart."""
    # A box numbers its versions by its transactions; elsewhere a version is only known to be another one.
    if _numbered(version) and _numbered(than):
        return _magnitude(version) > _magnitude(than)
    return version != than


def _numbered(version: str) -> bool:
    return version.isascii() and version.isdecimal()


def _magnitude(number: str) -> tuple[int, str]:
    # int() refuses a number of thousands of digits; the longer one is the larger one.
    digits = number.lstrip("0")
    return len(digits), digits
