"""What only a file can suffer: other processes, full and read-only disks, permissions; and what its driver is told."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Phase, Turn
from gateway.storage import sqlite as module
from gateway.storage.opening import open_database
from gateway.storage.sqlite import SqliteDatabase, path_of
from gateway.storage.store import Store, open_store, visit_store
from tests.edges.store_bench import KEEP, NOW, RECORD, A, a_task, held, sent


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await open_store(url, "chain-1", KEEP)
    yield opened
    await opened.close()


async def test_numbered_parameters_are_bound_in_their_order(store: Store) -> None:
    values = [f"v{number}" for number in range(1, 13)]
    backwards = ", ".join(f"${number}" for number in range(12, 0, -1))
    found = await store.database.rows(f"SELECT {backwards}, $1, $10", *values)
    assert [*found[0]] == [*values[::-1], "v1", "v10"]


async def test_a_number_too_large_for_the_file_is_a_fault_of_the_store(store: Store) -> None:
    with pytest.raises(StateUnavailable):
        await store.remember_jti("swiftbook", "j", 2**70, NOW)
    assert await store.is_usable()


async def test_the_files_are_for_their_owner_only(store: Store, url: str) -> None:
    await held(store)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in path_of(url).parent.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


async def test_a_file_left_open_to_others_is_closed_to_them(url: str) -> None:
    path = path_of(url)
    path.parent.mkdir()
    path.touch(0o644)
    await (await open_database(url)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_state_file_may_be_a_link_to_another_place(tmp_path: Path, *, is_there: bool) -> None:
    """SQLite keeps its log beside the file itself, not beside the link."""
    url, place = f"sqlite:///{tmp_path}/state.db", tmp_path / "elsewhere" / "kept.db"
    if is_there:
        await (await open_database(f"sqlite:///{place}")).close()
    path_of(url).symlink_to(place)
    store = await open_store(url, "chain-1", KEEP)
    await sent(store)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.parent.iterdir()}
    assert modes == {"kept.db": 0o600, "kept.db-wal": 0o600, "kept.db-shm": 0o600}
    await store.close()


@pytest.mark.parametrize(
    "address", ["sqlite:///var/state.db", "sqlite://", "postgresql://db/state", "/var/state.db", ""]
)
def test_only_an_absolute_path_of_sqlite_is_a_state_file(address: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        path_of(address)


async def test_the_file_is_set_up_to_lose_nothing(store: Store) -> None:
    assert isinstance(store.database, SqliteDatabase)
    for connection in (store.database._writer, store.database._reader):
        assert [tuple(row) for row in await connection.rows("PRAGMA journal_mode")] == [("wal",)]
        # What a checkpoint needs, as ever; what lasts is synced after its commit, beside that.
        assert [tuple(row) for row in await connection.rows("PRAGMA synchronous")] == [(1,)]


async def test_the_reader_changes_nothing(store: Store) -> None:
    with pytest.raises(StateUnavailable):
        await store.database.rows("DELETE FROM node RETURNING name")
    assert await store.renew()


# Another process


async def test_what_was_filed_survives_a_process_that_is_killed(url: str) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from gateway.storage.store import open_store\n"
        "from tests.edges.store_bench import KEEP, a_task, sent\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1], 'chain-1', KEEP)\n"
        "    await store.claim_key('swiftbook', 'k', 'f', 't-1')\n"
        "    await sent(store)\n"
        "    async def half(session):\n"
        "        await session.change('DELETE FROM task')\n"
        "        os._exit(9)\n"
        "    await store.database.transact(half)\n"
        "asyncio.run(main())\n"
    )
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, url], check=False, capture_output=True, cwd=Path.cwd()
    )
    assert run.returncode == 9, run.stderr
    store = await open_store(url, "chain-2", KEEP)
    (filed,) = await store.adopt(["chain-1"])
    assert (filed.task, filed.phase) == (a_task(), Phase.SENT)
    await store.close()


@contextmanager
def _held_by_another(url: str) -> Iterator[sqlite3.Connection]:
    """Hold the file as a process does that is about to write, or to set it up."""
    path_of(url).parent.mkdir(exist_ok=True)
    other = sqlite3.connect(path_of(url), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield other
    finally:
        other.close()


async def test_a_file_that_another_process_holds_can_be_read_but_not_written_for_a_while(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY", 0.05)
    store = await open_store(url, "chain-1", KEEP)
    with _held_by_another(url) as other:
        for change in (store.hold(a_task(), {A: 0}, "c"), store.renew(), store.remember_jti("s", "j", 1, NOW)):
            with pytest.raises(StateUnavailable):
                await change
        assert await store.look([A]) == [Turn()]
        other.execute("ROLLBACK")
    await sent(store)
    await store.close()


async def test_writers_do_not_queue_for_ever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY", 0.1)
    store = await open_store(url, "chain-1", KEEP)
    with _held_by_another(url):
        begun = asyncio.get_running_loop().time()
        tries = [store.remember_jti("s", f"j{number}", 1, NOW) for number in range(40)]
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert {type(each) for each in told} == {StateUnavailable}
        # One after the other they would have waited for four seconds.
        assert asyncio.get_running_loop().time() - begun < 1.5
    await store.close()


async def test_a_file_that_another_process_is_making_is_waited_for(url: str) -> None:
    with _held_by_another(url) as other:
        opening = asyncio.create_task(open_database(url))
        await asyncio.sleep(0.1)
        assert not opening.done()
        other.execute("ROLLBACK")
        await (await opening).close()


async def test_a_file_that_another_process_never_finishes_is_not_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY", 0.05)
    with _held_by_another(url), pytest.raises(StateUnavailable):
        await open_database(url)


async def test_who_visits_from_the_same_process_lets_go_of_no_lock_of_its_gateway(store: Store, url: str) -> None:
    """POSIX drops what locks a process has on a file as soon as it closes the file, by whatever descriptor.

    SQLite takes care of that. Without its locks, whoever else closes the file takes itself for the last one, and
    removes the log from under the gateway.
    """
    log = path_of(url).with_name("state.db-wal")
    inode = log.stat().st_ino
    for _ in range(2):
        visitor = await visit_store(url, "a person's", KEEP)
        await visitor.close()
    assert await _told_by_another(url, "SELECT chain FROM node") == "chain-1"
    assert log.stat().st_ino == inode
    await sent(store)
    assert await _told_by_another(url, "SELECT phase FROM task") == "sent"


async def _told_by_another(url: str, question: str) -> str:
    """Have another process ask, and close the file."""
    script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    command = [sys.executable, "-c", script, str(path_of(url)), question]
    run = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    return run.stdout.strip()


# Files that cannot be used


async def test_a_file_that_is_no_database_is_not_used(url: str) -> None:
    path_of(url).parent.mkdir()
    path_of(url).write_bytes(b"this is no database, but it is long enough to look like one " * 20)
    with pytest.raises(StateUnavailable):
        await open_database(url)


async def test_a_folder_in_the_way_is_not_used(url: str) -> None:
    path_of(url).mkdir(parents=True)
    with pytest.raises(StateUnavailable):
        await open_database(url)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_file_that_may_not_be_written_is_not_used(url: str) -> None:
    path_of(url).parent.mkdir(0o500)
    with pytest.raises(StateUnavailable):
        await open_database(url)


async def test_a_store_that_became_read_only_says_so_and_recovers(store: Store) -> None:
    assert isinstance(store.database, SqliteDatabase)
    task = await sent(store)
    await store.database._writer.change("PRAGMA query_only = ON")
    for change in (store.hold(a_task("t-2"), {A: 1}, "c"), store.end(task, RECORD, "chain-1"), store.drop("t-1")):
        with pytest.raises(StateUnavailable):
            await change
    assert not await store.is_usable()
    assert (await store.look([A]))[0].holder is not None
    await store.database._writer.change("PRAGMA query_only = OFF")
    assert await store.is_usable()
    assert await store.end(task, RECORD, "chain-1")


async def test_a_full_disk_undoes_the_whole_change_and_is_recovered_from(store: Store) -> None:
    assert isinstance(store.database, SqliteDatabase)
    task = await sent(store)
    (pages,) = (await store.database._writer.rows("PRAGMA page_count"))[0]
    await store.database._writer.change(f"PRAGMA max_page_count = {pages}")
    large = {"text": "x" * 100_000}
    with pytest.raises(StateUnavailable):
        await store.end(task, large, "chain-1")
    with pytest.raises(StateUnavailable):
        await store.hold(a_task("t-2", trace=large), {("box", "a-2"): 0}, "chain-1")
    assert await store.owing() == []
    assert await store.look([("box", "a-2")]) == [Turn()]
    (turn,) = await store.look([A])
    assert turn.holder is not None
    await store.database._writer.change(f"PRAGMA max_page_count = {pages + 1000}")
    assert await store.end(task, large, "chain-1")
    assert (await store.look([A]))[0].holder is None


def test_a_file_for_which_there_is_no_memory_answers_nothing_and_keeps_nobody_waiting(url: str) -> None:
    script = (
        "import asyncio, contextlib, sys\n"
        "from gateway.flow.ports import StateUnavailable\n"
        "from gateway.storage.store import open_store\n"
        "from tests.edges.store_bench import KEEP, A, a_task\n"
        "async def main():\n"
        "    store = await open_store(sys.argv[1], 'chain-1', KEEP)\n"
        "    with contextlib.suppress(StateUnavailable, MemoryError):\n"
        "        await store.database._writer.rows('PRAGMA hard_heap_limit = 1')\n"
        "    for change in (store.hold(a_task(), {A: 0}, 'chain-1'), store.renew(), store.drop('t-1')):\n"
        "        try:\n"
        "            await asyncio.wait_for(change, 10)\n"
        "        except StateUnavailable as error:\n"
        "            print(error)\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", script, url], check=False, capture_output=True, text=True, timeout=30)
    assert run.stdout.splitlines() == ["the state file cannot answer"] * 3, run.stderr


async def test_a_visitor_opens_a_file_beside_its_gateway(store: Store, url: str) -> None:
    task = await sent(store)
    visitor = await visit_store(url, "visitor", KEEP)
    assert [filed.task for filed in await visitor.all_writes()] == [task]
    await visitor.close()
