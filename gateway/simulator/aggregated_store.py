"""What PKB keeps of HL7 messages, and how much of it the Aggregated endpoint shows already."""

from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.simulator.store import Copy, Resource, Store

ALWAYS = datetime.min.replace(tzinfo=UTC)


class AggregatedStore:
    """The newest copies, and for readers the newest of those that have become visible."""

    def __init__(self) -> None:
        self.newest = Store()
        self._history: dict[tuple[str, str], list[tuple[datetime, Copy]]] = {}
        self.management_urls: dict[str, str] = {}
        """By appointment id. FHIR has no place for them, so that no read shows them."""

    def put(self, kind: str, id_: str, resource: Resource, at: datetime, visible: datetime = ALWAYS) -> Copy:
        """Store a new version that readers see from a given time on."""
        copy = self.newest.put(kind, id_, resource, at)
        self._history.setdefault((kind, id_), []).append((visible, copy))
        return copy

    def reveal(self) -> None:
        """Let everything be seen at once."""
        for versions in self._history.values():
            versions[:] = [(ALWAYS, copy) for _, copy in versions]

    def seen(self, now: datetime) -> "View":
        """What readers see at a time."""
        return View(self._history, now)


class View:
    """The visible copies by type and id."""

    def __init__(self, history: dict[tuple[str, str], list[tuple[datetime, Copy]]], now: datetime) -> None:
        self._history = history
        self._now = now

    def get(self, kind: str, id_: str) -> Copy | None:
        """The newest visible version, if any."""
        versions = self._history.get((kind, id_), [])
        return next((copy for visible, copy in reversed(versions) if visible <= self._now), None)

    def all(self, kind: str) -> Iterator[Copy]:
        """Every visible resource of a type, in the order of their creation."""
        found = (self.get(kind, id_) for held, id_ in self._history if held == kind)
        return (copy for copy in found if copy is not None)
