"""The schema comes about step by step, once, whoever comes first; and no file of an earlier release is lost."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Phase, Turn
from gateway.storage import schema
from gateway.storage.database import Session
from gateway.storage.nodes import Nodes
from gateway.storage.opening import connected, open_database
from gateway.storage.retention import Retention
from gateway.storage.seen_ids import SeenIds
from gateway.storage.store import Store, open_store, visit_store
from tests.edges.former_files import UPDATED, body, write_former
from tests.edges.store_bench import KEEP, NOW, RECORD, a_task
from tests.postgres import Server

NAMES = [("hl7", "a-1"), ("hl7", "placer/p-1")]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the address of a database that nobody has used."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/var/state.db"
        return
    server: Server = request.getfixturevalue("postgres")
    address = server.database()
    yield address
    server.drop(address)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "var" / "state.db"


def test_the_last_step_is_the_one_that_this_release_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    steps = ScriptDirectory.from_config(config)
    assert steps.get_heads() == [schema.HEAD]
    assert [step.revision for step in steps.walk_revisions()][::-1] == ["0001", "0002", "0003", "0004", "0005"]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_what_makes_a_new_store_is_what_the_steps_write(dialect: str) -> None:
    assert schema._from_nothing(dialect) == schema.written(None, dialect)


async def test_many_may_come_first(url: str) -> None:
    opened = await asyncio.gather(*(open_store(url, f"chain-{number}", KEEP) for number in range(6)))
    assert len(await opened[0].peers()) == 5
    assert sum(await asyncio.gather(*(each.remember_jti("swiftbook", "j", UPDATED + 300, NOW) for each in opened))) == 1
    for store in opened:
        await store.close()


async def test_a_second_start_finds_nothing_to_do(url: str) -> None:
    for _ in range(2):
        database = await open_database(url)
        assert [step for (step,) in await database.rows("SELECT version_num FROM alembic_version")] == [schema.HEAD]
        await database.close()


async def test_what_a_newer_release_wrote_is_not_touched(url: str) -> None:
    database = await open_database(url)
    await database.change("UPDATE alembic_version SET version_num = '9999'")
    await database.close()
    with pytest.raises(StateUnavailable, match="newer"):
        await open_database(url)


def test_a_start_that_finds_its_schema_needs_no_migration_tool(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    asyncio.run(_opened_and_closed(url))
    script = (
        "import asyncio, sys\n"
        "from gateway.storage.opening import open_database\n"
        "async def main():\n"
        "    await (await open_database(sys.argv[1])).close()\n"
        "asyncio.run(main())\n"
        "print(sorted({'alembic', 'sqlalchemy', 'asyncpg'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, url], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


async def _opened_and_closed(url: str) -> None:
    await (await open_database(url)).close()


# Files of SQLite from before


async def test_writes_that_were_open_are_open_and_hold_their_appointments(file: Path) -> None:
    write_former(file, [body("t-1"), body("t-2", status="completed", outcome="applied", version="8")], ["j"])
    store = await open_store(f"sqlite:///{file}", "chain-1", KEEP)
    found = {filed.task.id: filed for filed in await store.all_writes()}
    assert {name: filed.phase for name, filed in found.items()} == {"t-1": Phase.OPEN, "t-2": Phase.ENDED}
    assert found["t-1"].task.trace == body("t-1")["trace"]
    assert found["t-2"].task.version == "8"
    assert await store.look(NAMES) == [Turn(1, found["t-1"])] * 2
    assert not await store.remember_jti("swiftbook", "j", UPDATED, NOW)
    assert await store.peers() == []
    # Nobody follows them yet; whoever comes first takes them over.
    assert await store.adopt([]) == [found["t-1"]]
    assert await store.adopt([]) == []
    assert await store.end(found["t-1"].task, RECORD, "chain-1")
    assert await store.look(NAMES) == [Turn(1), Turn(1)]
    await store.close()


async def test_of_two_open_writes_with_one_name_the_older_has_it_and_none_is_lost(file: Path) -> None:
    write_former(file, [body("t-1"), body("t-2")])
    store = await open_store(f"sqlite:///{file}", "chain-1", KEEP)
    assert [filed.task.id for filed in await store.adopt([])] == ["t-1", "t-2"]
    assert {turn.holder.task.id for turn in await store.look(NAMES) if turn.holder} == {"t-1"}
    await store.close()


async def test_open_writes_without_a_trace_are_taken_over_too(file: Path) -> None:
    write_former(file, [body("t-1", trace={})])
    store = await open_store(f"sqlite:///{file}", "chain-1", KEEP)
    assert [filed.task.id for filed in await store.adopt([])] == ["t-1"]
    await store.close()


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_file_of_any_step_is_brought_up_to_date(file: Path, steps: int) -> None:
    write_former(file, jtis=["j"], steps=steps)
    store = await open_store(f"sqlite:///{file}", "chain-1", KEEP)
    assert not await store.remember_jti("swiftbook", "j", UPDATED, NOW)
    assert await store.hold(a_task(), {NAMES[0]: 0}, "chain-1")
    await store.close()


async def test_a_store_of_the_step_before_keeps_its_writes_and_their_turns(url: str) -> None:
    async with _store_before(url) as former:
        tasks = [a_task(f"t-{number}") for number in range(4)]
        for number, task in enumerate(tasks):
            assert await former.hold(task, {("r", f"a-{number}"): 0}, "chain-1")
        for task in tasks[1:]:
            assert await former.send(task)
        await former.open(tasks[2])
        assert await former.end(tasks[3], RECORD, "chain-1")
        before = await former.all_writes()
    assert [filed.phase for filed in before] == [Phase.HELD, Phase.SENT, Phase.OPEN, Phase.ENDED]

    store = await open_store(url, "chain-2", KEEP)
    assert await store.all_writes() == before
    turns = await store.look([("r", f"a-{number}") for number in range(4)])
    assert [turn.holder and turn.holder.task.id for turn in turns] == ["t-0", "t-1", "t-2", None]
    assert [filed.task.id for filed in await store.owing()] == ["t-3"]
    await store.close()


@asynccontextmanager
async def _store_before(url: str) -> AsyncIterator[Store]:
    """Make a store at the step before the last one; a release finds its rows in the same columns."""
    database = await connected(url)
    whole = schema.written(None, database.name)
    last = next(number for number, step in enumerate(whole) if "version_num='0004'" in step)

    async def plan(_: Session) -> Sequence[str]:
        return whole[: last + 1]

    await database.migrate(plan)
    store = Store(database, Nodes(database, "chain-1"), Retention(database, KEEP), SeenIds(database))
    await store.nodes.register()
    yield store
    await store.close()


async def test_the_release_before_sees_that_the_file_is_no_longer_its_own(file: Path) -> None:
    write_former(file)
    await _opened_and_closed(f"sqlite:///{file}")
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA user_version").fetchone()[0] > 3
    connection.close()


async def test_a_file_that_counts_further_is_not_touched(file: Path) -> None:
    write_former(file)
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateUnavailable, match="newer"):
        await open_database(f"sqlite:///{file}")


async def test_a_step_that_fails_leaves_the_file_as_it_was(file: Path) -> None:
    write_former(file, [body("t-1")], ["j"])
    connection = sqlite3.connect(file)
    connection.execute("UPDATE task SET body = 'no JSON'")
    connection.commit()
    before = list(connection.iterdump())
    with pytest.raises(StateUnavailable):
        await open_database(f"sqlite:///{file}")
    assert list(connection.iterdump()) == before
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 3
    connection.close()


async def test_one_that_is_killed_in_mid_step_leaves_the_file_as_it_was(file: Path) -> None:
    write_former(file, [body("t-1")], ["j"])
    script = (
        "import asyncio, os, sys\n"
        "from gateway.storage.sqlite import SqliteDatabase\n"
        "from gateway.storage import schema\n"
        "async def main():\n"
        "    database = await SqliteDatabase.open(sys.argv[1])\n"
        "    async def plan(session):\n"
        "        for statement in (await schema._missing(session, 'sqlite'))[:-1]:\n"
        "            await session.change(statement)\n"
        "        os._exit(9)\n"
        "    await database.migrate(plan)\n"
        "asyncio.run(main())\n"
    )
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, f"sqlite:///{file}"], check=False, capture_output=True
    )
    assert run.returncode == 9, run.stderr
    store = await visit_store(f"sqlite:///{file}", "chain-1", KEEP)
    assert [filed.phase for filed in await store.open_writes()] == [Phase.OPEN]
    await store.close()
