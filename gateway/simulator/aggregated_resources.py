"""Appointments and patients in the R4 shape that PKB documents for data that reached it by HL7.

What PKB leaves open is chosen here: the system of placer ids, and where the encounter class is.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.simulator.customers import EVERY_CUSTOMER, Customer
from gateway.simulator.resources import NHS_NUMBER, PKB, PRIVACY_LABEL
from gateway.simulator.store import Resource, instant

STRUCTURE: Final = f"{PKB}/structuredefinition"
PROFILE: Final = f"{STRUCTURE}/aggregated-appointment"
SOURCE_ORGANISATION: Final = f"{STRUCTURE}/source-organisation"
SOURCE_TEAM: Final = f"{STRUCTURE}/source-team"
SPOC: Final = f"{STRUCTURE}/spoc"
ENCOUNTER_CLASS: Final = f"{STRUCTURE}/encounter-class"
ENCOUNTER_CLASS_CODES: Final = f"{PKB}/codesystem/encounter-class"
PLACER_SYSTEM: Final = f"{PKB}/id/external-data-point-id"
LEGACY_SYSTEM: Final = f"{PKB}/id/legacy-data-point-id"
PUBLIC_ID: Final = f"{PKB}/id/public-id"
TREATMENT_FUNCTION: Final = "https://fhir.nhs.uk/CodeSystem/NHSDataModelAndDictionary-treatment-function"
APPOINTMENT_TYPE: Final = "urn:pkb:appointment-type"

_SOURCE_CODES: Final = {f"{PKB}/codesystem/source-organization", f"{PKB}/codesystem/source-team"}

GENERAL: Final = "GENERAL_HEALTH"
SPECIALTIES: Final = {
    "300": ("General Internal Medicine", GENERAL),
    "302": ("Endocrinology", GENERAL),
    "320": ("Cardiology", GENERAL),
    "340": ("Respiratory Medicine", GENERAL),
    "360": ("Genitourinary Medicine", "SEXUAL_HEALTH"),
    "656": ("Clinical Psychology", "MENTAL_HEALTH"),
    "710": ("Adult Mental Illness", "MENTAL_HEALTH"),
}
"""The hospital's code map: specialty code → what it is called, and the privacy label it stands for."""


@dataclass(frozen=True, slots=True)
class Details:
    """What an HL7 message says about an appointment. None is a blank, which keeps what was there."""

    subject: str | None = None
    type_code: str | None = None
    type_system: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    email: str | None = None
    phone: str | None = None
    phone_extension: str | None = None
    notes: str | None = None
    description: str | None = None
    encounter_class: str | None = None
    location: str | None = None
    specialty: str | None = None
    externals: tuple[str, ...] = ()  # by display; never a blank: the list is replaced


def fresh(id_: str, placer: str, patient_id: str, owner: Customer, at: datetime) -> Resource:
    """An appointment of which nothing is known yet but whose it is."""
    resource: Resource = {
        "resourceType": "Appointment",
        "id": id_,
        "meta": {
            "profile": [PROFILE],
            "extension": [{"url": f"{STRUCTURE}/recorded-date", "valueDateTime": instant(at)}],
        },
        "identifier": [
            {"system": PLACER_SYSTEM, "value": placer},
            {"system": LEGACY_SYSTEM, "value": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{owner.id}|{placer}"))},
        ],
        "status": "booked",
        "appointmentType": {"coding": [{"display": "Appointment"}]},
        "participant": [{"actor": {"reference": f"Patient/{patient_id}"}, "status": "accepted"}],
    }
    return owned(resource, owner)


def owned(appointment: Resource, owner: Customer) -> Resource:
    """The appointment with this source, as reference and as code."""
    organisation = EVERY_CUSTOMER[owner.hospital]
    sources = [(SOURCE_ORGANISATION, "source-organization", organisation)]
    if owner.organisation is not None:
        sources.append((SOURCE_TEAM, "source-team", owner))
    meta = _object(appointment.get("meta"))
    extensions = _without(meta.get("extension"), "url", {SOURCE_ORGANISATION, SOURCE_TEAM})
    security = _without(meta.get("security"), "system", _SOURCE_CODES)
    extensions += [{"url": url, "valueReference": {"reference": source.source}} for url, _, source in sources]
    security += [
        {"system": f"{PKB}/codesystem/{name}", "code": source.source.removeprefix("Organization/")}
        for _, name, source in sources
    ]
    return {**appointment, "meta": {**meta, "extension": extensions, "security": security}}


def updated(appointment: Resource, details: Details) -> Resource:
    """The appointment with what a message says put in: blanks keep, people are replaced, the label is made anew."""
    resource = {**appointment, "status": "booked"}
    if details.subject is not None:
        resource["appointmentType"] = {"coding": [{"display": details.subject}]}
    if details.type_code is not None:
        system = APPOINTMENT_TYPE if details.type_system is None else f"{APPOINTMENT_TYPE}:{details.type_system}"
        resource["serviceType"] = [{"coding": [{"system": system, "code": details.type_code}]}]
    if details.start is not None:
        resource["start"] = details.start.isoformat()
    if details.end is not None:
        resource["end"] = details.end.isoformat()
    if details.description is not None:
        resource["comment"] = details.description
    if details.specialty is not None:
        name = SPECIALTIES.get(details.specialty, ("Unknown specialty", ""))[0]
        coding = {"system": TREATMENT_FUNCTION, "code": details.specialty, "display": name}
        resource["specialty"] = [{"coding": [coding]}]
    extensions = _extensions(appointment, details)
    if extensions:
        resource["extension"] = extensions
    resource["participant"] = _participants(appointment, details)
    resource["meta"] = _labelled(appointment, details.specialty)
    return resource


def patient(id_: str, nhs_number: str, name: tuple[str, str], gender: str, birth_date: str) -> Resource:
    """A merged person: nothing of whose it is, as PKB has it on Aggregated."""
    return {
        "resourceType": "Patient",
        "id": id_,
        "identifier": [
            {"system": NHS_NUMBER, "value": nhs_number},
            {"system": PUBLIC_ID, "value": str(uuid.uuid5(uuid.NAMESPACE_URL, f"patient|{id_}"))},
        ],
        "name": [{"use": "official", "family": name[0], "given": [name[1]]}],
        "gender": gender,
        "birthDate": birth_date,
    }


def placed_by(appointment: Resource, placer: str, owner: Customer) -> bool:
    """Whether it is the one that an organisation calls by this placer id."""
    identified = any(
        held.get("system") == PLACER_SYSTEM and held.get("value") == placer
        for held in objects(appointment.get("identifier"))
    )
    return identified and source_of(appointment) == owner.source


def source_of(appointment: Resource) -> str | None:
    """The reference to the organisation that it came from."""
    for extension in objects(_object(appointment.get("meta")).get("extension")):
        if extension.get("url") == SOURCE_ORGANISATION:
            reference = _object(extension.get("valueReference")).get("reference")
            return reference if isinstance(reference, str) else None
    return None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list that anyone may have written."""
    return [held for held in value if isinstance(held, dict)] if isinstance(value, list) else []


def _extensions(appointment: Resource, details: Details) -> list[Resource]:
    known = objects(appointment.get("extension"))
    said = {
        "email": details.email,
        "phone": details.phone,
        "phone-extension": details.phone_extension,
        "note": details.notes,
    }
    contact = {f"{SPOC}-{part}": text for part, text in said.items() if text is not None}
    if contact:
        old = next((objects(held.get("extension")) for held in known if held.get("url") == SPOC), [])
        parts = _without(old, "url", set(contact))
        parts += [{"url": url, "valueString": text} for url, text in contact.items()]
        known = [*_without(known, "url", {SPOC}), {"url": SPOC, "extension": parts}]
    if details.encounter_class is not None:
        coding = {"system": ENCOUNTER_CLASS_CODES, "code": details.encounter_class}
        known = [*_without(known, "url", {ENCOUNTER_CLASS}), {"url": ENCOUNTER_CLASS, "valueCoding": coding}]
    return known


def _participants(appointment: Resource, details: Details) -> list[Resource]:
    old = objects(appointment.get("participant"))
    places = [person for person in old if _object(person.get("actor")).get("type") == "Location"]
    if details.location is not None:
        places = [{"actor": {"type": "Location", "display": details.location}, "status": "accepted"}]
    return [
        *(person for person in old if _is_patient(person)),
        *({"actor": {"display": display}, "status": "accepted"} for display in details.externals),
        *places,
    ]


def _is_patient(person: Resource) -> bool:
    return str(_object(person.get("actor")).get("reference", "")).startswith("Patient/")


def _labelled(appointment: Resource, specialty: str | None) -> Resource:
    """Without a specialty code PKB knows no better than general health, whatever it knew before."""
    meta = _object(appointment.get("meta"))
    label = SPECIALTIES.get(specialty or "", ("", GENERAL))[1]
    rest = _without(meta.get("security"), "system", {PRIVACY_LABEL})
    return {**meta, "security": [{"system": PRIVACY_LABEL, "code": label}, *rest]}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _without(value: Any, member: str, named: set[str]) -> list[Resource]:
    return [held for held in objects(value) if held.get(member) not in named]
