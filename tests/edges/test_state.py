import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.flow.ports import StateUnavailable
from gateway.storage import state as module
from gateway.storage.state import State, path_of
from tests.edges.tokens import NOW, SECONDS

END = SECONDS + 300


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/state.db"


@pytest.fixture
async def state(url: str) -> AsyncIterator[State]:
    opened = await State.open(url)
    yield opened
    await opened.close()


async def test_a_jti_is_new_once(state: State) -> None:
    assert await state.remember_jti("swiftbook", "j", END, NOW)
    assert not await state.remember_jti("swiftbook", "j", END, NOW)
    assert not await state.remember_jti("swiftbook", "j", END + 100, NOW)


async def test_each_issuer_has_its_own(state: State) -> None:
    assert await state.remember_jti("swiftbook", "j", END, NOW)
    assert await state.remember_jti("viewonly", "j", END, NOW)


async def test_letters_and_spaces_count(state: State) -> None:
    for jti in ("j", "J", "j ", "'; DROP TABLE seen_jti; --", "ñ"):
        assert await state.remember_jti("swiftbook", jti, END, NOW)


async def test_of_many_at_once_one_is_told_that_it_was_new(state: State, url: str) -> None:
    other = await State.open(url)
    try:
        tries = [store.remember_jti("swiftbook", "j", END, NOW) for store in (state, other) for _ in range(50)]
        assert sum(await asyncio.gather(*tries)) == 1
    finally:
        await other.close()


async def test_it_is_remembered_over_a_restart(url: str) -> None:
    for new in (True, False):
        opened = await State.open(url)
        assert await opened.remember_jti("swiftbook", "j", END, NOW) is new
        await opened.close()


async def test_it_survives_a_process_that_is_killed(url: str) -> None:
    script = (
        "import asyncio, os, sys, datetime\n"
        "from gateway.storage.state import State\n"
        "async def main():\n"
        "    state = await State.open(sys.argv[1])\n"
        "    now = datetime.datetime.fromtimestamp(int(sys.argv[2]), datetime.UTC)\n"
        "    assert await state.remember_jti('swiftbook', 'j', int(sys.argv[2]) + 300, now)\n"
        "    os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    run = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, url, str(SECONDS)], check=False)
    assert run.returncode == 9
    opened = await State.open(url)
    assert not await opened.remember_jti("swiftbook", "j", END, NOW)
    await opened.close()


async def _held(url: str) -> set[str]:
    def read() -> set[str]:
        connection = sqlite3.connect(path_of(url))
        try:
            return {row[0] for row in connection.execute("SELECT jti FROM seen_jti")}
        finally:
            connection.close()

    return await asyncio.to_thread(read)


async def test_what_ended_more_than_an_hour_ago_is_forgotten(state: State, url: str) -> None:
    await state.remember_jti("swiftbook", "old", END, NOW)
    await state.remember_jti("swiftbook", "later", END + 60, NOW)
    await state.remember_jti("swiftbook", "new", END + 3900, NOW + timedelta(seconds=300 + 3600 + 1))
    assert await _held(url) == {"later", "new"}


async def test_a_clock_set_back_by_an_hour_lets_nothing_in_again(state: State) -> None:
    await state.remember_jti("swiftbook", "j", END, NOW)
    await state.remember_jti("swiftbook", "other", END + 3600, NOW + timedelta(hours=1))
    assert not await state.remember_jti("swiftbook", "j", END, NOW)


async def test_forgetting_is_not_done_on_every_call(state: State, url: str) -> None:
    await state.remember_jti("swiftbook", "first", END, NOW)
    await state.remember_jti("swiftbook", "ended", SECONDS - 4000, NOW)
    await state.remember_jti("swiftbook", "soon", END, NOW + timedelta(seconds=59))
    assert "ended" in await _held(url)
    await state.remember_jti("swiftbook", "minute", END, NOW + timedelta(seconds=60))
    assert "ended" not in await _held(url)


async def test_the_files_are_for_their_owner_only(state: State, url: str) -> None:
    await state.remember_jti("swiftbook", "j", END, NOW)
    folder = path_of(url).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


async def test_a_file_left_open_to_others_is_closed_to_them(url: str) -> None:
    path = path_of(url)
    path.parent.mkdir()
    path.touch(0o644)
    await (await State.open(url)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["sqlite:///var/state.db", "sqlite://", "postgresql://db/state", "/var/state.db", ""])
def test_only_an_absolute_path_of_sqlite_is_a_state_file(url: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        path_of(url)


async def test_a_closed_store_cannot_answer(url: str) -> None:
    opened = await State.open(url)
    await opened.close()
    with pytest.raises(StateUnavailable):
        await opened.remember_jti("swiftbook", "j", END, NOW)


async def test_a_store_another_process_holds_cannot_answer_and_then_can(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY", 0.05)
    opened = await State.open(url)
    holder = sqlite3.connect(path_of(url), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable):
            await opened.remember_jti("swiftbook", "j", END, NOW)
        holder.execute("ROLLBACK")
        assert await opened.remember_jti("swiftbook", "j", END, NOW)
    finally:
        holder.close()
        await opened.close()


async def test_a_caller_that_gives_up_leaves_the_store_usable(state: State) -> None:
    waiting = [asyncio.create_task(state.remember_jti("swiftbook", f"j{n}", END, NOW)) for n in range(5)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await state.remember_jti("swiftbook", "after", END, NOW)


async def test_a_file_that_is_no_database_is_not_used(url: str) -> None:
    path_of(url).parent.mkdir()
    path_of(url).write_bytes(b"this is no database, but it is long enough to look like one " * 20)
    with pytest.raises(StateUnavailable):
        await State.open(url)


async def test_a_folder_in_the_way_is_not_used(url: str) -> None:
    path_of(url).mkdir(parents=True)
    with pytest.raises(StateUnavailable):
        await State.open(url)


async def test_a_file_of_a_newer_gateway_is_not_touched(url: str) -> None:
    await (await State.open(url)).close()
    connection = sqlite3.connect(path_of(url))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateUnavailable, match="newer"):
        await State.open(url)


async def test_two_processes_may_make_the_file_at_once(url: str) -> None:
    opened = await asyncio.gather(*(State.open(url) for _ in range(4)))
    assert sum([await store.remember_jti("swiftbook", "j", END, NOW) for store in opened]) == 1
    for store in opened:
        await store.close()


async def test_many_may_make_the_file_at_once(url: str) -> None:
    for _ in range(3):
        opened = await asyncio.gather(*(State.open(url) for _ in range(8)))
        for store in opened:
            await store.close()
        path_of(url).unlink()


async def test_a_file_that_another_process_is_making_is_waited_for(url: str) -> None:
    with _being_made(url) as other:
        opening = asyncio.create_task(State.open(url))
        await asyncio.sleep(0.1)
        assert not opening.done()
        other.execute("ROLLBACK")
        opened = await opening
        assert await opened.remember_jti("swiftbook", "j", END, NOW)
        await opened.close()


async def test_a_file_that_another_process_never_finishes_is_not_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY", 0.05)
    with _being_made(url), pytest.raises(StateUnavailable):
        await State.open(url)


@contextmanager
def _being_made(url: str) -> Iterator[sqlite3.Connection]:
    """Hold a file that has no WAL yet, as a process does that is about to set it up."""
    path_of(url).parent.mkdir()
    other = sqlite3.connect(path_of(url), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield other
    finally:
        other.close()


async def test_a_state_file_that_may_be_written_is_usable(state: State) -> None:
    assert await state.is_usable()


async def test_a_closed_state_file_is_not_usable(url: str) -> None:
    opened = await State.open(url)
    await opened.close()

    assert not await opened.is_usable()


async def test_a_state_file_without_its_table_is_not_usable(state: State, url: str) -> None:
    with sqlite3.connect(path_of(url)) as other:
        other.execute("DROP TABLE seen_jti")

    assert not await state.is_usable()
    other.close()
