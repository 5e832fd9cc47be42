"""Recorded requests decided again under another grants file, by the rules that decided them first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, assert_never

from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    Appointment,
    Cancel,
    Change,
    Command,
    Instant,
    Provenance,
    Read,
    Status,
)
from gateway.domain.codes import Code
from gateway.domain.decision import PatientMatch, Refusal
from gateway.domain.grant import Coding, Customer, Field, Grant, Operation, Policy
from gateway.domain.rules import (
    ABOUT_ITS_VALUES,
    INTENT,
    NOTHING_BEYOND,
    ON_ROUTE,
    OPEN_TO_CHANGE,
    VERSION,
    WITHIN_REACH,
    Case,
    Claimant,
    Rule,
    admit,
)

REQUESTS: Final = frozenset({"read", "search", "intent", "refused", "replayed"})
"""The events that tell of a partner's request: one record each."""
_PERMIT: Final = "permit"
_ASKED: Final[Mapping[Operation | None, frozenset[Operation]]] = {
    None: frozenset({Operation.CHANGE, Operation.CANCEL}),
    **{operation: frozenset({operation}) for operation in Operation},
}
"""What the gate is asked for: any one of these."""
_SCOPE: Final = "scope-insufficient"
# What the recorded facts tell anew. Every other answer hangs on PKB's copy or on the request itself, which no grants
# file changes: it is taken as it was.
_REDECIDED: Final = frozenset(
    [
        "owned-by-customer",
        "labels-granted",
        "specialty-granted",
        "notice-kept",
        "fields-granted",
        "reason-allowed",
        "new-start-in-the-window",
    ]
)
_WRITE: Final = WITHIN_REACH + VERSION + INTENT + OPEN_TO_CHANGE + ON_ROUTE + NOTHING_BEYOND + ABOUT_ITS_VALUES
_NOBODY: Final = Provenance(0)
"""Whose an appointment is stands in the facts."""


class Again(StrEnum):
    """What became of a request."""

    SAME = "same"
    OTHER_CODE = "other-code"
    """Refused as before, for another reason."""
    FLIPPED = "flipped"
    UNDECIDED = "undecided"
    """It would get beyond what its record tells."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request decided again; `code` None: permitted."""

    again: Again
    code: str | None = None
    grant: str | None = None


_UNDECIDED: Final = Replayed(Again.UNDECIDED)


def replay(record: Mapping[str, Any], policy: Policy) -> Replayed:
    """Decide a recorded request again. Raises ValueError, KeyError, TypeError for what is no record of one."""
    operation = Operation(record["operation"]) if record["operation"] else None
    who = Claimant(record["partner"], record["customer"])
    now = datetime.fromisoformat(record["now"] or record["time"])
    admitted = admit(who, _ASKED[operation], policy, now)
    facts = record["facts"]
    permitted, code = record["decision"] == _PERMIT, record["code"]
    if isinstance(admitted, Refusal):
        if code == _SCOPE and admitted.code is not Code.PARTNER_SUSPENDED:
            return Replayed(Again.SAME, code)
        grant = admitted.grant.id if admitted.grant else None
        return _compared(permitted, code, admitted.code.value, grant)
    if code == _SCOPE:
        return Replayed(Again.SAME, code)
    if facts is None or operation is None or record["event"] == "replayed":
        return _UNDECIDED
    case = _case(record, operation, policy.customers[who.customer], admitted.grant, now)
    found = _first_failed(case, dict(record["checks"]), facts["patient"])
    return _compared(permitted, code, found, admitted.grant.id)


def _compared(permitted: bool, before: str | None, after: str | None, grant: str | None) -> Replayed:  # noqa: FBT001 - what the record says
    if permitted != (after is None):
        return Replayed(Again.FLIPPED, after, grant)
    same = permitted or before == after
    return Replayed(Again.SAME if same else Again.OTHER_CODE, after, grant)


def _first_failed(case: Case, recorded: Mapping[str, bool], patient: str) -> str | None:
    """Ask the rules in their order; what the file cannot change was answered then."""
    reads = isinstance(case.command, Read)
    if not reads and case.grant.patient_required and patient == PatientMatch.ABSENT.value:
        return Code.MISSING_PARAMETER.value
    reach = _failed(WITHIN_REACH, case, recorded)
    if reach is not None:
        return reach.recorded_as or reach.code.value
    if not recorded.get("appointment-free", True):
        return Code.APPOINTMENT_BUSY.value
    failed = None if reads else _failed(_WRITE, case, recorded)
    return None if failed is None else failed.code.value


def _failed(rules: tuple[Rule, ...], case: Case, recorded: Mapping[str, bool]) -> Rule | None:
    for rule in rules:
        passed = rule.passes(case) if rule.name in _REDECIDED else recorded.get(rule.name, True)
        if not passed:
            return rule
    return None


def _case(record: Mapping[str, Any], operation: Operation, customer: Customer, grant: Grant, now: datetime) -> Case:
    """Put together again what the rules looked at, as far as those that are asked anew look at it."""
    facts = record["facts"]
    seen = Appointment(
        id=record["appointment"] or "",
        version="",
        status=Status(facts["status"]),
        start=_moment(facts["start"]),
        end=None,
        provenance=_NOBODY,
        patient=None,
        labels=frozenset(facts["labels"]),
        specialties=frozenset(map(_coding, facts["specialties"])),
    )
    return Case(_command(record, operation, now), seen, tuple(facts["owner"]), customer, grant, now, None)


def _command(record: Mapping[str, Any], operation: Operation, now: datetime) -> Command:
    facts = record["facts"]
    match operation:
        case Operation.READ:
            return Read()
        case Operation.CANCEL:
            return Cancel(() if record["reason"] is None else (Coding(CANCEL_REASON_SYSTEM, record["reason"]),))
        case Operation.CHANGE:
            fields = {Field(name) for name in facts["fields"]}
            start = _moment(facts["new_start"])
            return Change(
                start=None if start is None else Instant(start, ""),
                end=Instant(now, "") if Field.END in fields else None,
                comment="" if Field.COMMENT in fields else None,
                location="" if Field.LOCATION in fields else None,
                management_url="" if Field.MANAGEMENT_URL in fields else None,
            )
        case unexpected:
            assert_never(unexpected)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@lru_cache(1024)
def _coding(text: str) -> Coding:
    system, _, code = text.rpartition("|")
    return Coding(system, code)
