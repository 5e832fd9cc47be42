"""What the console asks of the rest of the gateway, declared beside its only reader."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from gateway.admin.feed import Filter, Record, Source
from gateway.admin.ring import Ring
from gateway.domain.decision import Decision
from gateway.domain.grant import Policy
from gateway.flow.store import Filed


class Undone(Exception):
    """What a person wanted is not done, or only half; the message says what is and why."""


class Missing(Exception):
    """The place that something is kept in does not answer; the message says which."""


@dataclass(frozen=True, slots=True)
class GrantsFile:
    """How the grants file stands. Problems are `file:line: path: message`."""

    path: str
    digest: str
    loaded_at: datetime
    problems: tuple[str, ...] = ()
    """Why the file as it is now is not in force."""
    refused_at: datetime | None = None
    failing: tuple[str, ...] = ()
    """The customers' own tests that the grants in force fail."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Who is blocked, where (None: everywhere), by whom, since when."""

    partner: str
    customer: str | None
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Lookup:
    """The records that name an id, the oldest first, and how far the search went."""

    records: tuple[Record, ...]
    looked_at: int
    back_to: str | None
    stopped_after: str | None
    damaged: int
    cut: bool = False
    """There are more than one search gives."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it was typed into the form; empty: not said."""

    partner: str
    customer: str
    operation: str
    appointment: str
    at: str = ""
    reason: str = ""
    start: str = ""
    end: str = ""
    fields: frozenset[str] = frozenset()
    """Of comment, location, managementUrl: those that the change is to touch, whatever is in them."""
    patient: str = ""
    birth_date: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What would be decided."""

    decision: Decision
    now: datetime
    digest: str
    unasked: str | None
    """The rule that had nothing to judge."""
    patient_wanted: bool
    """The grant wants NHS number and date of birth with each request, and they were not given."""


class Audit(Protocol):
    """The audit folder of this machine. Raises Missing."""

    async def find(self, id_: str, after: str) -> Lookup:
        """Find what names an id, the newest files first; `after` goes on where an earlier search stopped."""
        ...

    async def recent(self, wanted: Filter, count: int) -> Sequence[Record]:
        """Give the last records that are wanted, the oldest first."""
        ...

    def source(self) -> Source:
        """Give what reads the folder as it grows."""
        ...


class Deeds(Protocol):
    """What a named person may do; all of it goes on record. Raises Undone."""

    async def resolve(self, task: str, outcome: Literal["applied", "rejected"], by: str) -> None:
        """End an open write as that person saw it in PKB."""
        ...

    async def block(self, partner: str, customer: str | None, by: str) -> bool:
        """Shut a partner out; False where it was already."""
        ...

    async def unblock(self, partner: str, customer: str | None, by: str) -> bool:
        """Lift exactly that block; False where there was none."""
        ...

    async def explain(self, asked: Asked, by: str) -> Answered:
        """Decide on PKB's present copy of an appointment."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the pages get what they show."""

    clock: Callable[[], datetime]
    policy: Callable[[], Policy]
    grants_file: Callable[[], GrantsFile]
    audit: Audit
    open_writes: Callable[[], Awaitable[Sequence[Filed]]]
    """Raises Missing."""
    blocks: Callable[[], Awaitable[Sequence[Blocked]]]
    """Raises Missing."""
    breakers: Callable[[], Mapping[str, str]]
    """The state of the breaker by route."""
    ring: Ring
    deeds: Deeds
    speaker: str
    """Which process answers, where there are several; else empty."""
    version: str
