"""The state file: what must outlive a request and be shared by every process on this machine, in SQLite."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiosqlite

from gateway.flow.ports import StateUnavailable

SCHEME: Final = "sqlite:///"
BUSY: Final = 2.0
"""Seconds to wait for another process that writes."""

AGAIN: Final = 0.02
"""Seconds between two tries to set up a file that another process is setting up."""

FORGET_AFTER: Final = 3600
"""Seconds past its end that a `jti` is still held: a clock set back by an hour must not let it in again."""

CLEAN_EVERY: Final = 60
"""Seconds between two removals of what has ended."""

_SETTINGS: Final = ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF")

_STEPS: Final = (
    (
        """CREATE TABLE seen_jti (
            issuer TEXT NOT NULL,
            jti TEXT NOT NULL,
            expires INTEGER NOT NULL,
            PRIMARY KEY (issuer, jti)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX seen_jti_expires ON seen_jti (expires)",
    ),
    (
        """CREATE TABLE task (
            id TEXT NOT NULL PRIMARY KEY,
            updated INTEGER NOT NULL,
            body TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX task_updated ON task (updated)",
    ),
    (
        "ALTER TABLE task ADD COLUMN open INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task ADD COLUMN claimed_by TEXT",
        "ALTER TABLE task ADD COLUMN claimed_at INTEGER",
        "CREATE INDEX task_open ON task (updated) WHERE open = 1",
    ),
)
"""Steps of the schema, in order; `user_version` counts those taken. Add, never edit."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who is about to record the end of a Task, since when."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class KeptTask:
    """A Task as it lies in the state file."""

    body: str
    """In the words of whoever kept it."""
    open: bool
    """Whether its end is still to come."""
    claim: Claim | None


class State:
    """One connection to the state file, safe for concurrent calls. Its methods raise StateUnavailable."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._cleaned = 0.0

    @classmethod
    async def open(cls, url: str) -> "State":
        """Open, and make if need be, the file of `sqlite:////absolute/path`, readable by its owner only."""
        path = path_of(url)
        try:
            await asyncio.to_thread(_prepare, path)
            # Without an isolation level every statement is a transaction of its own, durable when it returns.
            connection = await aiosqlite.connect(path, timeout=BUSY, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StateUnavailable("the state file cannot be opened") from error
        try:
            await _set_up(connection)
        except sqlite3.Error as error:
            await connection.close()
            raise StateUnavailable("the state file cannot be used") from error
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def close(self) -> None:
        """Ends the connection; every later call raises StateUnavailable."""
        await self._connection.close()

    async def is_usable(self) -> bool:
        """Whether the file answers and may be written."""
        try:
            # Changes nothing, but needs all that a change needs: a file that was made read-only refuses it.
            await self._change("UPDATE seen_jti SET expires = expires WHERE FALSE", ())
        except StateUnavailable:
            return False
        return True

    async def remember_jti(self, issuer: str, jti: str, expires: int, now: datetime) -> bool:
        """True if `issuer` never used `jti` before; durable when it returns. `expires`: seconds since the epoch."""
        await self._forget(now)
        # One statement, so that of two processes with the same `jti` exactly one is told that it was new.
        insert = "INSERT INTO seen_jti (issuer, jti, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._change(insert, (issuer, jti, expires)) == 1

    async def keep_task(self, task: str, body: str, updated: datetime, *, ended: bool) -> None:
        """Keep a Task as it now is; `body` is the caller's own wording. What has ended is not opened again."""
        await self._change(
            "INSERT INTO task (id, updated, body, open) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET updated = excluded.updated, body = excluded.body, open = excluded.open WHERE open >= excluded.open",
            (task, int(updated.timestamp()), body, int(not ended)),
        )

    async def claim_task(self, task: str, body: str, claim: Claim, over: Claim | None = None) -> bool:
        """True if `claim` now holds the Task: it is open, and nobody but `over` or `claim.by` itself held it.

        A Task that is not there yet is kept as `body`, open and claimed. Durable when it returns.
        """
        moment = int(claim.at.timestamp())
        # One statement, so that of two processes exactly one records the end.
        statement = (
            "INSERT INTO task (id, updated, body, open, claimed_by, claimed_at) VALUES (?, ?, ?, 1, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET claimed_by = excluded.claimed_by, claimed_at = excluded.claimed_at"
            " WHERE open = 1 AND (claimed_by IS ? OR claimed_by = excluded.claimed_by)"
        )
        return await self._change(statement, (task, moment, body, claim.by, moment, over.by if over else None)) == 1

    async def renew_claims(self, by: str) -> None:
        """Tell that whoever claimed under this name still lives."""
        await self._change(
            "UPDATE task SET claimed_at = CAST(strftime('%s', 'now') AS INTEGER) WHERE open = 1 AND claimed_by = ?",
            (by,),
        )

    async def find_task(self, task: str) -> KeptTask | None:
        """Find a Task that was kept."""
        found = await self._rows("SELECT body, open, claimed_by, claimed_at FROM task WHERE id = ?", (task,))
        return _kept(found[0]) if found else None

    async def tasks(self, *, ended: bool) -> list[KeptTask]:
        """Give the open Tasks or, with `ended`, all of them, the one first touched first."""
        statement = "SELECT body, open, claimed_by, claimed_at FROM task WHERE open = 1 OR ? ORDER BY updated, id"
        found = await self._rows(statement, (int(ended),))
        return [_kept(row) for row in found]

    async def ended_among(self, tasks: Iterable[str]) -> list[KeptTask]:
        """Give those of these Tasks that have ended."""
        statement = (
            "SELECT body, open, claimed_by, claimed_at FROM task"
            " WHERE open = 0 AND id IN (SELECT value FROM json_each(?))"
        )
        found = await self._rows(statement, (json.dumps([*tasks]),))
        return [_kept(row) for row in found]

    async def forget_tasks(self, before: datetime) -> None:
        """Remove the ended Tasks that were last touched before a moment."""
        await self._change("DELETE FROM task WHERE open = 0 AND updated < ?", (int(before.timestamp()),))

    async def _forget(self, now: datetime) -> None:
        moment = now.timestamp()
        if abs(moment - self._cleaned) >= CLEAN_EVERY:
            self._cleaned = moment
            await self._change("DELETE FROM seen_jti WHERE expires < ?", (int(moment) - FORGET_AFTER,))

    async def _rows(self, statement: str, values: tuple[str | int, ...]) -> list[sqlite3.Row]:
        try:
            return list(await self._connection.execute_fetchall(statement, values))
        except (sqlite3.Error, ValueError) as error:
            raise StateUnavailable("the state file cannot answer") from error

    async def _change(self, statement: str, values: tuple[str | int | None, ...]) -> int:
        """How many rows `statement` changed."""
        try:
            async with self._connection.execute(statement, values) as cursor:
                return cursor.rowcount
        # aiosqlite answers ValueError once its connection is closed.
        except (sqlite3.Error, ValueError) as error:
            raise StateUnavailable("the state file cannot answer") from error


def path_of(url: str) -> Path:
    """The file of `sqlite:////absolute/path`. Raises ValueError for any other form."""
    path = Path(url.removeprefix(SCHEME))
    if not url.startswith(SCHEME) or not path.is_absolute():
        raise ValueError("the state file is written as sqlite:/// and an absolute path")
    return path


def _kept(row: sqlite3.Row) -> KeptTask:
    body, still_open, by, at = row
    return KeptTask(body, bool(still_open), None if by is None else Claim(by, datetime.fromtimestamp(at, UTC)))


def _prepare(path: Path) -> None:
    """Make the file with mode 0600; SQLite gives the same mode to the two files beside it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


async def _set_up(connection: aiosqlite.Connection) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + BUSY
    while True:
        try:
            await _take_steps(connection)
        except sqlite3.OperationalError as error:
            # Whoever wants WAL while another process writes is told "busy" at once: SQLite waits for no such lock.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock() >= until:
                raise
        else:
            return
        await asyncio.sleep(AGAIN)


async def _take_steps(connection: aiosqlite.Connection) -> None:
    for setting in _SETTINGS:
        await connection.execute_fetchall(f"PRAGMA {setting}")
    await connection.execute("BEGIN IMMEDIATE")
    rows = await connection.execute_fetchall("PRAGMA user_version")
    taken = next(int(row[0]) for row in rows)
    if taken > len(_STEPS):
        raise StateUnavailable("the state file was written by a newer version of the gateway")
    for step in _STEPS[taken:]:
        for statement in step:
            await connection.execute(statement)
    await connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
    await connection.execute("COMMIT")
