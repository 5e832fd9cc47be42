"""The rules. Read this file to know what the gateway permits.

A rule answers one question about a case, True meaning "fine". Rules are total: they cannot fail, so nothing has to
be decided about what a failing rule means. All are asked, the first that fails gives the code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.appointment import (
    CANCEL_REASONS,
    CHANGEABLE,
    Appointment,
    Cancel,
    Change,
    Command,
    Patient,
    PatientClaim,
    Read,
    Status,
)
from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Facts, PatientMatch, Permit, Refusal, check, with_shadow
from gateway.domain.grant import FIELDS_BY_ROUTE, Customer, Field, Grant, Operation, Policy, RouteKind
from gateway.domain.hl7_limits import Unsayable, unsayable
from gateway.domain.intents import EITHER, NOTHING, Meaning
from gateway.domain.ownership import owners


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a rule may look at."""

    command: Command
    appointment: Appointment
    owner: tuple[str, ...]
    customer: Customer
    grant: Grant
    now: datetime
    expected_version: str | None
    meaning: Meaning | None = None
    """Where the command was found by comparing: how."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A question with a name, and the code that tells the partner it was answered with no."""

    name: str
    code: Code
    passes: Callable[[Case], bool]
    recorded_as: str = ""


def _labels_granted(case: Case) -> bool:
    # A grant cannot exceed its grantor, whatever a file that slipped through its checks says.
    return case.appointment.labels <= case.grant.privacy_labels & case.customer.privacy_labels


def _specialty_granted(case: Case) -> bool:
    granted = case.grant.specialties
    return granted is None or not granted.isdisjoint(case.appointment.specialties)


def _patient_matches(case: Case) -> bool:
    return match_patient(case.command.claim, case.appointment.patient) is not PatientMatch.MISMATCH


def _version_expected(case: Case) -> bool:
    return case.expected_version is None or case.expected_version == case.appointment.version


# Owner, labels, specialties and patient answer alike: a partner must not learn that somebody else's exists.
WITHIN_REACH: tuple[Rule, ...] = (
    Rule("owned-by-customer", Code.NOT_FOUND, lambda c: c.customer.id in c.owner),
    Rule("labels-granted", Code.NOT_FOUND, _labels_granted),
    Rule("specialty-granted", Code.NOT_FOUND, _specialty_granted),
    Rule("patient-matches", Code.NOT_FOUND, _patient_matches, recorded_as="patient-mismatch"),
)


def _start(case: Case) -> datetime:
    # Without a start `start-known` has failed already; the rules after it must still be able to answer.
    return case.appointment.start or case.now


# PKB revives a cancelled appointment when it is changed, and takes a change of one that is over: these guard the
# record itself, whatever the grant says.
OPEN_TO_CHANGE: tuple[Rule, ...] = (
    Rule("not-cancelled", Code.ALREADY_CANCELLED, lambda c: c.appointment.status is not Status.CANCELLED),
    Rule("status-changeable", Code.NOT_CHANGEABLE, lambda c: c.appointment.status in CHANGEABLE),
    Rule("start-known", Code.NOT_CHANGEABLE, lambda c: c.appointment.start is not None),
    Rule(
        "in-the-future",
        Code.IN_THE_PAST,
        lambda c: c.appointment.start is None or c.now < c.appointment.start,
    ),
    Rule("notice-kept", Code.TOO_LATE, lambda c: c.grant.notice <= _start(c) - c.now),
)


def _fields_on_route(case: Case) -> bool:
    command = case.command
    return not isinstance(command, Change) or command.fields <= FIELDS_BY_ROUTE[case.customer.route.kind]


def _supported_on_route(case: Case) -> bool:
    return _fields_on_route(case) and _why_unsayable(case) is None


def _why_unsayable(case: Case) -> Unsayable | None:
    command = case.command
    if isinstance(command, Read) or case.customer.route.kind is not RouteKind.HL7:
        return None
    return unsayable(command, case.appointment, case.customer.time_zone)


def _fields_granted(case: Case) -> bool:
    command = case.command
    return not isinstance(command, Change) or command.fields <= case.grant.change_fields


def _one_location(case: Case) -> bool:
    # With several Locations there is no telling which one the partner means.
    command = case.command
    moves = isinstance(command, Change) and command.location is not None
    return not moves or len(case.appointment.locations) <= 1


def _reason_allowed(case: Case) -> bool:
    command = case.command
    return not isinstance(command, Cancel) or command.reason in allowed_reasons(case.grant)


def _something_changes(case: Case) -> bool:
    command = case.command
    return not isinstance(command, Change) or bool(_differences(command, case.appointment))


def _ends_after_start(case: Case) -> bool:
    command, appointment = case.command, case.appointment
    if not isinstance(command, Change) or (command.start is None and command.end is None):
        return True
    start = command.start.at if command.start else appointment.start
    end = command.end.at if command.end else appointment.end
    return start is None or end is None or start < end


def _new_start(case: Case) -> datetime | None:
    command = case.command
    return command.start.at if isinstance(command, Change) and command.start else None


def _new_start_in_the_future(case: Case) -> bool:
    new = _new_start(case)
    return new is None or case.now < new


def _new_start_in_the_window(case: Case) -> bool:
    new, within = _new_start(case), case.grant.within
    if new is None:
        return True
    near = within is None or abs(new - _start(case)) <= within
    return near and case.grant.notice <= new - case.now


ON_ROUTE: tuple[Rule, ...] = (Rule("supported-on-route", Code.NOT_SUPPORTED_ON_ROUTE, _supported_on_route),)

ABOUT_ITS_VALUES: tuple[Rule, ...] = (
    Rule("fields-granted", Code.FIELD_NOT_CHANGEABLE, _fields_granted),
    Rule("one-location", Code.FIELD_NOT_CHANGEABLE, _one_location),
    Rule("reason-allowed", Code.REASON_NOT_ALLOWED, _reason_allowed),
    Rule("something-changes", Code.NOTHING_TO_CHANGE, _something_changes),
    Rule("ends-after-start", Code.END_BEFORE_START, _ends_after_start),
    Rule("new-start-in-the-future", Code.NEW_TIME_IN_THE_PAST, _new_start_in_the_future),
    Rule("new-start-in-the-window", Code.OUTSIDE_CHANGE_WINDOW, _new_start_in_the_window),
)

ABOUT_THE_COMMAND: tuple[Rule, ...] = ON_ROUTE + ABOUT_ITS_VALUES

VERSION: tuple[Rule, ...] = (Rule("version-expected", Code.VERSION_CONFLICT, _version_expected),)


def _meaning(case: Case) -> Meaning:
    return case.meaning or NOTHING


# Asked only where the partner sent what the appointment is to look like instead of what to do.
INTENT: tuple[Rule, ...] = (
    Rule("tests-hold", Code.VERSION_CONFLICT, lambda c: _meaning(c).meets(Code.VERSION_CONFLICT)),
    Rule("values-fit", Code.INVALID_PARAMETER, lambda c: _meaning(c).meets(Code.INVALID_PARAMETER)),
    Rule("one-intent", Code.MIXED_INTENT, lambda c: not _meaning(c).mixed),
    Rule(
        "intent-granted",
        Code.OPERATION_NOT_GRANTED,
        lambda c: not _meaning(c).operations.isdisjoint(c.grant.operations),
    ),
)

NOTHING_BEYOND: tuple[Rule, ...] = (
    Rule("nothing-beyond", Code.FIELD_NOT_CHANGEABLE, lambda c: _meaning(c).beyond is None),
)


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who asks, and on whose behalf."""

    partner: str
    customer: str


# What has been asked and passed, so far, on the way in.
_ACTIVE = (check("partner-active", True),)
_GRANTED = (*_ACTIVE, check("granted", True))
_IN_FORCE = (*_GRANTED, check("grant-begun", True), check("grant-not-ended", True))
_ADMITTED = (*_IN_FORCE, check("operation-granted", True))


def _no(rule: str) -> Check:
    return check(rule, False)


def admit(who: Claimant, operations: frozenset[Operation], policy: Policy, now: datetime) -> Decision:
    """Decide what can be decided before PKB is read: partner, grant, its time, and any one of the operations."""
    return with_shadow(policy, who.customer, who.partner, lambda known: _admit(who, operations, known, now))


def _admit(who: Claimant, operations: frozenset[Operation], policy: Policy, now: datetime) -> Decision:
    partner = policy.partners.get(who.partner)
    if partner is None or partner.suspended:
        return Refusal(Code.PARTNER_SUSPENDED, (_no("partner-active"),))
    if policy.blocked(who.partner):
        return Refusal(Code.PARTNER_SUSPENDED, (*_ACTIVE, _no("partner-not-blocked")))
    if policy.blocked(who.partner, who.customer):
        return Refusal(Code.NO_GRANT, (*_ACTIVE, _no("grant-not-blocked")))
    held = policy.held(who.customer, who.partner) if who.customer in policy.customers else ()
    if not held:
        return Refusal(Code.NO_GRANT, (*_ACTIVE, _no("granted")))
    in_force = next((grant for grant in held if grant.in_force(now)), None)
    if in_force is None:
        return _not_in_force(held, now)
    if operations.isdisjoint(in_force.operations):
        return Refusal(Code.OPERATION_NOT_GRANTED, (*_IN_FORCE, _no("operation-granted")), in_force)
    return Permit(in_force, _ADMITTED)


def _not_in_force(held: tuple[Grant, ...], now: datetime) -> Refusal:
    begun = [grant for grant in held if grant.valid_from <= now]
    coming = next((grant for grant in held if now < grant.valid_from), None)
    if coming is not None:
        return Refusal(Code.GRANT_NOT_YET_VALID, (*_GRANTED, _no("grant-begun")), coming)
    return Refusal(Code.GRANT_EXPIRED, (*_GRANTED, check("grant-begun", True), _no("grant-not-ended")), begun[-1])


def decide(
    who: Claimant,
    command: Command | Meaning,
    appointment: Appointment | None,
    policy: Policy,
    now: datetime,
    expected_version: str | None = None,
) -> Decision:
    """Decide a command against PKB's copy. Pure: the same arguments, the same verdict, in next year's audit too."""
    operations = EITHER if isinstance(command, Meaning) else frozenset({command.operation})

    def under(known: Policy) -> Decision:
        admitted = _admit(who, operations, known, now)
        if isinstance(admitted, Refusal):
            return admitted
        return weigh(admitted, who, command, appointment, known, now, expected_version)

    return with_shadow(policy, who.customer, who.partner, under)


def weigh(
    admitted: Permit,
    who: Claimant,
    command: Command | Meaning,
    appointment: Appointment | None,
    policy: Policy,
    now: datetime,
    expected_version: str | None = None,
) -> Decision:
    """Weigh a command under the one grant that admitted it."""
    grant = admitted.grant
    customer = policy.customers.get(who.customer)
    if customer is None:
        return Refusal(Code.NO_GRANT, (*admitted.checks, Check("customer-known", passed=False)), grant)
    found = check("appointment-exists", appointment is not None)
    if appointment is None:
        return Refusal(Code.NOT_FOUND, (*admitted.checks, found), grant)

    owner = owners(appointment.provenance, customer.route, policy)
    meaning = command if isinstance(command, Meaning) else None
    told = command.command if isinstance(command, Meaning) else command
    case = Case(told, appointment, owner, customer, grant, now, expected_version, meaning)
    facts = _facts(case)
    asked = rules_for(command)
    passed = [rule.passes(case) for rule in asked]
    checks = (*admitted.checks, found, *map(check, [rule.name for rule in asked], passed))
    if all(passed):
        return Permit(grant, checks, facts)
    failed = asked[passed.index(False)]
    detail = explain(failed, case)
    return Refusal(failed.code, checks, grant, facts, recorded_as=failed.recorded_as, detail=detail)


def rules_for(command: Command | Meaning) -> tuple[Rule, ...]:
    """List the rules a command must pass once PKB has been read, in the order in which they answer."""
    if isinstance(command, Read):
        return WITHIN_REACH
    if isinstance(command, Meaning):
        return WITHIN_REACH + VERSION + INTENT + OPEN_TO_CHANGE + ON_ROUTE + NOTHING_BEYOND + ABOUT_ITS_VALUES
    return WITHIN_REACH + VERSION + OPEN_TO_CHANGE + ABOUT_THE_COMMAND


def match_patient(claim: PatientClaim, patient: Patient | None) -> PatientMatch:
    """Compare what the partner said of the patient with PKB's Patient; what PKB lacks cannot match."""
    if not claim.given:
        return PatientMatch.ABSENT
    number = patient.nhs_number if patient else None
    born = patient.birth_date if patient else None
    same_number = claim.nhs_number is None or claim.nhs_number == number
    same_birth = claim.birth_date is None or claim.birth_date == born
    return PatientMatch.MATCH if same_number and same_birth else PatientMatch.MISMATCH


def allowed_reasons(grant: Grant) -> frozenset[str]:
    """Give the cancel reasons a grant allows; without a list of its own, any code of the FHIR system."""
    return CANCEL_REASONS if grant.cancel_reasons is None else grant.cancel_reasons


def allowed_fields(grant: Grant, customer: Customer) -> frozenset[Field]:
    """Give the fields a grant lets a partner change on the customer's route."""
    return grant.change_fields & FIELDS_BY_ROUTE[customer.route.kind]


def _differences(change: Change, appointment: Appointment) -> frozenset[Field]:
    """Which values PKB does not have yet. A management URL cannot be read, so it always counts."""
    different = {
        Field.START: change.start is not None and change.start.at != appointment.start,
        Field.END: change.end is not None and change.end.at != appointment.end,
        Field.COMMENT: change.comment is not None and change.comment != appointment.comment,
        Field.LOCATION: change.location is not None and (change.location,) != appointment.locations,
        Field.MANAGEMENT_URL: change.management_url is not None,
    }
    return frozenset(field for field, differs in different.items() if differs)


def _facts(case: Case) -> Facts:
    appointment, command = case.appointment, case.command
    return Facts(
        owner=case.owner,
        status=appointment.status.value,
        start=appointment.start,
        labels=tuple(sorted(appointment.labels)),
        specialties=tuple(sorted(f"{each.system}|{each.code}" for each in appointment.specialties)),
        fields=tuple(sorted(command.fields)) if isinstance(command, Change) else (),
        new_start=_new_start(case),
        patient=match_patient(command.claim, appointment.patient),
    )


def explain(rule: Rule, case: Case) -> str:
    """Say what failed about this very case, in dates and field names; nothing of the patient's or PKB's."""
    if rule.code is Code.TOO_LATE:
        return _tell_deadline(_start(case), case.grant.notice)
    if rule.name == "fields-granted" and isinstance(case.command, Change):
        return _list_fields("Not granted", case.command.fields - case.grant.change_fields)
    if rule.name == "supported-on-route":
        return _explain_route(case)
    if rule.name == "one-location":
        return "The appointment has several locations, so location cannot be changed."
    return _meaning(case).detail if rule.name in {"tests-hold", "values-fit", "nothing-beyond"} else ""


def _explain_route(case: Case) -> str:
    if isinstance(case.command, Change) and not _fields_on_route(case):
        return _list_fields(
            "Not possible on this route", case.command.fields - FIELDS_BY_ROUTE[case.customer.route.kind]
        )
    return str(_why_unsayable(case) or "")


def _tell_deadline(start: datetime, notice: timedelta) -> str:
    try:
        deadline = (start - notice).astimezone(UTC)
    except OverflowError:  # the calendar ends at the years 1 and 9999
        return ""
    return f"The last moment was {deadline.isoformat(timespec='seconds').replace('+00:00', 'Z')}."


def _list_fields(what: str, fields: frozenset[Field]) -> str:
    return f"{what}: {', '.join(sorted(fields))}."
