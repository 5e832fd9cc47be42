"""The shape of an audit record: every record has every field, so that an auditor sees one table."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from gateway.domain.chain import Record

VERSION: Final = 1
RECORD_BYTES: Final = 256 * 1024
"""A longer record is refused: the flow writes short ones, and a reader must be able to bound its memory."""
LINE_BYTES: Final = 16 * 1024 * 1024
"""What a reader must be ready for: a start record names every chain of its folder."""

FIELDS: Final = (
    "v", "chain", "seq", "time", "event", "request_id", "correlation_id", "partner", "customer", "grant",
    "grants_digest", "operation", "appointment", "patient", "decision", "code", "checks", "facts", "reason",
    "intent", "outcome", "final", "recovered", "task", "upstream", "change", "shadow", "operator", "token",
    "client", "now", "duration_ms",
)  # fmt: skip
"""The fields of every record in their order; `prev` and `hash` follow."""
EXTRAS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "checkpoint": frozenset({"signature", "kid"}),
        "segments-removed": frozenset({"removed"}),
        "start": frozenset({"chains", "torn"}),
        "suppressed": frozenset({"counts"}),
    }
)
_GIVEN = frozenset(FIELDS) - {"v", "chain", "seq", "time"}
_BLANK: Final[Record] = dict.fromkeys(FIELDS)


def checked(record: Mapping[str, object]) -> Record:
    """Copy a record. Raises ValueError where its event is absent or a field is none of its event's."""
    match record.get("event"):
        case str(event):
            known = record.keys() <= _GIVEN
        case _:
            raise ValueError("a record has an event")
    foreign = frozenset() if known else record.keys() - _GIVEN - EXTRAS.get(event, frozenset())
    if foreign:
        raise ValueError(f"no fields of {event} records: {', '.join(sorted(foreign))}")
    return dict(record)


def placed(record: Record, chain: str, seq: int, time: str) -> dict[str, Any]:
    """Give a record its place in a chain; absent fields are null."""
    return {**_BLANK, **record, "v": VERSION, "chain": chain, "seq": seq, "time": time}


def stamp(at: datetime) -> str:
    """Write a time: UTC, microseconds, Z."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
