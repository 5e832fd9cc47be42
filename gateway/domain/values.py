"""Which values a partner may give an appointment, by whatever operation they come."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from gateway.domain.grant import Field

LONGEST: Final[Mapping[Field, int]] = MappingProxyType({Field.COMMENT: 500, Field.LOCATION: 200})
"""In characters."""

LONGEST_REASON: Final = 200
"""Of the text beside a cancel's code, in characters."""

MOST_CODINGS: Final = 10
LONGEST_SYSTEM: Final = 200
LONGEST_CODE: Final = 100

_INSTANT: Final = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)"
)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def is_clean(text: str) -> bool:
    """Whether a text is neither blank nor holds control characters; tab and line breaks are none."""
    return bool(text.strip()) and _UNPRINTABLE.search(text) is None


def read_instant(text: str) -> datetime | None:
    """Read a FHIR R4 instant to the microsecond; None for anything else, and for times nobody can reckon with."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        at = datetime.fromisoformat(text)
        at.astimezone(UTC)
    except (ValueError, OverflowError):  # a day that its month does not have; a moment before the year 1 or after 9999
        return None
    return at


def why_unfit(field: Field, text: str) -> str | None:
    """Say why a text cannot be the value of a field; None where it can."""
    limit = LONGEST.get(field)
    if limit is not None and len(text) > limit:
        return f"{field} may have at most {limit} characters."
    if field is Field.LOCATION and "\n" in text:
        return "location is one line."
    return None if is_clean(text) else f"{field} is blank or holds control characters."


def length(start: datetime, end: datetime) -> int:
    """Reckon FHIR's `minutesDuration`, a positiveInt; a part of a minute at the end does not make another minute."""
    return max(1, (end - start) // timedelta(minutes=1))
