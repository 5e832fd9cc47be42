"""Removes what nobody asks for any more, by the clock of the database."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from gateway.storage.database import Database, Session

DAY: Final = timedelta(hours=24)
"""A key is promised to be known that long."""

CLEAN_EVERY: Final = 3600.0
"""Seconds between two removals."""

AT_ONCE: Final = 500
"""Writes removed in one transaction, so that none of them is long."""


class Retention:
    """Keeps ended writes and their keys for `keep`. `monotonic` gives seconds."""

    def __init__(self, database: Database, keep: timedelta, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._keep = max(keep, DAY).total_seconds()
        self._monotonic = monotonic
        self._next = monotonic()

    async def clean(self) -> None:
        """Remove what is too old, at most once an hour. Raises StateUnavailable."""
        if self._monotonic() < self._next:
            return
        self._next = self._monotonic() + CLEAN_EVERY
        before = f"{self._database.now} - $1"
        while await self._database.transact(self._some_writes) == AT_ONCE:
            pass
        # Nobody runs for a day: whoever claimed such a key could not give it back.
        await self._database.change(
            f"DELETE FROM request_key WHERE touched < {before}"
            " AND NOT EXISTS (SELECT 1 FROM task WHERE task.id = request_key.task)",
            DAY.total_seconds(),
        )
        await self._database.change(f"DELETE FROM turn WHERE task IS NULL AND touched < {before}", DAY.total_seconds())
        await self._database.change(f"DELETE FROM bucket WHERE at < {before}", DAY.total_seconds())

    async def _some_writes(self, session: Session) -> int:
        found = await session.rows(
            f"SELECT id FROM task WHERE phase = 'ended' AND owed IS NULL AND touched < {self._database.now} - $1"
            f" ORDER BY touched, id LIMIT {AT_ONCE} {self._database.alone}",
            self._keep,
        )
        for (task,) in found:
            await session.change("DELETE FROM request_key WHERE task = $1", task)
            await session.change("DELETE FROM task WHERE id = $1", task)
        return len(found)
