"""Documents as a box holds them, for the tests of the edge towards PKB."""

from typing import Any

PKB = "http://fhir.patientsknowbest.com"
LABEL = f"{PKB}/codesystem/privacy-label"
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"


def participant(reference: str | None = None, **actor: Any) -> dict[str, Any]:
    return {"actor": ({} if reference is None else {"reference": reference}) | actor, "status": "accepted"}


def appointment(**members: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": "a1",
        "meta": {"versionId": "17", "security": [{"system": LABEL, "code": "GENERAL_HEALTH"}]},
        "identifier": [{"system": "https://trust.example/pas", "value": "APPT1"}],
        "status": "booked",
        "specialty": [{"coding": [{"system": "http://snomed.info/sct", "code": "394579002"}]}],
        "start": "2026-04-14T09:30:00+01:00",
        "end": "2026-04-14T10:00:00+01:00",
        "comment": "Please arrive early.",
        "participant": [
            participant("Patient/p1"),
            participant("Practitioner/dr", display="Dr Test"),
            participant("Location/l1", type="Location", display="Level 2"),
        ],
    }
    return without(document | members)


def patient(**members: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"versionId": "3"},
        "identifier": [{"system": NHS_NUMBER, "value": "9990548609"}],
        "birthDate": "1960-02-29",
        "managingOrganization": {"reference": "Organization/airedale"},
    }
    return without(document | members)


def meta(*security: tuple[str, str], **members: Any) -> dict[str, Any]:
    return {"versionId": "17", "security": [{"system": s, "code": c} for s, c in security]} | members


class Absent:
    """Given as a member's value, takes the member away."""


def without(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not Absent}
