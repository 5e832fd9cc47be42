"""Valid values to start a test from, and all sorts of them made by chance.

Two organisations share a box that names them by the patient's managing organisation (`airedale` with two teams, and
`wharfedale`); `bradford` is reached by HL7 and names owners in `meta`, with one team; `leeds` has its own endpoint.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    GENERAL_HEALTH,
    SNOMED_CT,
    Appointment,
    Cancel,
    Change,
    Command,
    Instant,
    Patient,
    PatientClaim,
    Provenance,
    Read,
    Status,
)
from gateway.domain.grant import (
    Coding,
    Customer,
    CustomerKind,
    Field,
    Grant,
    Operation,
    Ownership,
    Partner,
    Policy,
    Rate,
    Route,
    RouteKind,
)
from gateway.domain.rules import Claimant

T = TypeVar("T")

NOW = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LONDON = ZoneInfo("Europe/London")

GENERAL = frozenset({GENERAL_HEALTH})
SEXUAL_HEALTH = "SEXUAL_HEALTH"
CARDIOLOGY = Coding(SNOMED_CT, "394579002")
DERMATOLOGY = Coding(SNOMED_CT, "394582007")

BOX = Route("airedale-box", RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION)
HL7 = Route("bradford", RouteKind.HL7, Ownership.RESOURCE_META)
ENDPOINT = Route("leeds-box", RouteKind.CUSTOMER_FHIR, Ownership.WHOLE_ENDPOINT)

NHS_NUMBER = "9990000018"
BORN = date(1980, 2, 29)
PATIENT_CANCELS = Coding(CANCEL_REASON_SYSTEM, "pat")
WHO = Claimant("swiftbook", "airedale")


def partner(id: str = "swiftbook", **changes: Any) -> Partner:  # noqa: A002 - the field's own name
    """Make a partner in good standing."""
    values: dict[str, Any] = {"name": id.title(), "pkb_client_id": f"pkb-{id}", "rate": Rate(600, 60)}
    return Partner(id, **(values | changes))


def customer(id: str = "airedale", **changes: Any) -> Customer:  # noqa: A002 - the field's own name
    """Make an organisation on the shared box."""
    values: dict[str, Any] = {
        "name": id.title(),
        "kind": CustomerKind.ORGANISATION,
        "source": f"Organization/{id}",
        "route": BOX,
        "time_zone": LONDON,
        "privacy_labels": frozenset({GENERAL_HEALTH, SEXUAL_HEALTH}),
    }
    return Customer(id, **(values | changes))


def team(id: str = "airedale-cardiology", organisation: str = "airedale", **changes: Any) -> Customer:  # noqa: A002 - the field's own name
    """Make a team of an organisation."""
    return customer(id, kind=CustomerKind.TEAM, organisation=organisation, **changes)


def grant(**changes: Any) -> Grant:
    """Make a grant of everything that the demo partner has: two days' notice, no reach to other labels."""
    values: dict[str, Any] = {
        "id": "airedale-swiftbook",
        "customer": "airedale",
        "partner": "swiftbook",
        "operations": frozenset(Operation),
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "valid_until": datetime(2027, 1, 1, tzinfo=UTC),
        "privacy_labels": GENERAL,
        "notice": 2 * DAY,
        "patient_required": False,
        "change_fields": frozenset({Field.START, Field.END, Field.COMMENT, Field.LOCATION}),
    }
    return Grant(**(values | changes))


CUSTOMERS: tuple[Customer, ...] = (
    customer(),
    team(),
    team("airedale-dermatology"),
    customer("wharfedale"),
    customer("bradford", route=HL7),
    team("bradford-eyes", "bradford", route=HL7),
    customer("leeds", route=ENDPOINT),
)
PARTNERS: tuple[Partner, ...] = (partner(), partner("cardiolink"), partner("suspended", suspended=True))


def policy(
    *grants: Grant,
    customers: Iterable[Customer] = CUSTOMERS,
    partners: Iterable[Partner] = PARTNERS,
    digest: str = "d1",
) -> Policy:
    """Make a policy of these grants; without any, of `grant()` alone. `no_grants()` makes an empty one."""
    return Policy(digest, {p.id: p for p in partners}, {c.id: c for c in customers}, grants or (grant(),))


def no_grants() -> Policy:
    """Make a policy that grants nothing to anybody."""
    return Policy("d0", {p.id: p for p in PARTNERS}, {c.id: c for c in CUSTOMERS}, ())


def owned_by(source: str | None) -> Provenance:
    """Say that the one patient's managing organisation is `source`."""
    return Provenance(1, managing_organisation=source)


def appointment(**changes: Any) -> Appointment:
    """Make a booked appointment of Airedale's, thirty days ahead, half an hour long."""
    values: dict[str, Any] = {
        "id": "a-1",
        "version": "7",
        "status": Status.BOOKED,
        "start": NOW + 30 * DAY,
        "end": NOW + 30 * DAY + HOUR / 2,
        "provenance": owned_by("Organization/airedale"),
        "patient": Patient("Patient/p-1", NHS_NUMBER, BORN),
    }
    return Appointment(**(values | changes))


def by_hl7(**changes: Any) -> Appointment:
    """Make a booked appointment of Bradford's, which HL7 names by its placer id."""
    told = replace(owned_by(None), source_organisations=("Organization/bradford",))
    return appointment(**({"provenance": told, "placer_id": "P-1", "reason_shown": False} | changes))


def instant(at: datetime) -> Instant:
    """Write a point in time as a partner would."""
    return Instant(at, at.isoformat())


def cancel(**changes: Any) -> Cancel:
    """Make a cancel in the patient's name."""
    values: dict[str, Any] = {"codings": (PATIENT_CANCELS,)}
    return Cancel(**(values | changes))


def move(start: datetime, end: datetime | None = None, **changes: Any) -> Change:
    """Make a change of time; without an end, half an hour long."""
    return Change(instant(start), instant(end or start + HOUR / 2), **changes)


# Strategies. Each draws one seed and lets chance do the rest: a hundred times as many cases as drawing every value.
# Times come from few distances, so that both sides of every boundary and the boundary itself occur.

LABELS = (GENERAL_HEALTH, SEXUAL_HEALTH, "MENTAL_HEALTH", "NO_SUCH_LABEL")
SPECIALTIES = (CARDIOLOGY, DERMATOLOGY, Coding("urn:local", "394579002"))
SOURCES = (*(c.source for c in CUSTOMERS), "Organization/stranger")
NOTICES = (timedelta(0), HOUR, 2 * DAY)
REASONS = ("pat", "prov", "other", "no-such-reason")
DISTANCES = tuple(
    sign * base + tick for base in (*NOTICES, 5 * DAY) for tick in (-TICK, 0 * TICK, TICK) for sign in (1, 1, 1, -1)
)
PERIODS = (*[(-30, 30)] * 12, (-30, 0), (0, 30), (0, 30), (-2, 2), (-30, -2), (2, 30))
"""In days around NOW."""


def some(chance: Random, values: Sequence[T]) -> frozenset[T]:
    """Draw a set of these values, perhaps none."""
    return frozenset(value for value in values if chance.random() < 0.5)


def rarely(chance: Random, one_in: int = 8) -> bool:
    """Draw whether something unusual happens."""
    return chance.randrange(one_in) == 0


def a_moment(chance: Random) -> datetime:
    """Draw a moment around NOW, often on a boundary, written with any offset that exists."""
    return (NOW + chance.choice(DISTANCES)).astimezone(timezone(chance.choice([0, 0, 14, -14]) * HOUR))


def a_claim(chance: Random) -> PatientClaim:
    """Draw what a partner may say of the patient, mostly nothing or the truth."""
    number = "9990000026" if rarely(chance, 16) else chance.choice([None, NHS_NUMBER])
    return PatientClaim(number, BORN + DAY if rarely(chance, 16) else chance.choice([None, BORN]))


def a_command(chance: Random) -> Command:
    """Draw any command a partner may give."""
    match chance.choice(["read", "cancel", "change", "change"]):
        case "read":
            return Read()
        case "cancel":
            system = "urn:local" if rarely(chance) else CANCEL_REASON_SYSTEM
            codings = [Coding(system, chance.choice(REASONS)) for _ in range(chance.choice([0, 1, 1, 1, 1, 1, 2]))]
            return Cancel(tuple(codings), comment="Away" if rarely(chance) else None, claim=a_claim(chance))
        case _:
            start = a_moment(chance) if chance.random() < 0.6 else None
            end = chance.choice([None, (start or NOW + 2 * DAY) + HOUR, a_moment(chance)])
            return Change(
                instant(start) if start else None,
                instant(end) if end else None,
                chance.choice([None, None, "Ring the bell", "Side door"]),
                chance.choice([None, None, None, "Side door"]),
                "https://x.example" if rarely(chance) else None,
                a_claim(chance),
            )


def a_provenance(chance: Random) -> Provenance:
    """Draw whose an appointment is said to be, contradictions included."""
    return Provenance(
        chance.choice([0, 1, 1, 1, 1, 1, 1, 2]),
        chance.choice([None, *SOURCES]),
        tuple(chance.choices(SOURCES, k=chance.choice([0, 1, 1, 2]))),
        tuple(chance.choices(SOURCES, k=chance.choice([0, 1, 1, 2]))),
    )


def an_appointment(chance: Random, source: str | None = None) -> Appointment:
    """Draw an appointment in any state, mostly of the customer called `source`, else anybody's or nobody's."""
    told = (
        Provenance(1, source, (source,) if source else ()) if source and not rarely(chance, 4) else a_provenance(chance)
    )
    kept = Patient("Patient/p-1", NHS_NUMBER, BORN)
    start = None if rarely(chance) else chance.choice([NOW + 5 * DAY, NOW + 5 * DAY, a_moment(chance)])
    return appointment(
        status=chance.choice(list(Status)) if rarely(chance, 4) else chance.choice([Status.BOOKED, Status.PENDING]),
        start=start,
        end=chance.choice([None, (start or NOW) + HOUR, a_moment(chance)]),
        provenance=told,
        patient=chance.choice([None, Patient("Patient/p-1")]) if rarely(chance) else kept,
        labels=some(chance, LABELS) if rarely(chance, 5) else GENERAL,
        specialties=some(chance, SPECIALTIES),
        comment=chance.choice([None, "Ring the bell"]),
        locations=chance.choice([(), ("Side door",), ("Side door",), ("Side door", None)]),
        placer_id=None if rarely(chance) else "P-1",
        participants=(None,) if rarely(chance) else chance.choice([(), ("Dr. Bell",)]),
    )


def a_grant(chance: Random, **terms: Any) -> Grant:
    """Draw the terms of a grant, mostly generous ones."""
    return grant(
        operations=some(chance, list(Operation)) if rarely(chance) else frozenset(Operation),
        privacy_labels=some(chance, LABELS) | (frozenset() if rarely(chance) else GENERAL),
        specialties=some(chance, SPECIALTIES) if rarely(chance, 6) else None,
        notice=chance.choice(NOTICES),
        within=chance.choice([None, None, timedelta(0), HOUR, 3 * DAY, 5 * DAY]),
        change_fields=some(chance, list(Field)) if rarely(chance, 4) else frozenset(Field),
        cancel_reasons=chance.choice([None, None, frozenset({"pat"}), frozenset(REASONS[:3])]),
        **terms,
    )


def grants_of(chance: Random, held_by: str, granted_to: str) -> list[Grant]:
    """Draw what one customer grants one partner: times that never overlap, and perhaps a shadow."""
    begin, end = (NOW + days * DAY for days in chance.choice(PERIODS))
    name = f"{held_by}-{granted_to}"
    about: dict[str, Any] = {"customer": held_by, "partner": granted_to}
    drawn = [a_grant(chance, id=f"{name}-1", valid_from=begin, valid_until=end, **about)]
    if chance.random() < 0.5:
        drawn.append(a_grant(chance, id=f"{name}-2", valid_from=end, valid_until=end + 30 * DAY, **about))
    if rarely(chance):
        drawn[0] = replace(drawn[0], shadow=True)
    return drawn


def a_policy(chance: Random) -> Policy:
    """Draw a policy such as the loader lets through; most customers grant most partners something."""
    grants: list[Grant] = []
    for holder in CUSTOMERS:
        for known in PARTNERS:
            grants += [] if rarely(chance, 12) else grants_of(chance, holder.id, known.id)
    partners = [replace(known, suspended=known.suspended or rarely(chance, 24)) for known in PARTNERS]
    return Policy("drawn", {p.id: p for p in partners}, {c.id: c for c in CUSTOMERS}, tuple(grants))


def a_claimant(chance: Random) -> Claimant:
    """Draw who asks on whose behalf, strangers included."""
    asks = chance.choice(["suspended", "nobody"]) if rarely(chance, 16) else chance.choice(["swiftbook", "cardiolink"])
    return Claimant(asks, "nowhere" if rarely(chance, 24) else chance.choice(CUSTOMERS).id)
