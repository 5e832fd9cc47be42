"""What the audit stream is told. One function per kind of record; the journal adds place, time and hash."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, assert_never

from gateway.domain.appointment import CANCEL_REASONS, Appointment, Cancel, Change, Command, Instant, Write
from gateway.domain.codes import Code
from gateway.domain.decision import Decision, Facts, Permit, Refusal, summary
from gateway.domain.grant import Customer, Operation, Policy
from gateway.domain.outcome import Accepted, Applied, Outcome, Rejected, Unknown, is_final, word
from gateway.flow.request import Caller

Record = dict[str, object]


class Veil(Protocol):
    """Keyed hashes in the place of what must never be written down."""

    def patient(self, nhs_number: str | None, route: str, reference: str) -> str:
        """Name a patient for a search by those who hold the key, and for nobody else."""
        ...

    def text(self, value: str) -> Mapping[str, object]:
        """Tell free text as its length and a keyed hash."""
        ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """What went over the wire to PKB and what came back, for the record."""

    route: str
    version_before: str | None = None
    version_after: str | None = None
    status: int | str | None = None
    """The HTTP status, or HL7's acknowledgement code."""
    control_id: str | None = None
    """MSH-10 of an HL7 message."""
    collateral: tuple[str, ...] = ()
    """What PKB changed though nobody asked."""

    def shown(self, status: int | str, version: str | None) -> "Upstream":
        """Give what is known once PKB has shown what a write left."""
        return Upstream(self.route, self.version_before, version, status, self.control_id, self.collateral)

    def as_record(self) -> Record:
        """Tell it in the words of the audit stream."""
        return {
            "route": self.route,
            "status": self.status,
            "version_before": self.version_before,
            "version_after": self.version_after,
            "control_id": self.control_id,
            "collateral": list(self.collateral),
        }


def moment(at: datetime) -> str:
    """Write a time as the audit stream does: UTC, microseconds."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def read_moment(text: str) -> datetime:
    """Read what `moment` wrote."""
    return datetime.fromisoformat(text)


def about(caller: Caller, policy: Policy, operation: Operation | None, appointment: str | None) -> Record:
    """Tell who asked for what; every record of a request starts so."""
    return {
        "request_id": caller.request_id,
        "correlation_id": caller.correlation_id,
        "partner": caller.partner,
        "customer": caller.customer,
        "grants_digest": policy.digest,
        "operation": operation.value if operation else None,
        "appointment": appointment,
        "token": {"iss": caller.token.issuer, "jti": caller.token.jti, "kid": caller.token.kid},
        "client": caller.client,
    }


def decided(decision: Decision, now: datetime) -> Record:
    """Tell a decision, every check behind it and the facts it saw."""
    return {
        **summary(decision),
        "facts": _facts(decision.facts) if decision.facts else None,
        "now": moment(now),
    }


def refused(refusal: Refusal, now: datetime) -> Record:
    """Tell a refusal."""
    return {"event": "refused", **decided(refusal, now)}


def failed(code: Code, now: datetime, status: int | None = None) -> Record:
    """Tell that a request came to nothing for a reason that is nobody's decision; `status` is PKB's, if it answered."""
    return {
        "event": "refused",
        "decision": "refuse",
        "code": code.value,
        "now": moment(now),
        "upstream": {"status": status} if status else None,
    }


def seen(permit: Permit, now: datetime) -> Record:
    """Tell that an appointment was shown."""
    return {"event": "read", **decided(permit, now)}


def intent(task: str, command: Write, before: Appointment, veil: Veil) -> Record:
    """Tell what is about to be sent; nothing is sent unless this is on disk."""
    return {
        "event": "intent",
        "task": task,
        "change": _changes(command, before, veil),
    }


def ended(outcome: Outcome, number: int, task: str, upstream: Upstream, *, recovered: bool, closed: bool) -> Record:
    """Tell how an intent ended, or that it is not known yet; `closed`: nobody will look any more."""
    return {
        "event": "outcome",
        "code": outcome_code(outcome),
        "intent": number,
        "task": task,
        "outcome": word(outcome),
        "final": is_final(outcome) or closed,
        "recovered": recovered,
        "upstream": upstream.as_record(),
    }


def outcome_code(outcome: Outcome) -> str | None:
    """Name the error code of an outcome that has one."""
    match outcome:
        case Rejected(code=code):
            return code.value
        case Unknown():
            return Code.OUTCOME_UNKNOWN.value
        case Applied() | Accepted():
            return None
        case unexpected:
            assert_never(unexpected)


def patient_of(appointment: Appointment | None, customer: Customer, veil: Veil) -> str | None:
    """Name the patient of an appointment under the veil."""
    if appointment is None or appointment.patient is None:
        return None
    patient = appointment.patient
    return veil.patient(patient.nhs_number, customer.route.name, patient.reference)


def reason(command: Command) -> str | None:
    """Give the code of a cancel's reason. A code that FHIR does not know is the partner's text and stays out."""
    given = command.reason if isinstance(command, Cancel) else None
    return given if given in CANCEL_REASONS else None


def _facts(facts: Facts) -> Record:
    return {
        "owner": list(facts.owner),
        "status": facts.status,
        "start": _written(facts.start),
        "labels": list(facts.labels),
        "specialties": list(facts.specialties),
        "fields": [field.value for field in facts.fields],
        "new_start": _written(facts.new_start),
        "patient": facts.patient.value,
    }


def _written(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _changes(command: Write, before: Appointment, veil: Veil) -> Record:
    if isinstance(command, Cancel):
        changes: Record = {"status": {"before": before.status.value, "after": "cancelled"}}
        if command.comment is not None:
            changes["comment"] = _text(before.comment, command.comment, veil)
        return changes
    return _changes_of(command, before, veil)


def _changes_of(command: Change, before: Appointment, veil: Veil) -> Record:
    changes: Record = {}
    if command.start is not None:
        changes["start"] = _time(before.start, command.start)
    if command.end is not None:
        changes["end"] = _time(before.end, command.end)
    if command.comment is not None:
        changes["comment"] = _text(before.comment, command.comment, veil)
    if command.location is not None:
        place = before.locations[0] if before.locations else None
        changes["location"] = _text(place, command.location, veil)
    if command.management_url is not None:
        changes["managementUrl"] = _text(None, command.management_url, veil)
    return changes


def _time(before: datetime | None, after: Instant) -> Record:
    return {"before": _written(before), "after": after.at.isoformat()}


def _text(before: str | None, after: str, veil: Veil) -> Record:
    return {"before": None if before is None else dict(veil.text(before)), "after": dict(veil.text(after))}
