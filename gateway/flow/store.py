"""What the story asks of the request store: one open write an appointment, one answer a key, one end a write.

The store outlives the process and may be shared by several. Where it and the audit stream differ, the stream is right.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.flow.tasks import Task

Key = tuple[str, str]
"""Route and appointment id, or route and placer id: every path leads to the same appointment."""


LEASE_SECONDS = 6.0
"""How long a node that no longer says that it lives keeps its writes."""


class Phase(StrEnum):
    """How far a write has come."""

    HELD = "held"
    """It has the appointment's turn; nothing can have been sent."""
    SENT = "sent"
    """Its intent is durable and it may send its message; the request that caused it still runs, or died."""
    OPEN = "open"
    """Its request was told `unknown` or `accepted`, or died; somebody follows it until it ends."""
    ENDED = "ended"
    """Nothing more happens to it, but for the record of its end where that is still owed."""


@dataclass(frozen=True, slots=True)
class Filed:
    """A write as the store has it."""

    task: Task
    phase: Phase
    chain: str
    """The chain of the audit stream in which its intent is, or would be."""
    owed: str | None = None
    """Once it has ended: the chain that is to hold the record of the end, until that is known to be there."""
    record: Mapping[str, Any] | None = None
    """That record, while it is owed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the store knows of one name of an appointment."""

    epoch: int = 0
    """How many writes have taken it. Who read PKB under another number read something older."""
    holder: Filed | None = None
    """The write that has not ended yet."""


@dataclass(frozen=True, slots=True)
class KeyIsNew:
    """Nobody used this idempotency key before; it is the caller's now."""


@dataclass(frozen=True, slots=True)
class KeyIsOthers:
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class KeyIsKnown:
    """The same request came before. `filed` is None while nothing was intended: it still runs."""

    filed: Filed | None


KeyClaim = KeyIsNew | KeyIsOthers | KeyIsKnown


class Store(Protocol):
    """The request store as one node sees it. Every method raises StateUnavailable.

    Changes survive the death of this process on return, and a power cut as well, with these exceptions: what was
    claimed, held, dropped or freed is as durable as the next `send`, and an end as the next change of another kind.
    Until then the audit stream tells of it.
    """

    async def claim_key(self, partner: str, key: str, fingerprint: str, task: str) -> KeyClaim:
        """Take an idempotency key for the write that will have this Task, or say who has it."""
        ...

    async def free_key(self, task: str) -> None:
        """Give back the key of a write that never came to an intent."""
        ...

    async def look(self, keys: Sequence[Key]) -> Sequence[Turn]:
        """Say what is known of the names of an appointment, in their order."""
        ...

    async def hold(self, task: Task, turns: Mapping[Key, int], chain: str) -> bool:
        """File a write and give it all these names; False, and nothing done, where one of them has a holder or
        another epoch than the caller saw.
        """
        ...

    async def send(self, task: Task) -> bool:
        """Go from HELD to SENT; False where this node no longer owns the write: then it must not be sent."""
        ...

    async def open(self, task: Task) -> None:
        """Go from SENT to OPEN, or keep an open Task as it now is. What has ended stays as it ended."""
        ...

    async def end(self, task: Task, record: Mapping[str, Any], chain: str, *, free_key: bool = False) -> bool:
        """Go to ENDED, let go of the appointment and owe `record` to `chain`; False where it has ended already.

        Of all who try, in whatever process, exactly one is told True; only that one records the end.
        """
        ...

    async def recorded(self, tasks: Collection[str]) -> None:
        """The records of these ends are on the chains that owed them."""
        ...

    async def drop(self, task: str) -> None:
        """Forget a held write that came to no intent: its appointment and its key are free again."""
        ...

    async def secure(self) -> None:
        """Make durable whatever is not yet."""
        ...

    async def find(self, task: str) -> Filed | None:
        """Find a write."""
        ...

    async def renew(self, chain: str | None = None) -> bool:
        """Say that this node lives, and which chain it writes by now.

        False where another took it for dead; it goes on under a new name.
        """
        ...

    async def peers(self) -> Sequence[str]:
        """Name the chains under which the other nodes were registered, dead or alive."""
        ...

    async def adopt(self, died: Iterable[str]) -> Sequence[Filed]:
        """Take over what has not ended from nodes whose lease ran out and from those of these chains, which are
        known to be dead; keys of theirs without a write are freed. The writes come back as they were left.
        """
        ...

    async def restore(self, filed: Filed, keys: Sequence[Key]) -> bool:
        """File a write that only the audit stream remembers, open and owned by this node; False where it is filed
        already. A name that has another holder stays with that one.
        """
        ...

    async def owing(self, but: Collection[str] = ()) -> Sequence[Filed]:
        """Give the ended writes whose last record is not known to be on its chain, `but` for what these chains owe."""
        ...

    async def inherit(self, task: str, owed: str, chain: str) -> bool:
        """Take over the debt of a chain whose process died; False where somebody else has."""
        ...
