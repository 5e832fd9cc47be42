"""What a resource that a partner sends back amounts to beside PKB's copy: a cancel, a change, or neither.

The two are compared as the partner reads them: exactly, numbers as written, arrays in order, members in any order.
Nothing of what was sent goes further than the command that is found in it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gateway.domain.appointment import Appointment, Cancel, Change, Instant, Status, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Field, Operation
from gateway.domain.strict_json import Number, Object, Value
from gateway.domain.values import (
    LONGEST_CODE,
    LONGEST_REASON,
    LONGEST_SYSTEM,
    MOST_CODINGS,
    is_clean,
    length,
    read_instant,
    why_unfit,
)

EITHER: Final = frozenset({Operation.CHANGE, Operation.CANCEL})
ROOT: Final = "Appointment"
ELEMENTS: Final = frozenset(
    [
        "id",
        "meta",
        "implicitRules",
        "language",
        "text",
        "contained",
        "extension",
        "modifierExtension",
        "identifier",
        "status",
        "cancelationReason",
        "serviceCategory",
        "serviceType",
        "specialty",
        "appointmentType",
        "reasonCode",
        "reasonReference",
        "priority",
        "description",
        "supportingInformation",
        "start",
        "end",
        "minutesDuration",
        "slot",
        "created",
        "comment",
        "patientInstruction",
        "basedOn",
        "participant",
        "requestedPeriod",
    ]
)
"""The elements of a FHIR R4 Appointment: names that may be repeated whoever uses them."""

_CANCELLED: Final = Status.CANCELLED.value
_STAMP: Final = frozenset({"versionId", "lastUpdated"})
_TIMES: Final = frozenset({"start", "end", "minutesDuration"})
_CANCELS: Final = frozenset({"status", "cancelationReason", "comment"})
_CHANGES: Final = _TIMES | {"comment"}
_TYPE: Final = ("type", "Location")


@dataclass(frozen=True, slots=True)
class Unmet:
    """Why what was sent says nothing that could be done: a test that does not hold, or a value that cannot be."""

    code: Code
    detail: str
    """Of our own words only."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a wish amounts to, and what stands against it."""

    command: Write
    operations: frozenset[Operation]
    """Any one of them has to be granted."""
    mixed: bool = False
    """Whether it is a cancel and a change at once."""
    beyond: str | None = None
    """The path of the first element that differs and is not to be changed in this way."""
    unmet: Unmet | None = None

    @property
    def operation(self) -> Operation | None:
        """Name the operation it comes to, where that is one."""
        return None if self.mixed or len(self.operations) != 1 else self.command.operation

    def meets(self, code: Code) -> bool:
        """Whether nothing stands against it that is told by this code."""
        return self.unmet is None or self.unmet.code is not code

    @property
    def detail(self) -> str:
        """Say in our own words what stands against it."""
        if self.unmet is not None:
            return self.unmet.detail
        return "" if self.beyond is None else f"{self.beyond} differs from the copy you read."


NOTHING: Final = Meaning(Change(), EITHER)
"""A wish that asks for nothing, or that cannot be told because PKB has no such appointment."""


class _Unfit(ValueError):
    """A value that no appointment may be given; the text says why."""


def meaning_of(shown: Object, wanted: "Value | Unmet", facts: Appointment) -> Meaning:
    """Tell what it takes to get from the copy that is shown to the wanted one; `facts` are what the copy says."""
    if isinstance(wanted, Unmet):
        return replace(NOTHING, unmet=wanted)
    if not isinstance(wanted, dict):
        return replace(NOTHING, beyond=ROOT)
    before, after = _without_stamp(shown), _without_stamp(wanted)
    try:
        return _compare(before, after, facts)
    except _Unfit as unfit:
        return replace(NOTHING, unmet=Unmet(Code.INVALID_PARAMETER, str(unfit)))


def _compare(before: Object, after: Object, facts: Appointment) -> Meaning:
    """Find the one command, and the first element that it cannot carry. Raises _Unfit."""
    change, astray = _change(before, after, facts)
    differing = [name for name in _names(before, after) if not _is_same(name, before, after, change)]
    if after.get("status") == _CANCELLED and before.get("status") != _CANCELLED:
        moves = change.location is not None or not _TIMES.isdisjoint(differing)
        beyond = _beyond(differing, before, after, _CANCELS | _TIMES, astray)
        return Meaning(_cancel(after, change.comment), frozenset({Operation.CANCEL}), moves, beyond)
    untrue = frozenset() if _tells_length(before, after, change, facts) else frozenset({"minutesDuration"})
    beyond = _beyond(differing, before, after, _CHANGES - untrue, astray)
    return Meaning(change, frozenset({Operation.CHANGE}) if differing else EITHER, beyond=beyond)


def _names(before: Object, after: Object) -> list[str]:
    """List all elements in the order of PKB's copy, and those that only the other has behind them."""
    return [*before, *(name for name in after if name not in before)]


def _differs(name: str, before: Object, after: Object) -> bool:
    """Whether the wanted copy has an element that is new or another."""
    return name in after and (name not in before or before[name] != after[name])


def _is_same(name: str, before: Object, after: Object, change: Change) -> bool:
    if name not in before or name not in after:
        return False
    if before[name] == after[name]:
        return True
    # The same moment, written otherwise.
    return (name == "start" and change.start is None) or (name == "end" and change.end is None)


def _beyond(
    differing: list[str], before: Object, after: Object, allowed: frozenset[str], astray: str | None
) -> str | None:
    """Name the first of the differing elements that may not differ."""
    for name in differing:
        path = f"{ROOT}.{name}"
        if name == "participant":
            if astray is not None:
                return astray
        elif name not in after:
            return path
        elif name in allowed:
            continue
        elif name in before:
            return _where(before[name], after[name], path)
        else:
            # What only the partner calls so is not repeated: it may be anything.
            return path if name in ELEMENTS else ROOT
    return None


def _where(shown: Value, wanted: Value, path: str) -> str:
    """Name the innermost place where two values differ, in names of PKB's copy only."""
    while True:
        match shown, wanted:
            case dict(), dict():
                name = next((name for name in shown if name not in wanted or shown[name] != wanted[name]), None)
                if name is None:
                    return path
                path = f"{path}.{name}"
                if name not in wanted:
                    return path
                shown, wanted = shown[name], wanted[name]
            case list(), list() if len(shown) == len(wanted):
                place = next(n for n, (one, other) in enumerate(zip(shown, wanted, strict=True)) if one != other)
                path, shown, wanted = f"{path}[{place}]", shown[place], wanted[place]
            case _:
                return path


def _without_stamp(document: Object) -> Object:
    """Leave out what the server sets whatever it is sent (FHIR R4, http.html#update)."""
    meta = document.get("meta")
    if not isinstance(meta, dict):
        return document
    rest = {name: value for name, value in meta.items() if name not in _STAMP}
    others = {name: value for name, value in document.items() if name != "meta"}
    return {**others, "meta": rest} if rest else others


def _cancel(after: Object, comment: str | None) -> Cancel:
    """Read the reason as `$cancel` does: codes and text count, what is beside them does not."""
    concept = after.get("cancelationReason", {})
    if not isinstance(concept, dict):
        raise _Unfit("cancelationReason is no CodeableConcept.")
    codings = concept.get("coding", [])
    if not isinstance(codings, list) or len(codings) > MOST_CODINGS:
        raise _Unfit(f"cancelationReason has no array of at most {MOST_CODINGS} codings.")
    text = concept.get("text")
    if "text" in concept and not (isinstance(text, str) and len(text) <= LONGEST_REASON and is_clean(text)):
        raise _Unfit(f"cancelationReason needs a text of at most {LONGEST_REASON} characters, or none.")
    return Cancel(tuple(map(_coding, codings)), text if isinstance(text, str) else None, comment)


def _coding(value: Value) -> Coding:
    held = value if isinstance(value, dict) else {"code": None}
    system, code = held.get("system", ""), held.get("code", "")
    if not (isinstance(system, str) and isinstance(code, str)):
        raise _Unfit("cancelationReason has something else than a coding.")
    if len(system) > LONGEST_SYSTEM or len(code) > LONGEST_CODE:
        raise _Unfit("cancelationReason has a code or system that is too long.")
    return Coding(system, code)


def _change(before: Object, after: Object, facts: Appointment) -> tuple[Change, str | None]:
    """Gather what `$change` could say, and the path of what is changed about those who take part beyond it."""
    location, astray = _moved(before.get("participant"), after.get("participant"), facts.places)
    change = Change(
        start=_instant(Field.START, before, after, facts.start),
        end=_instant(Field.END, before, after, facts.end),
        comment=_fit(Field.COMMENT, after["comment"]) if _differs("comment", before, after) else None,
        location=None if location is None else _fit(Field.LOCATION, location),
    )
    return change, astray


def _fit(field: Field, value: Value) -> str:
    if not isinstance(value, str):
        raise _Unfit(f"{field} is no string.")
    if (why := why_unfit(field, value)) is not None:
        raise _Unfit(why)
    return value


def _instant(field: Field, before: Object, after: Object, known: datetime | None) -> Instant | None:
    """Read a time that differs, if the moment does and not only how it is written."""
    if not _differs(field, before, after):
        return None
    text = after[field]
    if not isinstance(text, str) or (at := read_instant(text)) is None:
        raise _Unfit(f"{field} is no FHIR instant with seconds and offset.")
    return None if at == known else Instant(at, text)


def _tells_length(before: Object, after: Object, change: Change, facts: Appointment) -> bool:
    """Whether `minutesDuration` is what the gateway will make of it beside the new times."""
    start = change.start.at if change.start else facts.start
    end = change.end.at if change.end else facts.end
    if start is None or end is None or (start, end) == (facts.start, facts.end):
        return False
    return "minutesDuration" in before and after.get("minutesDuration") == Number.of(length(start, end))


def _moved(before: Value, after: Value, places: tuple[int, ...]) -> tuple[str | None, str | None]:
    """Give the new name of the place, if that is what differs, and the path of whatever else does."""
    path, location = f"{ROOT}.participant", None
    if before == after:
        return None, None
    if not isinstance(before, list) or not isinstance(after, list):
        return None, path
    if not places and before == after[:-1]:
        location = _new_place(after[-1])
        return location, None if location is not None else path
    if len(before) != len(after):
        return None, path
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        if one == other:
            continue
        name = _renamed(one, other) if number in places and location is None else None
        if name is None:
            return location, _where(one, other, f"{path}[{number}]")
        location = name
    return location, None


def _new_place(participant: Value) -> str | None:
    """Give the name of a place that takes part anew, written just as the gateway itself would add it."""
    actor = participant.get("actor") if isinstance(participant, dict) else None
    display = actor.get("display") if isinstance(actor, dict) else None
    added: Object = {"actor": {"type": "Location", "display": display}, "status": "accepted"}
    return display if isinstance(display, str) and participant == added else None


def _renamed(shown: Value, wanted: Value) -> str | None:
    """Give the new name of a place. Its reference may go or stay: PKB gets none, for it names the old place."""
    if not isinstance(shown, dict) or not isinstance(wanted, dict):
        return None
    old, new = shown.get("actor"), wanted.get("actor")
    if not isinstance(old, dict) or not isinstance(new, dict) or {**shown, "actor": new} != wanted:
        return None
    display = new.get("display")
    kept = all(
        name == "display" or (name, held) == _TYPE or (name in old and old[name] == held) for name, held in new.items()
    )
    return display if kept and isinstance(display, str) and display != old.get("display") else None
