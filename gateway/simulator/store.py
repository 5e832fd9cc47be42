"""What one box holds: the newest version of every resource, numbered by one counter for the whole box.

Nothing of what was sent is touched but `meta.versionId` and `meta.lastUpdated`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from typing import Any

from gateway.simulator.exact_json import write

Resource = dict[str, Any]


@dataclass(frozen=True)  # without slots, which leave no room for what is written once
class Copy:
    """One version of a resource."""

    id: str
    resource: Resource
    version: str
    modified: str  # as an HTTP date

    @cached_property
    def body(self) -> bytes:
        """The resource as JSON; most of what a world is made of is never asked for."""
        return write(self.resource)


class Store:
    """The resources of a box by type and id. A deleted one leaves a mark."""

    def __init__(self) -> None:
        self._transaction = 0
        self._copies: dict[str, dict[str, Copy | None]] = {}

    def get(self, kind: str, id_: str) -> Copy | None:
        """The newest version, or None when there is none or it was deleted."""
        return self._copies.get(kind, {}).get(id_)

    def was_deleted(self, kind: str, id_: str) -> bool:
        """Whether it was there once and is no more."""
        held = self._copies.get(kind, {})
        return id_ in held and held[id_] is None

    def all(self, kind: str) -> Iterator[Copy]:
        """Every resource of a type, in the order of their creation."""
        return (copy for copy in self._copies.get(kind, {}).values() if copy is not None)

    def put(self, kind: str, id_: str, resource: Resource, at: datetime) -> Copy:
        """Store a new version as sent, stamped with the next transaction number."""
        self._transaction += 1
        version = str(self._transaction)
        stamped = _stamped(resource, version, at)
        copy = Copy(id_, stamped, version, format_datetime(at.astimezone(UTC), usegmt=True))
        self._copies.setdefault(kind, {})[id_] = copy
        return copy

    def remove(self, kind: str, id_: str) -> None:
        """Delete it. A deletion is a transaction too."""
        self._transaction += 1
        self._copies.setdefault(kind, {})[id_] = None


def instant(at: datetime) -> str:
    """The way Aidbox writes times: UTC with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stamped(resource: Resource, version: str, at: datetime) -> Resource:
    meta = resource.get("meta", {})
    if not isinstance(meta, dict):
        return resource
    return {**resource, "meta": {**meta, "versionId": version, "lastUpdated": instant(at)}}
