"""The demonstration's hospital that feeds PKB by HL7: its appointments as the Aggregated endpoint has them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from gateway.simulator import aggregated_resources as shapes
from gateway.simulator.aggregated_resources import PLACER_SYSTEM, Details
from gateway.simulator.resources import Booking, organisation
from gateway.simulator.store import Resource

SPECIALTY_OF_LABEL: Final = {"GENERAL_HEALTH": "320", "SEXUAL_HEALTH": "360"}
RECORDED_BEFORE: Final = timedelta(days=20)


def resources(bookings: Iterator[Booking], now: datetime) -> Iterator[tuple[str, Resource]]:
    """(resource type, resource), in the order of their storing."""
    known: set[str] = set()
    for booking in bookings:
        if booking.owner.id not in known:
            known.add(booking.owner.id)
            yield "Organization", organisation(booking.owner)
        name = (f"XXTESTPATIENT-{booking.serial:04d}", "Synthetic")
        gender = "female" if booking.serial % 2 else "male"
        yield (
            "Patient",
            shapes.patient(booking.patient_id, booking.nhs_number, name, gender, booking.birth_date),
        )
        yield "Appointment", appointment(booking, now)


def identifier(booking: Booking) -> dict[str, str]:
    """The placer id (SCH-1.1) that the hospital's own system gave."""
    return {"system": PLACER_SYSTEM, "value": f"BRI{booking.serial:06d}"}


def appointment(booking: Booking, now: datetime) -> Resource:
    """As if it had come by S12: two of three with a clinician, every fourth with two."""
    code = SPECIALTY_OF_LABEL[booking.label]
    people = ("Dr Test Jones (Consultant)", "Nurse Test Smith (Specialist Nurse)")
    details = Details(
        subject=f"{shapes.SPECIALTIES[code][0]} follow-up",
        type_code="FU",
        type_system="LOCAL",
        start=booking.start,
        end=booking.end,
        email="bookings@trust.example",
        phone="01632 960000",
        notes="Lines open 10-4",
        description="Please arrive ten minutes early.",
        encounter_class="O",
        location="Outpatients, Level 2",
        specialty=code,
        externals=people[: 2 if booking.number % 4 == 0 else min(booking.number % 3, 1)],
    )
    placer = identifier(booking)["value"]
    bare = shapes.fresh(booking.id, placer, booking.patient_id, booking.owner, now - RECORDED_BEFORE)
    return {**shapes.updated(bare, details), "status": booking.status}
