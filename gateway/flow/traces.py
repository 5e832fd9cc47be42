"""What must be remembered of an open write, so that another process can tell whether PKB shows it.

Texts are remembered as keyed hashes: whether PKB shows the same text can be told, what it says cannot.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from gateway.domain.appointment import (
    CANCEL_REASON_SYSTEM,
    Appointment,
    Cancel,
    Change,
    Instant,
    Provenance,
    Status,
    Write,
)
from gateway.domain.grant import Coding, Operation
from gateway.flow.records import Veil

Trace = Mapping[str, Any]

_ANOTHER_TEXT = "\x00"
"""No FHIR string holds a NUL, so this is never what PKB shows."""


def trace_of(command: Write, before: Appointment, veil: Veil) -> Trace:
    """Write down what a command wanted and what must not have changed with it."""
    told: dict[str, Any] = {
        "id": before.id,
        "version": before.version,
        "status": before.status.value,
        "labels": sorted(before.labels),
        "specialties": sorted([coding.system, coding.code] for coding in before.specialties),
        "participants": [_hidden(display, veil) for display in before.participants],
        "comment": _hidden(command.comment, veil),
    }
    match command:
        case Cancel():
            return {**told, "cancel": command.reason}
        case Change():
            return {
                **told,
                "start": command.start.at.isoformat() if command.start else None,
                "end": command.end.at.isoformat() if command.end else None,
                "location": _hidden(command.location, veil),
                "managementUrl": command.management_url is not None,
            }
        case unexpected:
            assert_never(unexpected)


def trace_of_record(intent: Mapping[str, Any]) -> Trace:
    """Make out the same from an intent's record, as far as it goes: participants are not in it (None)."""
    facts, change = intent["facts"], intent["change"]
    told: dict[str, Any] = {
        "id": intent["appointment"],
        "version": intent["upstream"]["version_before"],
        "status": facts["status"],
        "labels": facts["labels"],
        "specialties": [coding.partition("|")[::2] for coding in facts["specialties"]],
        "participants": None,
        "comment": _wanted(change, "comment"),
    }
    if intent["operation"] == Operation.CANCEL.value:
        return {**told, "cancel": intent["reason"]}
    return {
        **told,
        "start": _wanted(change, "start"),
        "end": _wanted(change, "end"),
        "location": _wanted(change, "location"),
        "managementUrl": "managementUrl" in change,
    }


def recall(trace: Trace, veil: Veil, after: Appointment | None) -> tuple[Write, Appointment]:
    """Give the command and the copy before it, as far as `after` shows the texts that were remembered."""
    locations = after.locations if after else ()
    shown = after.participants if after else ()
    people = trace["participants"]
    same_people = people is None or [_hidden(display, veil) for display in shown] == people
    before = Appointment(
        id=trace["id"],
        version=trace["version"],
        status=Status(trace["status"]),
        start=None,
        end=None,
        provenance=Provenance(patients=0),
        patient=None,
        labels=frozenset(trace["labels"]),
        specialties=frozenset(Coding(system, code) for system, code in trace["specialties"]),
        participants=shown if same_people else (_ANOTHER_TEXT,),
    )
    comment = _seen(trace["comment"], after.comment if after else None, veil)
    if "cancel" in trace:
        codings = (Coding(CANCEL_REASON_SYSTEM, trace["cancel"]),) if trace["cancel"] is not None else ()
        return Cancel(codings, comment=comment), before
    change = Change(
        start=_instant(trace["start"]),
        end=_instant(trace["end"]),
        comment=comment,
        location=_seen(trace["location"], locations[0] if len(locations) == 1 else None, veil),
        management_url=_ANOTHER_TEXT if trace["managementUrl"] else None,
    )
    return change, before


def _wanted(change: Mapping[str, Any], name: str) -> Any:
    return change[name]["after"] if name in change else None


def _hidden(text: str | None, veil: Veil) -> Mapping[str, object] | None:
    return None if text is None else dict(veil.text(text))


def _seen(remembered: Mapping[str, object] | None, shown: str | None, veil: Veil) -> str | None:
    """Give the text that PKB shows where it is the one remembered, else one that it never shows."""
    if remembered is None:
        return None
    return shown if shown is not None and _hidden(shown, veil) == remembered else _ANOTHER_TEXT


def _instant(text: str | None) -> Instant | None:
    return None if text is None else Instant(datetime.fromisoformat(text), text)
