"""A copy as a partner reads it, and what a partner could want it to be."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from gateway.domain import strict_json
from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Appointment, Instant
from gateway.domain.intents import Meaning, meaning_of
from tests.makers import DAY, NOW, appointment

START, END = NOW + 30 * DAY, NOW + 30 * DAY + timedelta(minutes=30)
LATER = "2026-07-02T10:00:00+01:00"
FACTS = appointment(comment="Bring your glasses.", locations=("Ward 1",), places=(2,))
SHOWN: Any = strict_json.read(
    b"""{"resourceType": "Appointment", "id": "a-1",
    "meta": {"versionId": "7", "lastUpdated": "2026-05-01T00:00:00Z", "security": [{"system": "urn:s", "code": "G"}],
        "source": "urn:feed"},
    "extension": [{"url": "urn:weight", "valueDecimal": 1.10}],
    "status": "booked", "description": "Check-up", "priority": 3,
    "start": "%s", "_start": {"id": "s"}, "end": "%s", "minutesDuration": 30, "comment": "Bring your glasses.",
    "participant": [
        {"actor": {"reference": "Patient/p-1"}, "status": "accepted"},
        {"actor": {"reference": "Practitioner/d-1", "display": "Dr Test"}, "status": "accepted"},
        {"actor": {"reference": "Location/l-1", "type": "Location", "display": "Ward 1"}, "status": "accepted"}]}"""
    % (START.isoformat().encode(), END.isoformat().encode())
)
REASON = {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": "pat"}], "text": "On holiday"}
CANCELLED: dict[str, Any] = {"status": "cancelled", "cancelationReason": REASON}


def place(*steps: str | int, value: Any = None, gone: bool = False, **members: Any) -> Any:
    """The copy with one thing replaced or taken away, or with other members."""
    made: Any = deepcopy(SHOWN) | members
    if steps:
        held = made
        for step in steps[:-1]:
            held = held[step]
        if gone:
            del held[steps[-1]]
        else:
            held[steps[-1]] = value
    return made


def meant(wanted: Any, facts: Appointment = FACTS, shown: Any = None) -> Meaning:
    return meaning_of(shown or SHOWN, wanted, facts)


def moved(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text), text)
