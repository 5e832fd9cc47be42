"""The three HL7 v2 messages that the gateway can say to PKB: S13, S14 and a minimal S15. No I/O.

There is no way to write an S12, which would replace an appointment whole. Every value goes through `_text`, the only
place that decides which characters get into a message; the separators are written by `_segment` and `_field` alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from gateway.domain.hl7_limits import is_nhs_number, is_printable, is_sayable, local_minute

APPLICATION: Final = "PKB-GATEWAY"
VERSION: Final = "2.4"

_ALIAS: Final = re.compile(r"[A-Za-z0-9\-_.]{1,64}")
_CONTROL_ID: Final = re.compile(r"[A-Za-z0-9\-]{1,36}")
_PROCESSING_ID: Final = re.compile(r"[PTD]")
_ESCAPES: Final = str.maketrans({"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"})

_Field = str | Mapping[int, str | None]
_Trigger = Literal["S13", "S14", "S15"]


class NotSayable(ValueError):
    """A value has no place in a message. The rules refuse such a command long before."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who says it, on whose behalf, when, and under which number (MSH)."""

    alias: str
    """PKB's word for the customer, as issued to the partner; MSH-4 becomes `alias{alias}`."""
    control_id: str
    """MSH-10, never used before: PKB does not notice a repeated one."""
    at: datetime
    """An instant with an offset, to the second."""
    processing_id: str
    zone: ZoneInfo
    """The customer's; all times of a message are local and without an offset."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom it is about (PID)."""

    nhs_number: str
    family: str | None
    given: str | None
    birth_date: date | None
    """As the partner believes it to be: PKB compares it with its own and holds the message when they differ."""


@dataclass(frozen=True, slots=True)
class Times:
    """The new start and end, as instants; None leaves PKB's value alone."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """New texts; None leaves PKB's value alone."""

    comment: str | None = None
    location: str | None = None
    management_url: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What PKB would derive anew or purge if a message did not repeat it."""

    encounter_class: str | None = None
    specialty: str | None = None
    """PKB derives the privacy label from it."""
    participants: tuple[str, ...] = ()
    """The whole display of each."""


NO_DETAILS: Final = Details()


def cancel(envelope: Envelope, person: Person, placer_id: str) -> str:
    """Write an S15 so small that PKB rejects it where it does not know the placer id. Raises NotSayable."""
    return _message("S15", envelope, person, _schedule(placer_id, {}))


def move(
    envelope: Envelope, person: Person, placer_id: str, times: Times, kept: Kept, details: Details = NO_DETAILS
) -> str:
    """Write an S13: new times, and whatever else is new. Raises NotSayable."""
    if times == Times():
        raise NotSayable("no time is given")
    zone = envelope.zone
    timing = {position: _minute(at, zone) for position, at in ((4, times.start), (5, times.end)) if at is not None}
    return _message("S13", envelope, person, _schedule(placer_id, timing), *_rest(kept, details))


def update(envelope: Envelope, person: Person, placer_id: str, kept: Kept, details: Details) -> str:
    """Write an S14: new texts, the times left alone. Raises NotSayable."""
    if details == NO_DETAILS:
        raise NotSayable("no value is given")
    return _message("S14", envelope, person, _schedule(placer_id, {}), *_rest(kept, details))


def _message(trigger: _Trigger, envelope: Envelope, person: Person, *segments: str) -> str:
    return "".join(f"{segment}\r" for segment in (_header(trigger, envelope), _patient(person), *segments))


def _header(trigger: _Trigger, envelope: Envelope) -> str:
    alias = _checked(envelope.alias, _ALIAS, "alias")
    fields: dict[int, _Field] = {
        3: APPLICATION,
        4: f"{alias}{{{alias}}}",
        5: "HL7API",
        6: "PKB",
        # PKB takes it for the time of entry and discourages an offset.
        7: envelope.at.astimezone(envelope.zone).strftime("%Y%m%d%H%M%S"),
        9: {1: "SIU", 2: trigger},
        10: _checked(envelope.control_id, _CONTROL_ID, "control id"),
        11: _checked(envelope.processing_id, _PROCESSING_ID, "processing id"),
        12: VERSION,
    }
    return _segment("MSH|^~\\&", fields, first=3)


def _patient(person: Person) -> str:
    if not is_nhs_number(person.nhs_number):
        raise NotSayable("the NHS number is not ten digits")
    fields: dict[int, _Field] = {3: {1: person.nhs_number, 4: "NHS", 5: "NH"}}
    if person.family or person.given:
        fields[5] = {1: person.family, 2: person.given}
    if person.birth_date is not None:
        fields[7] = person.birth_date.isoformat().replace("-", "")
    return _segment("PID", fields)


def _schedule(placer_id: str, timing: Mapping[int, str]) -> str:
    fields: dict[int, _Field] = {1: _given(placer_id, "placer id")}
    if timing:
        fields[11] = timing
    return _segment("SCH", fields)


def _rest(kept: Kept, details: Details) -> list[str]:
    """Write NTE, PV1, RGS with its AIPs, and ZAP, as far as there is something to say in them."""
    segments = []
    if details.comment is not None:
        segments.append(_segment("NTE", {3: _given(details.comment, "comment")}))
    visit: dict[int, _Field] = {}
    if kept.encounter_class is not None:
        visit[2] = _given(kept.encounter_class, "encounter class")
    if details.location is not None:
        visit[3] = {9: _given(details.location, "location")}
    if kept.specialty is not None:
        visit[10] = _given(kept.specialty, "specialty")
    if visit:
        segments.append(_segment("PV1", visit))
    if kept.participants:
        segments += [_segment("RGS", {1: ""}), *map(_participant, kept.participants)]
    if details.management_url is not None:
        segments.append(_segment("ZAP", {1: _given(details.management_url, "management URL")}))
    return segments


def _participant(display: str) -> str:
    """Write the whole display as the name, since PKB shows nothing but the name; the role in brackets is repeated."""
    fields: dict[int, _Field] = {3: {2: _given(display, "participant")}}
    role = _role(display)
    if role is not None:
        fields[4] = {2: role}
    return _segment("AIP", fields)


def _role(display: str) -> str | None:
    """Give the role where a display ends with it in brackets, as in `Dr Jones (Consultant)`."""
    _, opened, rest = display.rpartition("(")
    role = rest.removesuffix(")")
    return role if opened and rest == f"{role})" and role and role == role.strip() and ")" not in role else None


def _segment(lead: str, fields: Mapping[int, _Field], *, first: int = 1) -> str:
    return "|".join([lead, *(_field(fields.get(number, "")) for number in range(first, max(fields) + 1))])


def _field(field: _Field) -> str:
    if isinstance(field, str):
        return _text(field)
    return "^".join(_text(field.get(number) or "") for number in range(1, max(field) + 1)).rstrip("^")


def _text(text: str) -> str:
    """Escape what HL7 would take for structure (v2.4 chapter 2.10). Raises NotSayable."""
    if not is_printable(text):
        raise NotSayable("a text has line breaks or control characters")
    return text.translate(_ESCAPES)


def _given(text: str, name: str) -> str:
    if not is_sayable(text):
        raise NotSayable(f"the {name} is blank, or not one line of text")
    return text


def _minute(at: datetime, zone: ZoneInfo) -> str:
    minute = local_minute(at, zone)
    if minute is None:
        raise NotSayable("local time to the minute does not tell the time")
    return minute


def _checked(text: str, pattern: re.Pattern[str], name: str) -> str:
    if pattern.fullmatch(text) is None:
        raise NotSayable(f"the {name} has characters that it must not have")
    return text
