"""What a partner searches for, what of it PKB is asked, and which of PKB's hits the partner is shown.

PKB is asked for less where that loses nothing (the way up); what it answers is judged hit by hit by the rules of a
read (the way down). Only the second protects anybody: a server may ignore what it was asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.domain.appointment import Appointment, Read, Status
from gateway.domain.decision import Permit
from gateway.domain.grant import Coding, Customer, Grant, Ownership, Policy
from gateway.domain.rules import Claimant, decide

USUAL_COUNT: Final = 20
MOST_COUNT: Final = 100
MOST_NARROWING: Final = 50
"""More organisations or specialties than this are not named to PKB: the request would become too long."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a partner asks for. All of it must be met; a patient or an identifier is always named."""

    patient: Coding | None = None
    """A business identifier of the patient: system and value."""
    identifier: Coding | None = None
    """A business identifier of the appointment."""
    since: datetime | None = None
    """The earliest start, inclusive."""
    before: datetime | None = None
    """The latest start, exclusive."""
    statuses: frozenset[Status] = frozenset()
    """Empty: any."""
    count: int = USUAL_COUNT
    """How many hits are shown at most."""

    def __post_init__(self) -> None:
        """Nobody searches without naming what it is about. Raises ValueError."""
        if self.patient is None and self.identifier is None:
            raise ValueError("a search names a patient or an identifier")
        if not 1 <= self.count <= MOST_COUNT:
            raise ValueError("a search shows 1 to 100 hits")


@dataclass(frozen=True, slots=True)
class Hit:
    """One of PKB's answers to a search."""

    appointment: Appointment
    identifiers: frozenset[Coding]
    """The business identifiers of its one patient, none where the patient is not proven."""
    body: bytes
    """The resource as a read would show it: FHIR R4, numbers and unknown elements as PKB wrote them."""


@dataclass(frozen=True, slots=True)
class Reach:
    """As far as PKB need look for a grant; what is empty is not narrowed."""

    organisations: tuple[str, ...] = ()
    """References that a managing organisation may be."""
    specialties: tuple[Coding, ...] = ()


def narrow(customer: Customer, grant: Grant, policy: Policy) -> Reach:
    """Tell what a search may leave out because no read would show it.

    Labels are not narrowed, because an appointment without one counts as general health; nor is an owner that
    `meta` tells in one of two ways.
    """
    organisations: tuple[str, ...] = ()
    if customer.route.ownership is Ownership.MANAGING_ORGANISATION:
        organisations = tuple(
            sorted(
                known.source
                for known in policy.customers.values()
                if known.route.name == customer.route.name and customer.id in {known.id, known.organisation}
            )
        )
    specialties = tuple(sorted(grant.specialties or ()))
    return Reach(
        organisations if len(organisations) <= MOST_NARROWING else (),
        specialties if len(specialties) <= MOST_NARROWING else (),
    )


def is_asked_for(query: Query, appointment: Appointment) -> bool:
    """Whether an appointment is what was searched for, as far as it says so itself; the patient's side is `meets`."""
    start = appointment.start
    if query.identifier is not None and query.identifier not in appointment.identifiers:
        return False
    if query.statuses and appointment.status not in query.statuses:
        return False
    if query.since is not None and (start is None or start < query.since):
        return False
    return query.before is None or (start is not None and start < query.before)


def meets(query: Query, hit: Hit) -> bool:
    """Whether a hit is what was searched for, whatever PKB made of the question."""
    right_patient = query.patient is None or query.patient in hit.identifiers
    return right_patient and is_asked_for(query, hit.appointment)


def judge(who: Claimant, query: Query, policy: Policy, now: datetime) -> Callable[[Hit], bool]:
    """Make the test that every hit must pass: asked for, and one that a read would show now."""

    def shows(hit: Hit) -> bool:
        return meets(query, hit) and isinstance(decide(who, Read(), hit.appointment, policy, now), Permit)

    return shows
