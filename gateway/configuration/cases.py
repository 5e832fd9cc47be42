"""The customers' own tests of their grants: what they expect to be permitted and refused, run on every new file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from gateway.configuration import words
from gateway.configuration.document import Document, read_document
from gateway.configuration.grants_tables import Label, OperationName, Specialty, Table
from gateway.configuration.problems import Complaint, ConfigurationRefused, Problem
from gateway.configuration.secret import Reading
from gateway.configuration.shape import Exact, Id, Name, Shape, Whole, leaf
from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    Appointment,
    Cancel,
    Change,
    Command,
    Instant,
    Patient,
    Provenance,
    Read,
    Status,
)
from gateway.domain.codes import Code
from gateway.domain.decision import Decision, Permit
from gateway.domain.grant import Coding, Customer, Operation, Policy
from gateway.domain.rules import Claimant
from gateway.domain.trial import try_out

CASES: Final = "cases.toml"
"""The name of the file, in the folder of the grants file."""

ReadAppointment = Callable[[Path, Customer], Appointment]
"""Reads an appointment from a FHIR file. Raises ValueError with the reason."""

_CODES: Final = frozenset([*(code.value for code in Code), "patient-mismatch"])


def _at(value: object) -> date:
    at = words.moment(value)
    if not isinstance(at, datetime):
        raise ValueError("expected a date with a time and an offset, as in 2026-01-31T09:00:00+00:00")  # noqa: TRY004 - pydantic collects ValueError only
    return at


At = Annotated[datetime, PlainValidator(_at), WithJsonSchema({"type": "string", "format": "date-time"})]
StatusName = Annotated[Status, *leaf(words.one_of(Status, "a status of an appointment"), enum=list(Status))]
CodeName = Annotated[str, *leaf(words.one_of(_CODES, "a code of a refusal"), enum=sorted(_CODES))]


class AppointmentTable(Table):
    """The appointment that a case is about: told here, or in a file."""

    file: Annotated[Name | None, Field(description="a FHIR R4 Appointment, or a Bundle of it and its Patient")] = None
    owner: Annotated[Id | None, Field(description="whose it is: the id of a customer; the case's own unless given")] = (
        None
    )
    status: StatusName = Status.BOOKED
    start: At | None = None
    end: At | None = None
    privacy_labels: list[Label] = Field(default_factory=list)
    specialties: list[Specialty] = Field(default_factory=list)


class ChangeWish(Table):
    """What a change is to do; without any it stands for one whose own values are good."""

    start: At | None = None
    end: At | None = None
    comment: Name | None = None
    location: Name | None = None
    management_url: Annotated[Name | None, Field(alias="managementUrl")] = None


class CancelWish(Table):
    """What a cancel says."""

    reason: Exact | None = None
    comment: Name | None = None


class CaseTable(Table):
    """One test: who asks for what, when, and what is to come of it."""

    name: Annotated[Name, Field(description="what it is about, for people")]
    partner: Exact
    customer: Exact
    operation: OperationName
    now: Annotated[At, Field(description="the moment at which it is asked, with an offset")]
    appointment: AppointmentTable
    change: ChangeWish | None = None
    cancel: CancelWish | None = None
    expect: Literal["permit", "refuse"]
    code: Annotated[CodeName | None, Field(description="of a refusal; any unless given")] = None


def _consistent(case: CaseTable) -> CaseTable:
    told = case.appointment.model_fields_set - {"file"}
    if case.appointment.file is not None and told:
        raise ValueError("give the appointment either as a file or here, and not both")
    if case.change is not None and case.operation is not Operation.CHANGE:
        raise ValueError("change is for the operation change")
    if case.cancel is not None and case.operation is not Operation.CANCEL:
        raise ValueError("cancel is for the operation cancel")
    if case.code is not None and case.expect == "permit":
        raise ValueError("a permit has no code")
    return case


class CasesTables(Table):
    """The customers' own tests of their grants."""

    version: Annotated[Whole, Field(ge=1, le=1, description="the version of this file's layout, 1")]
    cases: list[Annotated[CaseTable, AfterValidator(_consistent)]] = Field(default_factory=list)


@cache
def cases_shape() -> Shape[CasesTables]:
    """The shape of the file."""
    return Shape(CasesTables)


@dataclass(frozen=True, slots=True)
class _Failure:
    complaint: Complaint
    opens: bool
    """Whether something is permitted that a customer wants refused."""


def run_cases(path: Path, policy: Policy, read_case: ReadAppointment | None) -> tuple[Problem, ...]:
    """Run every case under a policy; no file, no cases.

    Raises ConfigurationRefused where something is permitted that is to be refused. All else is given back: a case
    that gets no permit, or cannot be run, must not keep a revocation from counting.
    """
    if not path.exists():
        return ()
    try:
        document = read_document(path)
        tables = cases_shape().read(document.values, Reading(document.folder, secrets=False))
        if isinstance(tables, list):
            raise document.refusal(tables)
    except ConfigurationRefused as refused:
        return refused.problems
    failures = [*_failures(tables, document, policy, read_case)]
    if any(failure.opens for failure in failures):
        raise document.refusal(failure.complaint for failure in failures)
    return document.refusal(failure.complaint for failure in failures).problems


def _failures(
    tables: CasesTables, document: Document, policy: Policy, read_case: ReadAppointment | None
) -> Iterator[_Failure]:
    for number, case in enumerate(tables.cases):
        try:
            appointment = _appointment(case, document, policy, read_case)
        except ValueError as error:
            place: tuple[str | int, ...] = ("cases", number, "appointment")
            yield _Failure(Complaint(place, f"{words.echo(case.name)} cannot be run: {error}"), opens=False)
            continue
        who = Claimant(case.partner, case.customer)
        decision = try_out(who, _command(case), appointment, policy, case.now).decision
        told = _told(decision)
        permitted = isinstance(decision, Permit)
        if permitted == (case.expect == "permit") and (case.code is None or case.code in told):
            continue
        expected = case.expect if case.code is None else f"{case.expect} ({case.code})"
        found = "permit" if permitted else f"refuse ({told[0]})"
        message = f"{words.echo(case.name)} expects {expected}, found {found}"
        yield _Failure(Complaint(("cases", number, "expect"), message), opens=permitted)


def _told(decision: Decision) -> tuple[str, ...]:
    """Give the codes a refusal goes by: the audit's, and the partner's."""
    return () if isinstance(decision, Permit) else (decision.audit_code, decision.code.value)


def _appointment(
    case: CaseTable, document: Document, policy: Policy, read_case: ReadAppointment | None
) -> Appointment | None:
    """Make the appointment a case is about. Raises ValueError with the reason."""
    told = case.appointment
    customer = policy.customers.get(case.customer)
    if told.file is None:
        return _inline(told, policy.customers.get(told.owner or case.customer), policy)
    if customer is None:
        return None
    if read_case is None:
        raise ValueError("files of appointments are read with gateway.toml only")
    return read_case(document.folder / told.file, customer)


def _inline(told: AppointmentTable, owner: Customer | None, policy: Policy) -> Appointment:
    return Appointment(
        id="case",
        version="1",
        status=told.status,
        start=told.start,
        end=told.end,
        provenance=_provenance(owner, policy),
        # What HL7 needs besides; no case is about it.
        patient=Patient("Patient/case", "0000000000"),
        placer_id="case",
        labels=frozenset(told.privacy_labels),
        specialties=frozenset(told.specialties),
    )


def _provenance(owner: Customer | None, policy: Policy) -> Provenance:
    """Say whose it is in all the ways in which PKB's resources do."""
    if owner is None:
        return Provenance(0)
    if owner.organisation is None:
        return Provenance(1, owner.source, (owner.source,))
    above = policy.customers[owner.organisation]
    return Provenance(1, owner.source, (above.source,), (owner.source,))


def _command(case: CaseTable) -> Command:
    match case.operation:
        case Operation.READ:
            return Read()
        case Operation.CANCEL:
            wish = case.cancel or CancelWish()
            codings = () if wish.reason is None else (Coding(CANCEL_REASON_SYSTEM, wish.reason),)
            return Cancel(codings, comment=wish.comment)
        case _:
            change = case.change or ChangeWish()
            start, end = (None if at is None else Instant(at, at.isoformat()) for at in (change.start, change.end))
            return Change(start, end, change.comment, change.location, change.management_url)
