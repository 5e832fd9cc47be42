"""The request store's database on a PostgreSQL server, for nodes on several machines."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.flow.ports import StateUnavailable
from gateway.storage.database import Row, Session, Value, whole

CONNECTIONS: Final = 10
"""Kept to one server by one process."""

PATIENCE: Final = 2.0
"""Seconds for a statement, and for a free connection."""

GRACE: Final = 0.5
"""Seconds more in which a server that gives up a statement may say so."""

TRIES: Final = 3
"""How often a transaction is tried that the server broke up over a deadlock."""

MIGRATION: Final = 0x706B625F67617465
"""The advisory lock of migrations: "pkb_gate"."""

MIGRATION_PATIENCE: Final = 60.0
"""Seconds for a step of the schema, or for another process's."""

_PATIENCE_MS = str(round(1000 * PATIENCE))
_SETTINGS: Final = {
    "application_name": "pkb-gateway",
    "synchronous_commit": "on",
    "statement_timeout": _PATIENCE_MS,
    # A process that was stopped in the middle of a transaction must not hold up the others.
    "idle_in_transaction_session_timeout": _PATIENCE_MS,
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
_FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
    ValueError,
)
_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

T = TypeVar("T")


class _Again(Exception):
    """The server undid the whole transaction and asks to have it once more."""


class _Connection:
    """Statements on one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        with _translated():
            found: Sequence[Row] = await self._connection.fetch(sql, *values)
            return found

    async def change(self, sql: str, *values: Value) -> int:
        with _translated():
            # The protocol's command tag ends with the number of rows: "UPDATE 1", "INSERT 0 1".
            tag: str = await self._connection.execute(sql, *values)
        last = tag.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0


class PostgresDatabase:
    """A pool of connections; one that broke is replaced when it is needed next."""

    name = "postgresql"
    now = "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"
    share = "FOR SHARE"
    alone = "FOR UPDATE"

    def __init__(self, pool: Any, connect: Callable[[], Awaitable[Any]]) -> None:
        self._pool = pool
        self._connect = connect

    @classmethod
    async def open(cls, url: str) -> "PostgresDatabase":
        """Make ready to connect to `postgresql://user:password@host/database`, as soon as there is something to ask.

        Off this machine the connection is encrypted and the server's certificate checked against the system's
        authorities, unless the address itself says `sslmode`.
        """
        options: dict[str, Any] = {"dsn": url, "timeout": PATIENCE}

        async def connect() -> Any:
            # The steps are written while the transaction waits, and on a busy machine that takes seconds.
            patience = str(round(1000 * MIGRATION_PATIENCE))
            long = {"statement_timeout": patience, "idle_in_transaction_session_timeout": patience}
            settings = {**_SETTINGS, **long}
            return await asyncpg.connect(**options, command_timeout=MIGRATION_PATIENCE, server_settings=settings)

        with _reached():
            if (context := _encryption(url)) is not None:
                options["ssl"] = context
            # No connection before it is needed: the pool would log each try to replace one, with all that it knows.
            pool = await asyncpg.create_pool(
                **options,
                min_size=0,
                max_size=CONNECTIONS,
                command_timeout=PATIENCE + GRACE,
                server_settings=_SETTINGS,
                reset=_left_as_it_is,
            )
        return cls(pool, connect)

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""

        async def asked() -> Sequence[Row]:
            async with self._lent() as connection:
                return await _Connection(connection).rows(sql, *values)

        return await whole(asked())

    async def returned(self, sql: str, *values: Value) -> Sequence[Row]:
        """See Database."""
        return await self.rows(sql, *values)

    async def change(self, sql: str, *values: Value, lasting: bool = True) -> int:  # noqa: ARG002 - all are
        """See Database."""

        async def changed() -> int:
            async with self._lent() as connection:
                return await _Connection(connection).change(sql, *values)

        return await whole(changed())

    async def transact(
        self,
        work: Callable[[Session], Awaitable[T]],
        *,
        lasting: bool = True,  # noqa: ARG002 - all are
    ) -> T:
        """See Database."""

        async def tried() -> T:
            for _ in range(TRIES):
                with contextlib.suppress(_Again):
                    return await self._once(work)
            raise StateUnavailable("the PostgreSQL server broke up a transaction several times")

        return await whole(tried())

    async def migrate(self, plan: Callable[[Session], Awaitable[Sequence[str]]]) -> None:
        """See Database."""

        async def migrated() -> None:
            with _reached():
                connection = await self._connect()
            try:
                session = _Connection(connection)
                await session.change("BEGIN")
                await session.rows(f"SELECT pg_advisory_xact_lock({MIGRATION})")
                for statement in await plan(session):
                    await session.change(statement)
                await session.change("COMMIT")
            finally:
                # What was not committed is undone with the connection.
                connection.terminate()

        await whole(migrated())

    async def close(self) -> None:
        """See Database."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._pool.close()
        except _FAULTS:
            self._pool.terminate()

    async def _once(self, work: Callable[[Session], Awaitable[T]]) -> T:
        async with self._lent() as connection:
            session = _Connection(connection)
            await session.change("BEGIN")
            try:
                done = await work(session)
                await session.change("COMMIT")
            except BaseException as error:
                await _undo(connection)
                if isinstance(error.__cause__, _AGAIN):
                    raise _Again from error
                raise
            return done

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[Any]:
        with _reached():
            connection = await self._pool.acquire(timeout=PATIENCE)
        try:
            yield connection
        except StateUnavailable as unavailable:
            if not isinstance(unavailable.__cause__, asyncpg.PostgresError):
                # Its state is unknown; asking a silent server to forget the statement would take as long again.
                _cut(connection)
            raise
        finally:
            with _translated():
                await self._pool.release(connection, timeout=PATIENCE)


async def _undo(connection: Any) -> None:
    try:
        await connection.execute("ROLLBACK")
    except _FAULTS:
        # The server undoes it when the connection ends.
        _cut(connection)


def _cut(connection: Any) -> None:
    # The pool has taken it back already where it noticed the end first.
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _left_as_it_is(connection: Any) -> None:
    """Save a question to the server each time: nothing here changes a session's settings or leaves locks behind."""
    if connection.is_in_transaction():
        connection.terminate()


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        # What the driver says of an address may repeat it, with its password.
        raise StateUnavailable(f"the PostgreSQL server cannot be reached ({type(error).__name__})") from None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise StateUnavailable("the PostgreSQL server cannot answer") from error


def _encryption(url: str) -> ssl.SSLContext | None:
    """Check the server's certificate against the system's authorities, where the address does not say how else."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = (query.get("host") or [parts.hostname or ""])[0]
    modes = query.get("sslmode", [])
    if modes and (modes[-1] != "verify-full" or "sslrootcert" in query):
        return None
    return None if not modes and _is_here(host) else ssl.create_default_context()


def _is_here(host: str) -> bool:
    """Whether no network lies between: a socket's folder, or this machine's own address."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
