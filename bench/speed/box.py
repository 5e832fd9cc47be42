"""What the upstream stub holds: any number of appointments, each fresh and booked until it is first written to."""

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

TOKEN: Final = "upstream-2b9f4c0d7e5a4f1f8d1c"
ORGANISATION: Final = "Organization/clinic"
OTHER: Final = "other-"
"""Appointments whose id begins so belong to another organisation."""
MOVING: Final = "moving-"
"""Appointments whose id begins so have always changed by the time a write arrives."""
BODIES_KEPT: Final = 20_000

BOX_PLACE: Final = "@id@"

_PKB: Final = "http://fhir.patientsknowbest.com"
_VERSION: Final = re.compile(rb'"versionId"\s*:\s*"[^"]*"')
_FHIR: Final = b"Content-Type: application/fhir+json\r\n"
_REFUSED: Final = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"%s"}]}'


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it has a head. `headers` are whole lines."""

    status: bytes
    headers: bytes
    body: bytes

    def written(self, *, closes: bool) -> bytes:
        """The bytes on the wire."""
        close = b"Connection: close\r\n" if closes else b""
        length = b"Content-Length: %d\r\n\r\n" % len(self.body)
        return b"".join((b"HTTP/1.1 ", self.status, b"\r\n", self.headers, close, length, self.body))


@dataclass(slots=True)
class _Held:
    version: int
    body: bytes


class Box:
    """Appointments and patients in the manners of a Customer FHIR box, made on the fly from their ids."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._held: dict[str, _Held] = {}
        self._appointment = _template(appointment())
        self._patient = _template(patient())

    def token(self) -> Answer:
        """An access token for whoever asks."""
        self.counts["token"] += 1
        told = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        return Answer(b"200 OK", b"Content-Type: application/json\r\n", json.dumps(told).encode())

    def appointment(self, id_: str) -> Answer:
        """Read one."""
        self.counts["read appointment"] += 1
        held = self._held.get(id_)
        return _resource(self._fresh(id_), 1) if held is None else _resource(held.body, held.version)

    def patient(self, id_: str) -> Answer:
        """Read one; it belongs to the clinic unless its appointment is another's."""
        self.counts["read patient"] += 1
        owner = "Organization/elsewhere" if id_.startswith(f"patient-{OTHER}") else ORGANISATION
        number = zlib.crc32(id_.encode()) % 10**10
        return _resource(self._patient % {b"id": id_.encode(), b"n": b"%010d" % number, b"owner": owner.encode()}, 1)

    def put(self, id_: str, if_match: bytes | None, body: bytes) -> Answer:
        """Store a new version, if the one expected is the one held. The answer is what is held then."""
        held = self._held.get(id_)
        version = 1 if held is None else held.version
        if id_.startswith(MOVING) or if_match not in {b'W/"%d"' % version, b'"%d"' % version}:
            self.counts["refused write"] += 1
            return Answer(b"412 Precondition Failed", _FHIR, _REFUSED % b"conflict")
        stamped, found = _VERSION.subn(b'"versionId":"%d"' % (version + 1), body, count=1)
        if not found:
            self.counts["unreadable write"] += 1
            return Answer(b"422 Unprocessable Entity", _FHIR, _REFUSED % b"invalid")
        self.counts["write"] += 1
        if held is None and len(self._held) >= BODIES_KEPT:
            # Ids are not used twice, so the oldest will not be asked for again.
            del self._held[next(iter(self._held))]
        self._held[id_] = _Held(version + 1, stamped)
        return _resource(stamped, version + 1)

    def _fresh(self, id_: str) -> bytes:
        return self._appointment % {b"id": id_.encode(), b"n": b"%010d" % (zlib.crc32(id_.encode()) % 10**10)}


def _resource(body: bytes, version: int) -> Answer:
    return Answer(b"200 OK", b'%sETag: W/"%d"\r\n' % (_FHIR, version), body)


def _template(resource: dict[str, Any]) -> bytes:
    text = json.dumps(resource, separators=(",", ":")).replace("%", "%%")
    return re.sub(r"@(\w+)@", r"%(\1)s", text).encode()


def appointment() -> dict[str, Any]:
    """One that is booked, in the shape that PKB documents; `BOX_PLACE` stands for what differs."""
    spoc = f"{_PKB}/structuredefinition/spoc"
    people: list[dict[str, Any]] = [
        {"actor": {"reference": "Patient/patient-@id@"}, "status": "accepted"},
        {"actor": {"reference": "Practitioner/prac-01", "display": "Dr Test Jones (Consultant)"}, "status": "accepted"},
        {
            "actor": {"reference": "Location/loc-01", "type": "Location", "display": "Outpatients, Level 2"},
            "status": "accepted",
        },
    ]
    specialty = {"system": "http://snomed.info/sct", "code": "394579002", "display": "Cardiology"}
    return {
        "resourceType": "Appointment",
        "id": "@id@",
        "meta": {
            "extension": [
                {"url": "ex:createdAt", "valueInstant": "2026-01-02T09:00:00.000000Z"},
                {"url": f"{_PKB}/structuredefinition/recorded-date", "valueDateTime": "2026-01-02T09:00:00.000000Z"},
            ],
            "security": [{"system": f"{_PKB}/codesystem/privacy-label", "code": "GENERAL_HEALTH"}],
            "versionId": "1",
            "lastUpdated": "2026-01-02T09:00:00.000000Z",
        },
        "contained": [
            {"resourceType": "HealthcareService", "id": "booking-office", "name": "Booking office", "active": True}
        ],
        "extension": [
            {
                "url": spoc,
                "extension": [
                    {"url": f"{spoc}-email", "valueString": "bookings@trust.example"},
                    {"url": f"{spoc}-phone", "valueString": "01632 960000"},
                    {"url": f"{spoc}-note", "valueString": "Lines open 10-4"},
                ],
            }
        ],
        "identifier": [{"system": "https://clinic.example/pas/appointment-id", "value": "APPT@n@"}],
        "status": "booked",
        "specialty": [{"coding": [specialty]}],
        "appointmentType": {"coding": [{"display": "Cardiology follow-up (face to face)"}]},
        "supportingInformation": [{"reference": "#booking-office"}],
        "start": "2099-06-01T10:00:00+01:00",
        "end": "2099-06-01T10:30:00+01:00",
        "minutesDuration": 30,
        "comment": "Please arrive ten minutes early.",
        "participant": people,
    }


def patient() -> dict[str, Any]:
    """Its patient."""
    return {
        "resourceType": "Patient",
        "id": "@id@",
        "meta": {
            "extension": [{"url": "ex:createdAt", "valueInstant": "2026-01-02T09:00:00.000000Z"}],
            "versionId": "1",
            "lastUpdated": "2026-01-02T09:00:00.000000Z",
        },
        "identifier": [{"use": "official", "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "@n@"}],
        "name": [{"use": "official", "family": "XXTESTPATIENT-0001", "given": ["Synthetic"]}],
        "gender": "female",
        "birthDate": "1956-03-04",
        "managingOrganization": {"reference": "@owner@"},
    }
