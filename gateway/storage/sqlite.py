"""The request store's database in one file of this machine, for one or several processes on it."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Row, Session, Value, whole

SCHEME: Final = "sqlite:///"
BUSY: Final = 2.0
"""Seconds to wait for another process that writes, or for the writers of this one."""

AGAIN: Final = 0.02
"""Seconds between two tries to set up a file that another process is setting up."""

_SETTINGS: Final = ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF", "foreign_keys = ON")
_FAULTS: Final = (sqlite3.Error, ValueError, OverflowError)
"""aiosqlite answers ValueError once its connection is closed; Python's numbers can be larger than SQLite's."""

T = TypeVar("T")


class _Connection:
    """Statements on one connection; numbered parameters are names to Python's driver, so they are bound by name."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        try:
            return list(await self._connection.execute_fetchall(sql, _bound(values)))
        except _FAULTS as error:
            raise StateUnavailable("the state file cannot answer") from error

    async def change(self, sql: str, *values: Value) -> int:
        try:
            async with self._connection.execute(sql, _bound(values)) as cursor:
                return cursor.rowcount
        except _FAULTS as error:
            raise StateUnavailable("the state file cannot answer") from error

    async def settle(self) -> None:
        """Undo what is left of a transaction; a full disk has undone it already."""
        try:
            left = self._connection.in_transaction
        except _FAULTS as error:
            raise StateUnavailable("the state file cannot answer") from error
        if left:
            await self.change("ROLLBACK")

    async def close(self) -> None:
        await self._connection.close()


class SqliteDatabase:
    """Two connections: one writes, and is lent to one transaction at a time, the other reads."""

    name = "sqlite"
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    share = ""
    alone = ""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = _Connection(writer)
        self._reader = _Connection(reader)
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> "SqliteDatabase":
        """Open, and make if need be, the file of `sqlite:////absolute/path`, readable by its owner only."""
        path = path_of(url)
        opened: list[aiosqlite.Connection] = []
        try:
            await asyncio.to_thread(_prepare, path)
            for _ in range(2):
                # Without an isolation level every statement is a transaction of its own, durable when it returns.
                opened.append(await aiosqlite.connect(path, timeout=BUSY, isolation_level=None))
                await _set_up(opened[-1])
            await opened[1].execute_fetchall("PRAGMA query_only = ON")
        except BaseException as error:
            for connection in opened:
                await connection.close()
            if isinstance(error, OSError | sqlite3.Error):
                raise StateUnavailable("the state file cannot be opened") from error
            raise
        return cls(*opened)

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await whole(self._reader.rows(sql, *values))

    async def returned(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await whole(self._alone(lambda: self._writer.rows(sql, *values)))

    async def change(self, sql: str, *values: Value) -> int:
        """See Database."""
        return await whole(self._alone(lambda: self._writer.change(sql, *values)))

    async def transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """See Database."""

        async def transaction() -> T:
            # At once for writing: a transaction that only read so far could be refused its first change.
            await self._writer.change("BEGIN IMMEDIATE")
            done = await work(self._writer)
            await self._writer.change("COMMIT")
            return done

        return await whole(self._alone(transaction))

    async def migrate(self, plan: Callable[[Session], Awaitable[Sequence[str]]]) -> None:
        """See Database."""

        async def steps(session: Session) -> None:
            for statement in await plan(session):
                await session.change(statement)

        await self.transact(steps)

    async def close(self) -> None:
        """See Database."""
        await self._reader.close()
        await self._writer.close()

    async def _alone(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(BUSY):
                await self._turn.acquire()
        except TimeoutError as error:
            raise StateUnavailable("the state file is busy") from error
        try:
            return await work()
        finally:
            try:
                await self._writer.settle()
            finally:
                self._turn.release()


def path_of(url: str) -> Path:
    """Give the file of `sqlite:////absolute/path`. Raises ValueError for any other form."""
    path = Path(url.removeprefix(SCHEME))
    if not url.startswith(SCHEME) or not path.is_absolute():
        raise ValueError("the state file is written as sqlite:/// and an absolute path")
    return path


def _bound(values: Sequence[Value]) -> dict[str, Value]:
    return {str(number): value for number, value in enumerate(values, 1)}


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
            for setting in _SETTINGS:
                await connection.execute_fetchall(f"PRAGMA {setting}")
        except sqlite3.OperationalError as error:
            # Whoever wants WAL while another process writes is told "busy" at once: SQLite waits for no such lock.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock() >= until:
                raise
        else:
            return
        await asyncio.sleep(AGAIN)
