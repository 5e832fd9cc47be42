"""A person's look into a gateway's store and records, beside whatever runs: with a chain of the person's own."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.flow.store import Filed
from gateway.flow.tasks import Task
from gateway.storage.chain_tails import ChainFolder
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings, Signer
from gateway.storage.resolution import Resolution, Resolver
from gateway.storage.store import Store, visit_store

VISITOR: Final = "a person's"
"""Who looks into the store without being one of its nodes."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Where a gateway keeps its writes and their records."""

    state: str
    """The address of the request store."""
    keep: timedelta
    audit: Path
    reserve: int
    signer: Signer | None
    """None: the records are chained but not signed."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """Open the request store, as a visitor. Raises StateUnavailable."""
        store = await visit_store(self.state, VISITOR, self.keep)
        try:
            yield store
        finally:
            await store.close()

    @contextlib.asynccontextmanager
    async def journal(self) -> AsyncIterator[Journal]:
        """Open a chain of its own. Raises JournalUnavailable."""
        audit = JournalSettings(ChainSettings(self.audit), reserve=self.reserve)
        journal = await Journal.open(audit, clock=lambda: datetime.now(UTC), signer=self.signer)
        try:
            yield journal
        finally:
            await journal.close()

    async def writes(self, *, ended: bool) -> Sequence[Filed]:
        """Give the open writes, or all that are kept. Raises StateUnavailable."""
        async with self.store() as store:
            return await (store.all_writes() if ended else store.open_writes())

    async def resolve(self, wish: Resolution) -> Task:
        """Record the end of an open write. Raises NotResolved, JournalUnavailable and StateUnavailable."""
        async with self.store() as store:
            return await Resolver(store, ChainFolder(self.audit), self.journal).resolve(wish)
