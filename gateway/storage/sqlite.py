"""The request store's database in one file of this machine, for one or several processes on it."""

import asyncio
import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Row, Session, Value
from gateway.storage.errands import Errand, Errands

SCHEME: Final = "sqlite:///"
BUSY: Final = 2.0
"""Seconds to wait for another process that writes, or for the writers of this one."""

AGAIN: Final = 0.02
"""Seconds between two tries to set up a file that another process is setting up."""

STATEMENTS: Final = 256
"""Wordings that are remembered."""

sync = os.fdatasync

_SETTINGS: Final = ("journal_mode = WAL", "synchronous = NORMAL", "trusted_schema = OFF", "foreign_keys = ON")
_PARAMETER: Final = re.compile(r"\$(?=[0-9])")
_FAULTS: Final = (sqlite3.Error, ValueError, OverflowError, MemoryError)
"""A closed connection answers ValueError; Python's numbers can be larger than SQLite's, and so can its memory."""

T = TypeVar("T")
_Work = Callable[["_Session"], Awaitable[Any]]


class _Visit(Errand):
    """What is asked of a connection. `parts`: it has several statements, of which all are done or none.

    `lasting`: what it changes must survive a power cut once it is answered.
    """

    __slots__ = ("lasting", "parts", "work")

    def __init__(self, waiter: asyncio.Future[Any], work: _Work, *, parts: bool, lasting: bool) -> None:
        super().__init__(waiter)
        self.work = work
        self.parts = parts
        self.lasting = lasting


class _Connection:
    """One connection and the thread that it belongs to; all that is asked of it happens there, one after the other.

    A transaction is one visit to the thread: a hop for each of its statements would make every other writer wait for
    as many turns of the event loop, and a loop with much to do would let nobody write. All visitors that wait at the
    same moment share one transaction, and one sync of the disk where one of them asks for it.
    """

    def __init__(self, path: Path, begin: str) -> None:
        self._path = path
        self._begin = begin
        self._connection: sqlite3.Connection | None = None
        self._log: int | None = None
        self._closed = False
        self._visits: Errands[_Visit] = Errands(self._overdue)
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    async def do(self, work: _Work, *, parts: bool = False, lasting: bool = True) -> Any:
        """Do it, or raise StateUnavailable where its turn does not come in time."""
        if self._closed:
            raise StateUnavailable("the state file was closed")
        visit = _Visit(self._visits.waiter(), work, parts=parts, lasting=lasting)
        self._visits.hand_in(visit, BUSY)
        return await self._visits.result(visit)

    async def rows(self, sql: str, *values: Value, lasting: bool = False) -> Sequence[Row]:
        found: Sequence[Row] = await self.do(lambda session: session.rows(sql, *values), lasting=lasting)
        return found

    async def change(self, sql: str, *values: Value, lasting: bool = True) -> int:
        changed: int = await self.do(lambda session: session.change(sql, *values), lasting=lasting)
        return changed

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._visits.close()
        await asyncio.to_thread(self._thread.join)

    def _overdue(self, visit: _Visit) -> None:
        if self._visits.withdraw(visit):
            self._visits.settle([(visit, StateUnavailable("the state file is busy"))])

    # What follows runs in the connection's own thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            visits, is_open = self._visits.gather()
            if visits:
                results = list(zip(visits, self._lasting_answers(visits), strict=True))
                self._visits.on_loop(self._visits.settle, results)
        if self._connection is not None:
            self._connection.close()
        if self._log is not None:
            os.close(self._log)

    def _lasting_answers(self, visits: Sequence[_Visit]) -> Sequence[object]:
        answers = self._answers(visits)
        last = [
            visit.lasting and not isinstance(answer, BaseException)
            for visit, answer in zip(visits, answers, strict=True)
        ]
        if not any(last):
            return answers
        try:
            self._sync_log()
        except OSError as error:
            # One for each: who waits raises it, and an exception remembers where it was raised.
            return [_cannot_answer(error) if each else answer for each, answer in zip(last, answers, strict=True)]
        return answers

    def _answers(self, visits: Sequence[_Visit]) -> Sequence[object]:
        """Give what each is answered, or what it is to raise."""
        connection = None
        try:
            connection = self._opened()
            if len(visits) == 1 and not visits[0].parts:
                # Every statement is a transaction of its own.
                return [_answer(connection, visits[0])]
            return _answers_together(connection, visits, self._begin)
        except _FAULTS as error:
            return [_cannot_answer(error) for _ in visits]
        finally:
            # A full disk has undone a transaction already.
            if connection is not None and connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        return self._connection

    def _sync_log(self) -> None:
        """Do to the write-ahead log what `synchronous = FULL` does after a commit, which holds up other writers.

        What the log no longer holds was synced before SQLite copied it into the file, and the file after it.
        https://sqlite.org/pragma.html#pragma_synchronous
        """
        if self._log is None:
            # SQLite's locks lie on the other two files: to close this one later lets go of none.
            log = self._path.with_name(f"{self._path.name}-wal")
            self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        sync(self._log)


def _answers_together(connection: sqlite3.Connection, visits: Sequence[_Visit], begin: str) -> Sequence[object]:
    """Answer all in one transaction. Who fails is undone alone; where the file fails nothing was done for anybody.

    Hardly anybody fails, so each is set apart by a savepoint only in a second try, once somebody has.
    """
    connection.execute(begin)
    answers = _each(connection, visits, _answer)
    if len(visits) > 1 and any(map(_is_half_done, visits, answers)):
        connection.execute("ROLLBACK")
        connection.execute(begin)
        answers = _each(connection, visits, _answer_apart)
    if len(visits) == 1 and isinstance(answers[0], BaseException):
        connection.execute("ROLLBACK")
    else:
        connection.execute("COMMIT")
    return answers


def _is_half_done(visit: _Visit, answer: object) -> bool:
    return visit.parts and isinstance(answer, BaseException)


def _each(
    connection: sqlite3.Connection,
    visits: Sequence[_Visit],
    answer: Callable[[sqlite3.Connection, _Visit], object],
) -> list[object]:
    answers = list[object]()
    for visit in visits:
        answers.append(answer(connection, visit))
        if not connection.in_transaction:
            # What others were going to be answered was undone as well.
            raise sqlite3.OperationalError("the transaction was undone")
    return answers


def _answer_apart(connection: sqlite3.Connection, visit: _Visit) -> object:
    if not visit.parts:
        # Of a statement that fails SQLite leaves nothing.
        return _answer(connection, visit)
    connection.execute("SAVEPOINT visit")
    answer = _answer(connection, visit)
    if connection.in_transaction:
        if isinstance(answer, BaseException):
            connection.execute("ROLLBACK TO visit")
        connection.execute("RELEASE visit")
    return answer


def _answer(connection: sqlite3.Connection, visit: _Visit) -> object:
    try:
        return _driven(visit.work(_Session(connection)))
    except _FAULTS as error:
        return _cannot_answer(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
        return error


def _cannot_answer(error: Exception) -> StateUnavailable:
    unavailable = StateUnavailable("the state file cannot answer")
    unavailable.__cause__ = error
    return unavailable


class _Session:
    """Statements, in the thread of their connection; nothing here ever waits for the event loop."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        return self._connection.execute(_numbered(sql), values).fetchall()

    async def change(self, sql: str, *values: Value) -> int:
        return self._connection.execute(_numbered(sql), values).rowcount


def _driven(work: Awaitable[T]) -> T:
    """Run a coroutine that never waits."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    steps.close()
    raise RuntimeError("a transaction waited for something else than its database")


class SqliteDatabase:
    """Two connections: one writes, one transaction at a time for all who wait, the other reads."""

    name = "sqlite"
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    share = ""
    alone = ""

    def __init__(self, path: Path) -> None:
        # At once for writing: a transaction that only read so far could be refused its first change.
        self._writer = _Connection(path, "BEGIN IMMEDIATE")
        self._reader = _Connection(path, "BEGIN")

    @classmethod
    async def open(cls, url: str) -> "SqliteDatabase":
        """Open, and make if need be, the file of `sqlite:////absolute/path`, readable by its owner only."""
        path = path_of(url)
        try:
            database = cls(await asyncio.to_thread(_prepare, path))
        except OSError as error:
            raise StateUnavailable("the state file cannot be opened") from error
        try:
            for connection in (database._writer, database._reader):
                await _set_up(connection)
            await database._reader.rows("PRAGMA query_only = ON")
        except BaseException:
            await database.close()
            raise
        return database

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await self._reader.rows(sql, *values)

    async def returned(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await self._writer.rows(sql, *values, lasting=True)

    async def change(self, sql: str, *values: Value, lasting: bool = True) -> int:
        """See Database."""
        return await self._writer.change(sql, *values, lasting=lasting)

    async def transact(self, work: Callable[[Session], Awaitable[T]], *, lasting: bool = True) -> T:
        """See Database."""
        done: T = await self._writer.do(work, parts=True, lasting=lasting)
        return done

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


@lru_cache(STATEMENTS)
def _numbered(sql: str) -> str:
    """Write `$1` as `?1`: the former is a name to SQLite, and Python's driver binds names from a mapping only."""
    return _PARAMETER.sub("?", sql)


def _prepare(named: Path) -> Path:
    """Make the file with mode 0600; SQLite gives the same mode to the two files beside it, wherever a link to it lies.

    One that is there already is not opened: this process may have it open elsewhere, and by closing it here would let
    go of all its locks on it. Then another process takes itself for the last one, and removes the log.
    https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    path = Path(os.path.realpath(named))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if path.is_file():
        path.chmod(0o600)
    return path


async def _set_up(connection: _Connection) -> None:
    async def settings(session: _Session) -> None:
        for setting in _SETTINGS:
            await session.rows(f"PRAGMA {setting}")

    clock = asyncio.get_running_loop().time
    until = clock() + BUSY
    while True:
        try:
            await connection.do(settings, lasting=False)
        except StateUnavailable as error:
            # Whoever wants WAL while another process writes is told "busy" at once: SQLite waits for no such lock.
            cause = error.__cause__
            busy = isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not busy or clock() >= until:
                raise
        else:
            return
        await asyncio.sleep(AGAIN)
