"""Amounts written with their unit: durations, rates and sizes. Every reader raises ValueError."""

import re
from datetime import timedelta
from typing import Final

from gateway.configuration.words import echo, kind_of
from gateway.domain.grant import Rate

DURATION_PATTERN: Final = "^[0-9]{1,10}(ms|s|m|h|d)$"
RATE_PATTERN: Final = "^[1-9][0-9]{0,8}/(s|min|h)$"
SIZE_PATTERN: Final = "^[1-9][0-9]{0,9}(B|KiB|MiB|GiB)$"
LONGEST: Final = timedelta(days=3650)
LARGEST: Final = 1024**4

_DURATION: Final = re.compile(r"([0-9]{1,10})(ms|s|m|h|d)")
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(s|min|h)")
_SIZE: Final = re.compile(r"([1-9][0-9]{0,9})(B|KiB|MiB|GiB)")
_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600}
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def duration(value: object) -> timedelta:
    """Read `"90s"`, `"15m"`, `"72h"`, `"30d"`, `"250ms"` as exact seconds; a day has 24 hours."""
    example = 'a duration such as "90s", "15m", "72h" or "30d"'
    match = _DURATION.fullmatch(_text(value, example))
    if match is None:
        raise ValueError(f"{echo(str(value))} is not {example}: a whole number and ms, s, m, h or d")
    length = int(match[1]) * _MILLISECONDS[match[2]]
    if length > LONGEST / timedelta(milliseconds=1):
        raise ValueError(f"longer than {LONGEST.days} days")
    return timedelta(milliseconds=length)


def positive_duration(value: object) -> timedelta:
    """Read a duration that is not zero."""
    length = duration(value)
    if not length:
        raise ValueError("must be longer than zero")
    return length


def rate(value: object) -> Rate:
    """Read `"600/min"`, `"20/s"`, `"1000/h"`."""
    example = 'a rate such as "600/min", "20/s" or "1000/h"'
    match = _RATE.fullmatch(_text(value, example))
    if match is None:
        raise ValueError(f"{echo(str(value))} is not {example}: a whole number above 0, a slash, and s, min or h")
    return Rate(int(match[1]), _SECONDS[match[2]])


def size(value: object) -> int:
    """Read `"64KiB"`, `"64MiB"` as bytes."""
    example = 'a size such as "64KiB" or "64MiB"'
    match = _SIZE.fullmatch(_text(value, example))
    if match is None:
        raise ValueError(f"{echo(str(value))} is not {example}: a whole number above 0 and B, KiB, MiB or GiB")
    count = int(match[1]) * _BYTES[match[2]]
    if count > LARGEST:
        raise ValueError("larger than 1024 GiB")
    return count


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {example}, in quotes, found {kind_of(value)}")  # noqa: TRY004 - pydantic collects ValueError only
    return value
