"""What cannot be said in PKB's HL7 messages, judged before one is sent.

PKB takes times to the minute in local time without an offset, a blank for "leave it as it is", and replaces every
participant by those of the message. What would get lost or mean something else that way is not sent at all.
"""

import re
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from gateway.domain.appointment import GENERAL_HEALTH, Appointment, Cancel, Change, Status, Write

# What ends a line for some reader, what no message may hold, and what XML 1.0 has no way to write.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_NHS_NUMBER = re.compile(r"[0-9]{10}")
_NULL = '""'
"""HL7's word for "delete the value"."""


class Unsayable(StrEnum):
    """Why a command cannot be sent as an HL7 message, as the partner is told."""

    NO_PLACER_ID = "PKB's copy does not have exactly one placer id, by which HL7 names an appointment."
    NO_NHS_NUMBER = "PKB's copy of the patient has no NHS number, by which HL7 names a patient."
    NOT_BOOKED = "HL7 tells booked, cancelled and missed appointments apart, no others: a change would book this one."
    CANCEL_COMMENT = "A cancel carries no comment on this route."
    SECONDS = "Times are sent to the minute on this route: start and end need zero seconds."
    REPEATED_HOUR = "Times are sent as local time: the hour that occurs twice when clocks go back cannot be told."
    BLANK = "A blank text would leave PKB's value as it is, so a value cannot be emptied on this route."
    LINE_BREAK = "Texts are sent as one line on this route, without line breaks and control characters."
    NAMELESS_PARTICIPANT = "A participant has no display, and a change would lose it on this route."
    SEVERAL_SPECIALTIES = "The appointment has several specialties, and a change would keep one of them on this route."
    LABEL_LOST = "The appointment has a privacy label but no specialty to derive it from, and a change would lose it."


def unsayable(command: Write, appointment: Appointment, zone: ZoneInfo) -> Unsayable | None:
    """Say why a command about this appointment has no HL7 message; None where it has one. `zone` is the customer's."""
    if not is_sayable(appointment.placer_id):
        return Unsayable.NO_PLACER_ID
    if appointment.patient is None or not is_nhs_number(appointment.patient.nhs_number):
        return Unsayable.NO_NHS_NUMBER
    if isinstance(command, Cancel):
        return Unsayable.CANCEL_COMMENT if command.comment is not None else None
    if appointment.status is not Status.BOOKED:
        return Unsayable.NOT_BOOKED
    return _of_times(command, zone) or _of_texts(command) or _of_what_stays(appointment)


def is_nhs_number(number: str | None) -> bool:
    """Whether an NHS number is ten digits; the check digit is PKB's to examine."""
    return number is not None and _NHS_NUMBER.fullmatch(number) is not None


def is_sayable(text: str | None) -> bool:
    """Whether a text is there, on one line, and cannot be taken for "leave it" or "delete it"."""
    return text is not None and not _is_blank(text) and is_printable(text)


def is_printable(text: str) -> bool:
    """Whether a text has neither line breaks nor control characters nor anything XML cannot hold."""
    return _UNPRINTABLE.search(text) is None


def local_minute(at: datetime, zone: ZoneInfo) -> str | None:
    """Write an instant as HL7 local time `YYYYMMDDHHMM`, as far as that tells it apart from every other instant."""
    return None if why_inexact(at, zone) else at.astimezone(zone).strftime("%Y%m%d%H%M").rjust(12, "0")


def why_inexact(at: datetime, zone: ZoneInfo) -> Unsayable | None:
    """Say why local time to the minute would lose or double an instant."""
    try:
        local = at.astimezone(zone)
    except OverflowError:  # the calendar ends at the years 1 and 9999
        return Unsayable.SECONDS
    if local.second or local.microsecond:
        return Unsayable.SECONDS
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        return Unsayable.REPEATED_HOUR
    return None


def _of_times(change: Change, zone: ZoneInfo) -> Unsayable | None:
    given = [instant.at for instant in (change.start, change.end) if instant is not None]
    return next(filter(None, (why_inexact(at, zone) for at in given)), None)


def _of_texts(change: Change) -> Unsayable | None:
    given = [text for text in (change.comment, change.location, change.management_url) if text is not None]
    if any(_is_blank(text) for text in given):
        return Unsayable.BLANK
    return None if all(map(is_printable, given)) else Unsayable.LINE_BREAK


def _of_what_stays(appointment: Appointment) -> Unsayable | None:
    if not all(map(is_sayable, appointment.participants)):
        return Unsayable.NAMELESS_PARTICIPANT
    # Codes of different systems may tell the same specialty; two codes of one system are two specialties.
    if len({coding.system for coding in appointment.specialties}) < len(appointment.specialties):
        return Unsayable.SEVERAL_SPECIALTIES
    # PKB derives the label anew from the specialty of the message; without one it is general health.
    derivable = bool(appointment.specialties) or appointment.labels == {GENERAL_HEALTH}
    return None if derivable else Unsayable.LABEL_LOST


def _is_blank(text: str) -> bool:
    return text.strip() in {"", _NULL}
