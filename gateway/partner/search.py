"""The parameters of a search: text in, a query or a cursor out. Nothing of them is ever repeated."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Status
from gateway.domain.codes import Code
from gateway.domain.grant import Coding
from gateway.domain.search import MOST_COUNT, USUAL_COUNT, Query
from gateway.partner.target import REPEATABLE
from gateway.partner.wire import Misfit

PATIENT: Final = "patient.identifier"
IDENTIFIER: Final = "identifier"
PARAMETERS: Final = (PATIENT, IDENTIFIER, "date", "status", "_count", "_cursor")
"""Everything that a search may say; a name with a modifier or of another chain is another name."""
EARLIEST_YEAR: Final = 1900
LATEST_YEAR: Final = 9998

# FHIR gives comma, dollar and backslash a meaning inside of a value, so that one value would be several to PKB.
_TOKEN: Final = re.compile(r"([^\s|,$\\]{1,200})\|([^\s|,$\\](?:[^|,$\\]{0,198}[^\s|,$\\])?)")
_NHS_NUMBER: Final = re.compile(r"[0-9]{10}")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,2}")
_DATE: Final = re.compile(
    r"(eq|gt|lt|ge|le)?([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)

Pairs = Sequence[tuple[str, str]]


def read_search(pairs: Pairs, zone: ZoneInfo) -> Query | str | Misfit:
    """Read the parameters of a search: a query, or the text of a cursor. `zone` is the customer's."""
    names = [name for name, _ in pairs]
    for name in names:
        if name not in PARAMETERS:
            return _wrong(f"A search takes only {', '.join(PARAMETERS)}; names are exact.")
        if names.count(name) > 1 and name not in REPEATABLE:
            return _wrong(f"{name} may come once.")
    given = dict(pairs)
    if "_cursor" in given:
        return given["_cursor"] if len(pairs) == 1 else _wrong("_cursor stands alone.")
    if PATIENT not in given and IDENTIFIER not in given:
        return Misfit(Code.MISSING_PARAMETER, f"A search needs {PATIENT} or {IDENTIFIER}, as system|value.")
    return _read_query(given, [value for name, value in pairs if name == "date"], zone)


def _read_query(given: dict[str, str], dates: Sequence[str], zone: ZoneInfo) -> Query | Misfit:
    tokens: dict[str, Coding] = {}
    for name in (PATIENT, IDENTIFIER):
        if name in given:
            token = _read_token(given[name])
            if token is None or (name == PATIENT and not _is_patient(token)):
                return _wrong(f"{name} must be one system|value; an NHS number has ten digits.")
            tokens[name] = token
    statuses = _read_statuses(given["status"]) if "status" in given else frozenset[Status]()
    if statuses is None:
        return _wrong("status must be a status of a FHIR R4 Appointment, or several with commas between.")
    count = given.get("_count", str(USUAL_COUNT))
    if not _COUNT.fullmatch(count) or int(count) > MOST_COUNT:
        return _wrong(f"_count must be a number from 1 to {MOST_COUNT}.")
    since, before = _EVER
    for text in dates:
        bounds = _read_date(text, zone)
        if isinstance(bounds, Misfit):
            return bounds
        since, before = max(since, bounds[0]), min(before, bounds[1])
    return Query(
        tokens.get(PATIENT),
        tokens.get(IDENTIFIER),
        None if since == _EVER[0] else since,
        None if before == _EVER[1] else before,
        statuses,
        int(count),
    )


def _wrong(detail: str) -> Misfit:
    return Misfit(Code.INVALID_PARAMETER, detail)


def _read_token(text: str) -> Coding | None:
    found = _TOKEN.fullmatch(text)
    return Coding(found[1], found[2]) if found else None


def _is_patient(token: Coding) -> bool:
    return token.system != NHS_NUMBER_SYSTEM or _NHS_NUMBER.fullmatch(token.code) is not None


def _read_statuses(text: str) -> frozenset[Status] | None:
    try:
        return frozenset(Status(word) for word in text.split(","))
    except ValueError:
        return None


Bounds = tuple[datetime, datetime]
"""The earliest moment, inclusive, and the latest, exclusive."""
_EVER: Final[Bounds] = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _read_date(text: str, zone: ZoneInfo) -> Bounds | Misfit:
    """Tell what one `date` lets through: a value stands for all of its day, minute and so on (R4, search, "date")."""
    found = _DATE.fullmatch(text)
    if found is None or not EARLIEST_YEAR <= int(found[2]) <= LATEST_YEAR:
        return _wrong("date must be a FHIR date or date-time, after eq, gt, lt, ge, le or nothing.")
    try:
        stretch = _stretch(found, zone)
    except ValueError:
        return _wrong("date is no day or time that there is.")
    if stretch is None:
        return _wrong("date is a time that the customer's zone has twice, or not at all; write its offset.")
    first, after = stretch
    match found[1]:
        case "gt":
            return after, _EVER[1]
        case "ge":
            return first, _EVER[1]
        case "lt":
            return _EVER[0], first
        case "le":
            return _EVER[0], after
        case _:
            return first, after


def _stretch(found: re.Match[str], zone: ZoneInfo) -> Bounds | None:
    """Give beginning and end of what a date means; None for a time without one meaning. Raises ValueError."""
    year, month, day = (int(part) if part else None for part in found.group(2, 3, 4))
    if found[5] is None:
        begin = datetime(year or 0, month or 1, day or 1, tzinfo=zone)
        if day is not None:
            end = datetime.combine(begin.date() + timedelta(days=1), begin.time(), zone)
        elif month is not None:
            end = begin.replace(year=begin.year + month // 12, month=month % 12 + 1)
        else:
            end = begin.replace(year=begin.year + 1)
        return begin.astimezone(UTC), end.astimezone(UTC)
    fraction = found[8] or ""
    at = datetime(
        year or 0,
        month or 0,
        day or 0,
        int(found[5]),
        int(found[6]),
        int(found[7] or 0),
        int(fraction.ljust(6, "0")),
        tzinfo=_offset(found[9]) if found[9] else zone,
    )
    if at.utcoffset() != at.replace(fold=1).utcoffset():
        return None
    length = timedelta(microseconds=10 ** (6 - len(fraction))) if found[7] else timedelta(minutes=1)
    return at.astimezone(UTC), at.astimezone(UTC) + length


def _offset(text: str) -> tzinfo | None:
    return datetime.strptime(text, "%z").tzinfo
