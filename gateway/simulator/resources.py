"""The demonstration's resources, in the shape PKB documents for Customer FHIR boxes.

They carry on purpose what a careless writer loses: a decimal with a trailing zero, an exponent, a `_start`, a contained
resource, an extension in `meta`, and an element that FHIR does not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.simulator.customers import Customer
from gateway.simulator.exact_json import Number
from gateway.simulator.store import Resource, instant

PKB: Final = "http://fhir.patientsknowbest.com"
PRIVACY_LABEL: Final = f"{PKB}/codesystem/privacy-label"
NHS_NUMBER: Final = "https://fhir.nhs.uk/Id/nhs-number"
ODS_CODE: Final = "https://fhir.nhs.uk/Id/ods-organization-code"
SNOMED: Final = "http://snomed.info/sct"
CANCELLATION_REASON: Final = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

Specialty = tuple[str, str]
CARDIOLOGY: Final[Specialty] = ("394579002", "Cardiology")
ENDOCRINOLOGY: Final[Specialty] = ("394583002", "Endocrinology")

LENGTH: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Booking:
    """The facts an appointment and its patient are made from."""

    id: str
    serial: int  # among all
    number: int  # within its scenario
    owner: Customer
    status: str
    label: str
    specialty: Specialty
    start: datetime  # aware, in the customer's zone
    nhs_number: str

    @property
    def end(self) -> datetime:
        """Thirty minutes of real time later, also when clocks change in between."""
        return (self.start.astimezone(UTC) + LENGTH).astimezone(self.start.tzinfo)

    @property
    def patient_id(self) -> str:
        """The logical id of the appointment's own patient."""
        return f"patient-{self.id}"

    @property
    def birth_date(self) -> str:
        """A day between 1940 and 1999."""
        return f"{1940 + self.serial * 7 % 60}-{1 + self.serial % 12:02d}-{1 + self.serial % 28:02d}"


def organisation(customer: Customer) -> Resource:
    """The Organization that links a box's patients to a PKB organisation or team."""
    identifiers = [{"system": f"{PKB}/id/org-code", "value": customer.id.upper()}]
    if customer.ods_code is not None:
        identifiers.append({"system": ODS_CODE, "value": customer.ods_code})
    resource: Resource = {
        "resourceType": "Organization",
        "id": customer.source.removeprefix("Organization/"),
        "extension": [{"url": f"{PKB}/structuredefinition/time-zone-id", "valueString": "Europe/London"}],
        "identifier": identifiers,
        "name": customer.name,
    }
    if customer.organisation is not None:
        resource["partOf"] = {"reference": f"Organization/{customer.organisation}"}
    return resource


def staff_and_places() -> Iterator[tuple[str, Resource]]:
    """One clinician and one place, to whom the appointments refer."""
    yield (
        "Practitioner",
        {"resourceType": "Practitioner", "id": "prac-01", "name": [{"text": "Dr Test Jones (Consultant)"}]},
    )
    yield "Location", {"resourceType": "Location", "id": "loc-01", "name": "Outpatients, Level 2"}


def patient(booking: Booking, now: datetime) -> Resource:
    """A synthetic person; `managingOrganization` is what PKB takes for the source of the person's data."""
    return {
        "resourceType": "Patient",
        "id": booking.patient_id,
        "meta": {"extension": [_created(now)]},
        "identifier": [{"use": "official", "system": NHS_NUMBER, "value": booking.nhs_number}],
        "name": [{"use": "official", "family": f"XXTESTPATIENT-{booking.serial:04d}", "given": ["Synthetic"]}],
        "gender": "female" if booking.serial % 2 else "male",
        "birthDate": booking.birth_date,
        "managingOrganization": {"reference": booking.owner.source},
    }


def appointment_identifier(booking: Booking) -> dict[str, str]:
    """The tracking identifier, without which PKB does not aggregate an appointment."""
    source = booking.owner.organisation or booking.owner.id
    return {"system": f"https://{source}.example/pas/appointment-id", "value": f"APPT{booking.serial:06d}"}


def appointment(booking: Booking, now: datetime) -> Resource:
    """Every second one has `minutesDuration`; two of three name one place; every fourth is strange."""
    code, display = booking.specialty
    resource: Resource = {
        "resourceType": "Appointment",
        "id": booking.id,
        "meta": {
            "extension": [
                _created(now),
                {"url": f"{PKB}/structuredefinition/recorded-date", "valueDateTime": instant(now - 30 * LENGTH)},
            ],
            "security": _security(booking),
        },
        "contained": [
            {"resourceType": "HealthcareService", "id": "booking-office", "name": "Booking office", "active": True}
        ],
        "extension": [_contact()],
        "identifier": [appointment_identifier(booking)],
        "status": booking.status,
        "specialty": [{"coding": [{"system": SNOMED, "code": code, "display": display}]}],
        "appointmentType": {"coding": [{"display": f"{display} follow-up (face to face)"}]},
        "supportingInformation": [{"reference": "#booking-office"}],
        "start": booking.start.isoformat(),
        "end": booking.end.isoformat(),
        "comment": "Please arrive ten minutes early.",
        "participant": _participants(booking),
    }
    if booking.number % 4 == 0:
        resource |= _strange(resource)
    if booking.number % 2:
        resource["minutesDuration"] = LENGTH // timedelta(minutes=1)
    if booking.status == "cancelled":
        resource["cancelationReason"] = {"coding": [{"system": CANCELLATION_REASON, "code": "pat"}]}
    return resource


def _strange(resource: Resource) -> Resource:
    """Give what a careless writer loses: numbers as written, a `_` sibling, and an element that FHIR does not know."""
    weight = {"url": "https://pas.example/fhir/tariff-weight", "valueDecimal": Number("1.10")}
    zone = {"url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "Europe/London"}
    return {
        "extension": [*resource["extension"], weight],
        "_start": {"extension": [zone]},
        "pasRecord": {"revision": Number("1e2"), "fee": Number("0.50"), "café": "é", "checked": True},
    }


def _created(now: datetime) -> Resource:
    return {"url": "ex:createdAt", "valueInstant": instant(now - timedelta(days=1))}


def _security(booking: Booking) -> list[Resource]:
    label = {"system": PRIVACY_LABEL, "code": booking.label}
    return [label] if booking.number % 2 else [label, {"system": CONFIDENTIALITY, "code": "N"}]


def _contact() -> Resource:
    spoc = f"{PKB}/structuredefinition/spoc"
    return {
        "url": spoc,
        "extension": [
            {"url": f"{spoc}-email", "valueString": "bookings@trust.example"},
            {"url": f"{spoc}-phone", "valueString": "01632 960000"},
            {"url": f"{spoc}-note", "valueString": "Lines open 10-4"},
        ],
    }


def _participants(booking: Booking) -> list[Resource]:
    people: list[Resource] = [
        {"actor": {"reference": f"Patient/{booking.patient_id}"}, "status": "accepted"},
        {
            "actor": {"reference": "Practitioner/prac-01", "display": "Dr Test Jones (Consultant)"},
            "status": "accepted",
        },
    ]
    if booking.number % 3:
        place = {"reference": "Location/loc-01", "type": "Location", "display": "Outpatients, Level 2"}
        people.append({"actor": place, "status": "accepted"})
    return people
