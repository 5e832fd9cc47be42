"""Valid values to start a test from, and strategies that make all sorts of them.

Two organisations share a box that names them by the patient's managing organisation (`airedale` with two teams, and
`wharfedale`); `bradford` is reached by HL7 and names owners in `meta`, with one team; `leeds` has its own endpoint.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
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
from hypothesis import strategies as st

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


# Strategies. Times are drawn from few distances, so that both sides of every boundary and the boundary itself occur.

LABELS = (GENERAL_HEALTH, SEXUAL_HEALTH, "MENTAL_HEALTH", "NO_SUCH_LABEL")
SPECIALTIES = (CARDIOLOGY, DERMATOLOGY, Coding("urn:local", "394579002"))
SOURCES = (*(c.source for c in CUSTOMERS), "Organization/stranger")
NOTICES = (timedelta(0), HOUR, 2 * DAY)
REASONS = ("pat", "prov", "other", "no-such-reason")
DISTANCES = tuple(
    sorted(
        {sign * (base + tick) for base in (*NOTICES, 5 * DAY) for tick in (-TICK, 0 * TICK, TICK) for sign in (1, -1)}
    )
)


def some(values: Iterable[Any], least: int = 0) -> st.SearchStrategy[frozenset[Any]]:
    """Draw a set of these values."""
    return st.frozensets(st.sampled_from(tuple(values)), min_size=least)


def moments() -> st.SearchStrategy[datetime]:
    """Draw a moment around NOW, often on a boundary, written with any offset that exists."""
    offsets = st.sampled_from([timedelta(0), 14 * HOUR, -14 * HOUR])
    return st.builds(lambda distance, offset: _shown_at(NOW + distance, offset), st.sampled_from(DISTANCES), offsets)


def _shown_at(at: datetime, offset: timedelta) -> datetime:
    return at.astimezone(timezone(offset))


def claims() -> st.SearchStrategy[PatientClaim]:
    """Draw what a partner may say of the patient, mostly nothing or the truth."""
    numbers = st.sampled_from([None, None, NHS_NUMBER, NHS_NUMBER, "9990000026"])
    births = st.sampled_from([None, None, BORN, BORN, date(1980, 3, 1)])
    return st.builds(PatientClaim, numbers, births)


def commands() -> st.SearchStrategy[Command]:
    """Draw any command a partner may give."""
    codings = st.lists(
        st.builds(Coding, st.sampled_from([CANCEL_REASON_SYSTEM] * 3 + ["urn:local"]), st.sampled_from(REASONS)),
        max_size=2,
    ).map(tuple)
    instants = st.none() | moments().map(instant)
    words = st.sampled_from([None, None, "Ring the bell", "Side door"])
    changes = st.builds(
        Change, instants, instants, words, words, st.sampled_from([None, None, "https://x.example"]), claims()
    )
    return st.just(Read()) | st.builds(Cancel, codings, st.none(), words, claims()) | changes


def appointments() -> st.SearchStrategy[Appointment]:
    """Draw appointments in every state, anybody's, nobody's, and those whose resources contradict each other."""
    sources = st.lists(st.sampled_from(SOURCES), max_size=2).map(tuple)
    provenances = st.builds(
        Provenance, st.sampled_from([0, 1, 1, 1, 1, 2]), st.none() | st.sampled_from(SOURCES), sources, sources
    )
    likely = st.sampled_from([c.source for c in CUSTOMERS[:4]]).map(owned_by)
    return st.builds(
        appointment,
        status=st.sampled_from([Status.BOOKED] * 8 + list(Status)),
        start=st.sampled_from([None, *[NOW + 5 * DAY] * 4]) | moments(),
        end=st.none() | moments(),
        provenance=likely | provenances,
        patient=st.sampled_from([None, Patient("Patient/p-1"), *[Patient("Patient/p-1", NHS_NUMBER, BORN)] * 3]),
        labels=st.just(GENERAL) | some(LABELS),
        specialties=some(SPECIALTIES),
        comment=st.sampled_from([None, "Ring the bell"]),
        locations=st.sampled_from([(), ("Side door",), ("Side door", None)]),
    )


@st.composite
def grants_of(draw: st.DrawFn, held_by: str, granted_to: str) -> list[Grant]:
    """Draw what one customer grants one partner: times that never overlap, shadow ones anywhere."""
    cuts = sorted(draw(st.frozensets(st.sampled_from([-30, -2, 0, 2, 30]), min_size=2)))
    times = [(NOW + a * DAY, NOW + b * DAY) for a, b in pairwise(cuts)]
    kept = [time for time in times if draw(st.integers(0, 4))]
    shadows = [(NOW - 30 * DAY, NOW + 30 * DAY)] if draw(st.booleans()) else []
    everything = st.just(frozenset(Operation))
    return [
        grant(
            id=f"{held_by}-{granted_to}-{number}",
            customer=held_by,
            partner=granted_to,
            operations=draw(everything | some(Operation)),
            valid_from=begin,
            valid_until=end,
            privacy_labels=draw(st.just(GENERAL) | some(LABELS)),
            specialties=draw(st.none() | some(SPECIALTIES)),
            notice=draw(st.sampled_from(NOTICES)),
            within=draw(st.sampled_from([None, None, timedelta(0), HOUR, 2 * DAY, 5 * DAY])),
            change_fields=draw(st.just(frozenset(Field)) | some(Field)),
            cancel_reasons=draw(st.none() | some(REASONS[:3])),
            shadow=number >= len(kept),
        )
        for number, (begin, end) in enumerate(kept + shadows)
    ]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy such as the loader lets through, with grants to some of every pair of customer and partner."""
    grants: list[Grant] = []
    for holder in CUSTOMERS:
        for known in PARTNERS:
            if draw(st.integers(0, 2)):
                grants += draw(grants_of(holder.id, known.id))
    partners = [partner(p.id, suspended=p.suspended or not draw(st.integers(0, 9))) for p in PARTNERS]
    return Policy("drawn", {p.id: p for p in partners}, {c.id: c for c in CUSTOMERS}, tuple(grants))


def claimants() -> st.SearchStrategy[Claimant]:
    """Draw who asks on whose behalf, strangers included."""
    partners = st.sampled_from(["swiftbook", "swiftbook", "swiftbook", "cardiolink", "suspended", "nobody"])
    customers = st.sampled_from([*[c.id for c in CUSTOMERS], *[c.id for c in CUSTOMERS], "nowhere"])
    return st.builds(Claimant, partners, customers)
