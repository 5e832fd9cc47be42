"""A command as a new version of PKB's own document: the values it names are replaced, all others stay as written.

The `_name` sibling of a replaced value stays too, with its id and extensions (PKB's feeds keep a time zone there),
save one that says the value is absent: beside a value that would contradict it.
"""

from typing import Final, assert_never

from gateway.domain.appointment import Appointment, Cancel, Change, Status, Write
from gateway.domain.strict_json import Number, Object, Value
from gateway.domain.values import length
from gateway.pkb.appointment_reading import is_location
from gateway.pkb.dialect import R4, Dialect

DATA_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


class NotExpressible(ValueError):
    """The command has no form in a FHIR Appointment. The rules refuse such a command long before."""


def rewrite(document: Object, facts: Appointment, command: Write, dialect: Dialect = R4) -> Object:
    """Give the document of the PUT. `document` was read from PKB and is left as it is; `facts` are what it says.

    `dialect` is the version of FHIR that `document` is written in. Raises NotExpressible.
    """
    # The copy is shallow: whatever is changed further down is replaced whole, never written into.
    new = dict(document)
    match command:
        case Cancel():
            _cancel(new, command, dialect)
        case Change():
            _change(new, facts, command, dialect)
        case unexpected:
            assert_never(unexpected)
    return new


def _cancel(new: Object, command: Cancel, dialect: Dialect) -> None:
    if command.reason is None:
        raise NotExpressible("a cancel needs one code of FHIR's reasons")
    codings: list[Value] = [{"system": coding.system, "code": coding.code} for coding in command.codings]
    reason: Object = {"coding": codings}
    if command.reason_text is not None:
        reason["text"] = command.reason_text
    _put(new, "status", Status.CANCELLED.value)
    dialect.put_reason(new, reason)
    if command.comment is not None:
        _put(new, "comment", command.comment)


def _change(new: Object, facts: Appointment, command: Change, dialect: Dialect) -> None:
    if command.management_url is not None:
        raise NotExpressible("FHIR has no element for a management URL")
    if command.start is not None:
        _put(new, "start", command.start.text)
    if command.end is not None:
        _put(new, "end", command.end.text)
    if command.comment is not None:
        _put(new, "comment", command.comment)
    if command.location is not None:
        _move(new, command.location, dialect)
    if "minutesDuration" in new:
        _lengthen(new, facts, command)


def _lengthen(new: Object, facts: Appointment, command: Change) -> None:
    """Keep the stated length true to the times; with one of them unknown there is nothing to reckon."""
    start = command.start.at if command.start else facts.start
    end = command.end.at if command.end else facts.end
    if (start, end) == (facts.start, facts.end) or start is None or end is None:
        return
    _put(new, "minutesDuration", Number.of(length(start, end)))


def _move(new: Object, display: str, dialect: Dialect) -> None:
    """Name another place. A reference to the old one would send the patient there, so only the name is kept."""
    participants = new.get("participant", [])
    if not isinstance(participants, list):
        raise NotExpressible("participant is no array")
    places = [position for position, each in enumerate(participants) if _is_place(each, new)]
    match places:
        case []:
            new["participant"] = [*participants, {"actor": dialect.place({}, display), "status": "accepted"}]
        case [place]:
            moved = participants[place]
            assert isinstance(moved, dict)
            old = moved["actor"]
            assert isinstance(old, dict)
            there: Object = moved | {"actor": dialect.place(old, display)}
            new["participant"] = [*participants[:place], there, *participants[place + 1 :]]
        case _:
            raise NotExpressible("several places take part")


def _is_place(participant: Value, document: Object) -> bool:
    actor = participant.get("actor") if isinstance(participant, dict) else None
    return isinstance(actor, dict) and is_location(actor, document)


def _put(new: Object, name: str, value: Value) -> None:
    new[name] = value
    beside = new.get(f"_{name}")
    if not isinstance(beside, dict) or not isinstance(beside.get("extension"), list):
        return
    extensions = beside["extension"]
    assert isinstance(extensions, list)
    kept = [each for each in extensions if not (isinstance(each, dict) and each.get("url") == DATA_ABSENT_REASON)]
    if len(kept) == len(extensions):
        return
    rest = {key: held for key, held in beside.items() if key != "extension"}
    if kept:
        rest["extension"] = kept
    if rest:
        new[f"_{name}"] = rest
    else:
        del new[f"_{name}"]
