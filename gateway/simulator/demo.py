"""The demonstration's appointments: the same ids in every start, at times relative to it.

Every appointment has a synthetic patient of its own, with an NHS number of the 999 test range.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.simulator import hl7_demo, stu3
from gateway.simulator.customers import BRADFORD, EVERY_CUSTOMER, Customer
from gateway.simulator.resources import (
    CARDIOLOGY,
    ENDOCRINOLOGY,
    NHS_NUMBER,
    Booking,
    Specialty,
    appointment,
    appointment_identifier,
    organisation,
    patient,
    staff_and_places,
)
from gateway.simulator.store import Resource

LONDON: Final = ZoneInfo("Europe/London")


@dataclass(frozen=True, slots=True)
class DemoAppointment:
    """What the sandbox tells about one appointment, as PKB held it at the start."""

    customer: str  # where it is listed
    id: str
    status: str
    start: str
    version: str
    scenario: str
    owner: str
    identifier: str  # system|value
    patient_identifier: str  # system|value
    birth_date: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of appointment of which the demonstration has several."""

    name: str
    count: int
    start: Callable[[datetime, int], datetime]
    customer: str = "airedale"
    owner: str = "airedale"
    status: str = "booked"
    label: str = "GENERAL_HEALTH"
    specialty: Specialty = CARDIOLOGY


def _ahead(now: datetime, number: int) -> datetime:
    """40 days and more ahead, in working hours of London's wall clock."""
    return _at(now, 40 + number, time(9 + number % 7, 15 * (number % 4)))


def _tomorrow(now: datetime, _number: int) -> datetime:
    """24 hours ahead, to the minute."""
    return (now + timedelta(hours=24)).astimezone(LONDON).replace(second=0, microsecond=0)


def _yesterday(now: datetime, number: int) -> datetime:
    return _at(now, -1, time(9 + number % 7))


def _last_week(now: datetime, number: int) -> datetime:
    return _at(now, -7, time(9 + number % 7))


def _at(now: datetime, days: int, clock: time) -> datetime:
    return datetime.combine(now.astimezone(LONDON).date() + timedelta(days=days), clock, LONDON)


HERE: Final = (
    Scenario("changeable", 24, _ahead),
    Scenario("team-owned", 12, _ahead, owner="airedale-cardiology"),
    Scenario("other-customer", 5, _ahead, owner="wharfedale"),
    Scenario("cancelled", 5, _ahead, status="cancelled"),
    Scenario("past", 5, _yesterday),
    Scenario("inside-notice", 5, _tomorrow),
    Scenario("label-outside", 5, _ahead, label="SEXUAL_HEALTH"),
    Scenario(
        "specialty-outside",
        5,
        _ahead,
        customer="airedale-cardiology",
        owner="airedale-cardiology",
        specialty=ENDOCRINOLOGY,
    ),
    Scenario("fulfilled", 5, _last_week, status="fulfilled"),
    Scenario("noshow", 5, _last_week, status="noshow"),
)
ELSEWHERE: Final = tuple(
    replace(scenario, count=14 if scenario.name == "changeable" else 4, customer=customer, owner=customer)
    for customer, left_out in (("bradford", {"fulfilled"}), ("leeds", set()))
    for scenario in HERE
    if scenario.name not in {"team-owned", "other-customer", "specialty-outside", *left_out}
)
SCENARIOS: Final = (*HERE, *ELSEWHERE)
Booked = tuple[Scenario, Booking]


def bookings(now: datetime) -> Iterator[Booked]:
    """Every appointment of the demonstration, with times relative to `now`."""
    numbers = enumerate(nhs_numbers(), start=1)
    for scenario in SCENARIOS:
        for number in range(1, scenario.count + 1):
            serial, nhs_number = next(numbers)
            yield (
                scenario,
                Booking(
                    id=f"{scenario.customer}-{scenario.name}-{number:02d}",
                    serial=serial,
                    number=number,
                    owner=EVERY_CUSTOMER[scenario.owner],
                    status=scenario.status,
                    label=scenario.label,
                    specialty=scenario.specialty,
                    start=scenario.start(now, number),
                    nhs_number=nhs_number,
                ),
            )


def resources(box: str, booked: Sequence[Booked], now: datetime) -> Iterator[tuple[str, Resource]]:
    """What a box holds at the start: (resource type, resource), in the order of its transactions."""
    held = (booking for _, booking in booked if booking.owner.box == box)
    if box == BRADFORD.box:
        yield from hl7_demo.resources(held, now)
        return
    customers = [customer for customer in EVERY_CUSTOMER.values() if customer.box == box]
    for customer in customers:
        yield "Organization", organisation(customer)
    yield from staff_and_places()
    for booking in held:
        yield "Patient", patient(booking, now)
        r4 = appointment(booking, now)
        yield "Appointment", r4 if booking.owner.fhir_version == "R4" else stu3.appointment(r4)


def listed(
    booked: Sequence[Booked], hospitals: tuple[str, ...], version_of: Callable[[Customer, str], str]
) -> tuple[DemoAppointment, ...]:
    """The appointments of some hospitals as the sandbox lists them."""
    return tuple(
        DemoAppointment(
            customer=scenario.customer,
            id=booking.id,
            status=booking.status,
            start=booking.start.isoformat(),
            version=version_of(booking.owner, booking.id),
            scenario=scenario.name,
            owner=booking.owner.id,
            identifier="{system}|{value}".format(**_identifier(booking)),
            patient_identifier=f"{NHS_NUMBER}|{booking.nhs_number}",
            birth_date=booking.birth_date,
        )
        for scenario, booking in booked
        if EVERY_CUSTOMER[scenario.customer].hospital in hospitals
    )


def _identifier(booking: Booking) -> dict[str, str]:
    return hl7_demo.identifier(booking) if booking.owner.route == "hl7" else appointment_identifier(booking)


def nhs_numbers() -> Iterator[str]:
    """The 999 test range's numbers that have a check digit (modulus 11; one in eleven has none)."""
    for middle in range(1_000_000):
        digits = f"999{middle:06d}"
        total = sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=True))
        check = -total % 11
        if check != 10:
            yield f"{digits}{check}"
