"""Which records are wanted: the filters that verbs on the audit stream share."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from gateway.cli import tables
from gateway.storage.journal_records import stamp

_UTC: Final = ZoneInfo("UTC")
_FIELDS: Final[Mapping[str, str]] = {
    "event": "Records of this event only.",
    "partner": "Records of this partner only.",
    "customer": "Records of this customer only.",
    "task": "Records of this write only.",
    "request_id": "Records of this request only.",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Records that have these values, of this time, and about one of these patients (None: whoever)."""

    values: Mapping[str, str]
    since: str | None = None
    until: str | None = None
    patients: frozenset[str] | None = None

    def may_be(self, line: bytes) -> bool:
        """Tell most lines that are not wanted without reading them as JSON."""
        told = all(json.dumps(value, ensure_ascii=False).encode() in line for value in self.values.values())
        return told and (self.patients is None or any(name.encode() in line for name in self.patients))

    def takes_line(self, line: bytes) -> bool:
        """Whether a line is a wanted record; one that is no record is wanted where everything is."""
        if self == _EVERYTHING:
            return True
        if not self.may_be(line):
            return False
        try:
            record = json.loads(line)
        except ValueError:
            return False
        return isinstance(record, dict) and self.takes(record)

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is wanted."""
        time = str(record.get("time"))
        return (
            all(record.get(name) == value for name, value in self.values.items())
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
            and (self.patients is None or record.get("patient") in self.patients)
        )


_EVERYTHING: Final = Wanted({})


def filter_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options and, as `wanted`, what they come to."""

    @functools.wraps(verb)
    def filtered(*args: Any, since: str | None, until: str | None, **options: Any) -> None:
        values = {name: given for name in _FIELDS if (given := options.pop(name)) is not None}
        verb(*args, wanted=Wanted(values, _moment(since), _moment(until)), **options)

    for name, text in reversed(list(_FIELDS.items())):
        filtered = click.option(f"--{name.replace('_', '-')}", name, metavar="ID", help=text)(filtered)
    filtered = click.option("--until", metavar="TIME", help="Records before then; UTC without an offset.")(filtered)
    return click.option("--from", "since", metavar="TIME", help="Records from then on; UTC without an offset.")(
        filtered
    )


def _moment(text: str | None) -> str | None:
    return None if text is None else stamp(tables.read_time(text, _UTC))
