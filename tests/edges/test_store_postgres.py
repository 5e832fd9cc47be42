"""What only a server can suffer: crashes, silence, connections that break at any moment; and what its address says."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Phase, Turn
from gateway.storage import postgres as module
from gateway.storage.database import Session
from gateway.storage.opening import open_database
from gateway.storage.store import Store, open_store
from tests.edges.store_bench import KEEP, PLACER, RECORD, A, a_task, held, sent
from tests.postgres import Server


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    address = postgres.database()
    yield address
    postgres.start()
    postgres.drop(address)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await open_store(url, "chain-1", KEEP)
    yield opened
    await opened.close()


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again until there is an answer; for at most ten seconds."""
    until = time.monotonic() + 10
    while True:
        try:
            return await ask()
        except StateUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


# The server goes away


async def test_a_server_that_crashed_and_came_back_is_used_again_with_all_it_was_told(
    store: Store, postgres: Server
) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    task = await sent(store, "t-1", A, PLACER)
    # What was told to the server is on its disk also where its tests do not wait for the disk.
    postgres.kill()
    begun = time.monotonic()
    for change in (store.look([A]), store.hold(a_task("t-2"), {A: 1}, "c"), store.end(task, RECORD, "chain-1")):
        with pytest.raises(StateUnavailable):
            await change
    assert not await store.is_usable()
    assert time.monotonic() - begun < 5
    postgres.start()
    (turn,) = await eventually(lambda: store.look([A]))
    assert turn.holder is not None
    assert (turn.holder.task, turn.holder.phase) == (task, Phase.SENT)
    assert await eventually(lambda: store.end(task, RECORD, "chain-1"))
    assert await eventually(store.renew)


async def test_a_crash_in_mid_transaction_leaves_nothing_of_it(store: Store, postgres: Server) -> None:
    await held(store)

    async def half(session: Session) -> None:
        await session.change("DELETE FROM task")
        await session.change("UPDATE turn SET task = NULL")
        await asyncio.to_thread(postgres.kill)
        await session.change("SELECT 1")

    with pytest.raises(StateUnavailable):
        await store.database.transact(half)
    postgres.start()
    (turn,) = await eventually(lambda: store.look([A]))
    assert turn.holder is not None


@pytest.mark.parametrize("statement", ["INSERT INTO task", "UPDATE turn", "DELETE FROM request_key", "COMMIT"])
async def test_an_end_whose_connection_broke_is_this_nodes_or_nobodys(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Wherever the connection breaks, before or after the server did what it was told, one is told True in the end."""
    change = module._Connection.change
    for after in (False, True):
        name = f"t-{after}"
        task = await sent(store, name, ("box", name))
        broken: list[str] = []

        async def breaking(self: Any, sql: str, *values: Any, after: bool = after, broken: list[str] = broken) -> int:
            if not sql.startswith(statement) or broken:
                return await change(self, sql, *values)
            broken.append(sql)
            if after:
                await change(self, sql, *values)
            self._connection.terminate()
            return await change(self, "SELECT 1")

        monkeypatch.setattr(module._Connection, "change", breaking)
        with pytest.raises(StateUnavailable):
            await store.end(task, RECORD, "chain-1", free_key=True)
        monkeypatch.setattr(module._Connection, "change", change)
        assert broken
        assert await store.end(task, RECORD, "chain-1", free_key=True)
        assert not await store.end(task, RECORD, "chain-1", free_key=True)
        assert (await store.look([("box", name)]))[0].holder is None
    assert len(await store.owing()) == 2


async def test_connections_that_the_server_cut_are_replaced(store: Store, postgres: Server, url: str) -> None:
    await asyncio.gather(*(store.look([A]) for _ in range(20)))
    name = url.rpartition("/")[2]
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await eventually(lambda: sent(store))


async def test_a_server_that_says_nothing_is_not_waited_for_long(store: Store, postgres: Server) -> None:
    backends = [int(pid) for pid in postgres.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'gateway'").split()]
    stopped = [postgres.process.pid, *backends]
    await store.look([A])
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        told = await asyncio.gather(*(store.look([A]) for _ in range(15)), store.renew(), return_exceptions=True)
        assert {type(each) for each in told} == {StateUnavailable}
        assert time.monotonic() - begun < 7
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert await eventually(lambda: store.look([A])) == [Turn()]


async def test_a_row_that_somebody_holds_is_not_waited_for_long(store: Store, url: str) -> None:
    task = await sent(store)
    other = await asyncpg.connect(url)
    try:
        await other.execute("BEGIN; UPDATE task SET touched = 0")
        begun = time.monotonic()
        with pytest.raises(StateUnavailable):
            await store.end(task, RECORD, "chain-1")
        assert 1.5 < time.monotonic() - begun < 4
        await other.execute("ROLLBACK")
        assert await store.end(task, RECORD, "chain-1")
    finally:
        other.terminate()


async def test_a_transaction_that_the_server_broke_up_is_tried_again(store: Store) -> None:
    for name in ("t-1", "t-2"):
        await held(store, name, ("box", name))
    gate, other_is_through = asyncio.Barrier(2), asyncio.Event()
    tries: list[str] = []

    async def both(first: str, second: str) -> None:
        async def work(session: Session) -> None:
            tries.append(first)
            if len(tries) > 2:
                # The server may give a row that is free again to whoever comes rather than to whoever waits for it, and
                # would then have to break the two up once more.
                await other_is_through.wait()
            await session.change("UPDATE task SET touched = touched + 1 WHERE id = $1", first)
            if len(tries) <= 2:
                await gate.wait()
            await session.change("UPDATE task SET touched = touched + 1 WHERE id = $1", second)

        await store.database.transact(work)
        other_is_through.set()

    before = await store.database.rows("SELECT touched FROM task ORDER BY id")
    await asyncio.gather(both("t-1", "t-2"), both("t-2", "t-1"))
    after = await store.database.rows("SELECT touched FROM task ORDER BY id")
    assert len(tries) == 3
    assert [new[0] - old[0] for new, old in zip(after, before, strict=True)] == pytest.approx([2, 2])


async def test_a_process_that_stops_in_mid_transaction_holds_up_nobody_for_long(store: Store, url: str) -> None:
    task = await sent(store)
    stalled = await open_database(url)
    resumed = asyncio.Event()

    async def half(session: Session) -> None:
        await session.change("UPDATE task SET touched = 0")
        await resumed.wait()
        await session.change("SELECT 1")

    waiting = asyncio.create_task(stalled.transact(half))
    await asyncio.sleep(0.1)
    assert await eventually(lambda: store.end(task, RECORD, "chain-1"))
    resumed.set()
    with pytest.raises(StateUnavailable):
        await waiting
    await stalled.close()


async def test_a_server_that_takes_no_changes_is_not_usable(store: Store, postgres: Server, url: str) -> None:
    name = url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert await eventually(lambda: store.look([A])) == [Turn()]
    assert not await store.is_usable()
    with pytest.raises(StateUnavailable):
        await held(store)


# Its address


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://gateway:s3cret@127.0.0.1:1/store",
        "postgresql://gateway:s3cret@no-such-host.invalid/store",
        "postgresql://gateway:s3cret@127.0.0.1:port/store",
        "postgresql://gateway:s3cret@127.0.0.1:1/store?sslmode=s3cret",
        "postgresql://gateway:s3cret@[::1/store",
    ],
)
async def test_an_address_of_no_use_is_not_repeated(address: str) -> None:
    with pytest.raises(StateUnavailable) as told:
        await open_database(address)
    error: BaseException | None = told.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_a_user_whom_the_server_does_not_know_is_refused(postgres: Server) -> None:
    with pytest.raises(StateUnavailable):
        await open_database(postgres.url().replace("gateway@", "stranger:s3cret@"))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://db.hospital.example/store",
        "postgresql://u:p@192.0.2.7:5433/store?application_name=x",
        "postgresql://db.hospital.example/store?sslmode=verify-full",
        "postgresql://127.0.0.1/store?sslmode=verify-full",
        "postgresql:///store?host=db.hospital.example",
        "postgresql://a.hospital.example,localhost/store",
    ],
)
def test_over_a_network_the_server_must_prove_who_it_is(address: str) -> None:
    context = module._encryption(address)
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://127.0.0.1/store",
        "postgresql://[::1]:5432/store",
        "postgresql://localhost/store",
        "postgresql:///store?host=/run/postgresql",
        "postgresql://db.hospital.example/store?sslmode=require",
        "postgresql://db.hospital.example/store?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ],
)
def test_on_this_machine_or_as_the_address_says_the_driver_decides(address: str) -> None:
    assert module._encryption(address) is None


async def test_a_server_without_encryption_is_refused_where_it_must_be_encrypted(postgres: Server) -> None:
    for mode in ("require", "verify-full"):
        with pytest.raises(StateUnavailable):
            await open_database(f"{postgres.url()}?sslmode={mode}")


async def test_a_port_that_never_answers_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(StateUnavailable):
            await open_database(f"postgresql://gateway@127.0.0.1:{silent.getsockname()[1]}/store")
        assert time.monotonic() - begun < 4
