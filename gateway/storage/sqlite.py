"""The request store's database in one file of this machine, for one or several processes on it."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Row, Session, Value, whole

SCHEME: Final = "sqlite:///"
BUSY: Final = 2.0
"""Seconds to wait for another process that writes, or for the writers of this one."""

AGAIN: Final = 0.02
"""Seconds between two tries to set up a file that another process is setting up."""

_SETTINGS: Final = ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF", "foreign_keys = ON")
_FAULTS: Final = (sqlite3.Error, ValueError, OverflowError)
"""A closed connection answers ValueError; Python's numbers can be larger than SQLite's."""

T = TypeVar("T")


class _Connection:
    """One connection and the thread that it belongs to; all that is asked of it happens there, one after the other.

    A transaction is one visit to the thread: a hop for each of its statements would make every other writer wait for
    as many turns of the event loop, and a loop with much to do would let nobody write.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._path = path
        self._connection: sqlite3.Connection | None = None

    async def do(self, work: Callable[["_Session"], Coroutine[Any, Any, T]]) -> T:
        """Do it, or raise StateUnavailable where its turn does not come in time."""
        try:
            future = self._thread.submit(self._within, work)
        except RuntimeError as error:
            raise StateUnavailable("the state file was closed") from error
        waiting = asyncio.wrap_future(future)
        await asyncio.wait({waiting}, timeout=BUSY)
        if not waiting.done() and future.cancel():
            raise StateUnavailable("the state file is busy")
        return await waiting

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        return await self.do(lambda session: session.rows(sql, *values))

    async def change(self, sql: str, *values: Value) -> int:
        return await self.do(lambda session: session.change(sql, *values))

    async def close(self) -> None:
        def closed() -> None:
            if self._connection is not None:
                self._connection.close()

        await asyncio.wrap_future(self._thread.submit(closed))
        self._thread.shutdown(wait=False)

    def _within(self, work: Callable[["_Session"], Coroutine[Any, Any, T]]) -> T:
        try:
            if self._connection is None:
                # Without an isolation level every statement is a transaction of its own, durable when it returns.
                self._connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
            try:
                return _driven(work(_Session(self._connection)))
            finally:
                # A full disk has undone a transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except _FAULTS as error:
            raise StateUnavailable("the state file cannot answer") from error


class _Session:
    """Statements, in the thread of their connection; nothing here ever waits for the event loop.

    Numbered parameters are names to Python's driver, so they are bound by name.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        return self._connection.execute(sql, _bound(values)).fetchall()

    async def change(self, sql: str, *values: Value) -> int:
        return self._connection.execute(sql, _bound(values)).rowcount


def _driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a transaction waited for something else than its database")


class SqliteDatabase:
    """Two connections: one writes, one transaction at a time, the other reads."""

    name = "sqlite"
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    share = ""
    alone = ""

    def __init__(self, path: Path) -> None:
        self._writer = _Connection(path)
        self._reader = _Connection(path)

    @classmethod
    async def open(cls, url: str) -> "SqliteDatabase":
        """Open, and make if need be, the file of `sqlite:////absolute/path`, readable by its owner only."""
        path = path_of(url)
        database = cls(path)
        try:
            await asyncio.to_thread(_prepare, path)
            for connection in (database._writer, database._reader):
                await _set_up(connection)
            await database._reader.rows("PRAGMA query_only = ON")
        except BaseException as error:
            await database.close()
            if isinstance(error, OSError):
                raise StateUnavailable("the state file cannot be opened") from error
            raise
        return database

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await whole(self._reader.rows(sql, *values))

    async def returned(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await whole(self._writer.rows(sql, *values))

    async def change(self, sql: str, *values: Value) -> int:
        """See Database."""
        return await whole(self._writer.change(sql, *values))

    async def transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """See Database."""

        async def transaction(session: Session) -> T:
            # At once for writing: a transaction that only read so far could be refused its first change.
            await session.change("BEGIN IMMEDIATE")
            done = await work(session)
            await session.change("COMMIT")
            return done

        return await whole(self._writer.do(transaction))

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


async def _set_up(connection: _Connection) -> None:
    async def settings(session: _Session) -> None:
        for setting in _SETTINGS:
            await session.rows(f"PRAGMA {setting}")

    clock = asyncio.get_running_loop().time
    until = clock() + BUSY
    while True:
        try:
            await connection.do(settings)
        except StateUnavailable as error:
            # Whoever wants WAL while another process writes is told "busy" at once: SQLite waits for no such lock.
            cause = error.__cause__
            busy = isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not busy or clock() >= until:
                raise
        else:
            return
        await asyncio.sleep(AGAIN)
