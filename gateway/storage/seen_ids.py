"""Assertions that were used: each counts once, on whatever node it arrives."""

from datetime import datetime
from typing import Final

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Database

FORGET_AFTER: Final = 86_400
"""Seconds past its end that a `jti` is still held: a clock set back by a day must not let it in again."""

CLEAN_EVERY: Final = 60
"""Seconds between two removals of what has ended."""


class SeenIds:
    """The `jti`s of all partners. Methods raise StateUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cleaned = 0.0

    async def remember(self, issuer: str, jti: str, expires: int, now: datetime) -> bool:
        """True if `issuer` never used `jti` before; durable when it returns. `expires`: seconds since the epoch."""
        await self._forget(now)
        # One statement, so that of two processes with the same `jti` exactly one is told that it was new.
        insert = "INSERT INTO seen_jti (issuer, jti, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        return await self._database.change(insert, issuer, jti, expires) == 1

    async def is_usable(self) -> bool:
        """Whether the database answers and may be written."""
        try:
            # Changes nothing, but needs all that a change needs: a database that was made read-only refuses it.
            await self._database.change("UPDATE seen_jti SET expires = expires WHERE FALSE")
        except StateUnavailable:
            return False
        return True

    async def _forget(self, now: datetime) -> None:
        moment = now.timestamp()
        if abs(moment - self._cleaned) >= CLEAN_EVERY:
            self._cleaned = moment
            await self._database.change("DELETE FROM seen_jti WHERE expires < $1", int(moment) - FORGET_AFTER)
