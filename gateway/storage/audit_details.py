"""What AuditEvent has no element for, as pairs of a name and a text."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.domain.chain import Record

_PLAIN: Final = (
    "partner", "correlation_id", "grant", "grants_digest", "operation", "decision", "code", "reason", "intent",
    "outcome", "final", "recovered", "task", "now", "signature", "kid",
)  # fmt: skip
_JSON: Final = ("shadow", "chains", "torn", "counts", "removed")


def details(record: Record) -> list[dict[str, str]]:
    """Give the pairs; names are those of the record, `upstream.status` for what lies deeper."""
    return [{"type": name, "valueString": text} for name, text in _pairs(record)]


def _pairs(record: Record) -> Iterator[tuple[str, str]]:
    for name in _PLAIN:
        yield from _pair(name, record.get(name))
    yield from _deeper("token", record["token"], ("iss", "jti", "kid"))
    yield from _deeper("upstream", record["upstream"], tuple(record["upstream"] or ()))
    if record["checks"]:
        yield "checks", ", ".join(f"{rule}={'passed' if passed else 'failed'}" for rule, passed in record["checks"])
    if record["change"]:
        yield "changed", ", ".join(record["change"])
    for name in _JSON:
        if record.get(name):
            yield name, json.dumps(record[name], ensure_ascii=False, separators=(",", ":"))


def _deeper(name: str, value: Mapping[str, Any] | None, below: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for each in below if value else ():
        yield from _pair(f"{name}.{each}", (value or {}).get(each))


def _pair(name: str, value: object) -> Iterator[tuple[str, str]]:
    match value:
        case None | [] | "":
            return
        case bool():
            yield name, "true" if value else "false"
        case list():
            yield name, ", ".join(map(str, value))
        case _:
            yield name, str(value)
