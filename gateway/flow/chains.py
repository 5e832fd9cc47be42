"""What the story asks of the audit streams that other processes left in the folder of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Told:
    """What a chain tells of a write."""

    intent: int | None
    """Seq of its intent record."""
    outcome: str | None
    """The word of its last outcome record; None if there is none."""
    ended: bool
    """Whether a final outcome is on record."""
    code: str | None = None
    """The error code of that last outcome record, where it has one."""
    version: str | None = None
    """The version of the appointment after the write, where that record tells it."""


class Chains(Protocol):
    """The chains of one audit folder."""

    def is_dead(self, chain: str) -> bool:
        """Whether the chain lies in this folder and its writer is certainly gone. False where that cannot be known."""
        ...

    async def told(self, chain: str, task: str) -> Told | None:
        """Say what a chain tells of a write; None where the chain is not in this folder.

        Raises JournalUnavailable where it cannot be read.
        """
        ...

    async def open_intents(self) -> Sequence[Mapping[str, Any]]:
        """Give the intent records, without a final outcome anywhere in the folder, that dead processes left.

        Raises JournalUnavailable where the folder cannot be read.
        """
        ...
