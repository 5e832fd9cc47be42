"""What is found out about writes in the chains that dead processes left."""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.flow.chains import Chains, Told
from gateway.flow.ports import JournalUnavailable
from gateway.storage.chain_tails import ChainFolder
from tests.edges.audit_folders import FIRST, SECOND, write_chain
from tests.edges.journal_bench import SIGNER, Bench

START: dict[str, Any] = {"event": "start", "chains": [], "torn": []}
STOP = {"event": "stop"}
READ = {"event": "read", "appointment": "a"}


def intent(task: str) -> dict[str, Any]:
    return {"event": "intent", "task": task, "appointment": f"of {task}"}


def outcome(task: str, word: str = "applied", *, final: bool = True) -> dict[str, Any]:
    return {"event": "outcome", "task": task, "outcome": word, "final": final}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


async def open_tasks(folder: Path, **settings: Any) -> list[str]:
    return [str(each["task"]) for each in await ChainFolder(folder, **settings).open_intents()]


def test_a_folder_of_chains_is_what_the_story_asks_for(folder: Path) -> None:
    chains: Chains = ChainFolder(folder)
    assert not chains.is_dead(FIRST)


async def test_an_intent_without_an_end_is_found_as_it_was_written(folder: Path) -> None:
    write_chain(folder, FIRST, [START, intent("t1"), outcome("t1"), intent("t2"), READ])
    (found,) = await ChainFolder(folder).open_intents()
    assert (found["chain"], found["seq"], found["task"], found["appointment"]) == (FIRST, 4, "t2", "of t2")


@pytest.mark.parametrize("split", [10**9, 1, 2], ids=["one file", "a file each", "two a file"])
async def test_a_write_is_told_from_its_intent_on(folder: Path, split: int) -> None:
    contents = [START, intent("t1"), intent("t2"), outcome("t1", "unknown", final=False), READ, outcome("t1")]
    write_chain(folder, FIRST, [*contents, {**READ, "task": "t2"}], split=split)
    chains = ChainFolder(folder)
    assert await chains.told(FIRST, "t1") == Told(2, "applied", ended=True)
    assert await chains.told(FIRST, "t2") == Told(3, None, ended=False)
    assert await chains.told(FIRST, "t3") == Told(None, None, ended=False)
    assert await chains.told(SECOND, "t1") is None
    assert await open_tasks(folder) == ["t2"]


async def test_an_outcome_that_is_not_final_ends_nothing(folder: Path) -> None:
    write_chain(folder, FIRST, [START, intent("t1"), outcome("t1", "accepted", final=False)])
    assert await ChainFolder(folder).told(FIRST, "t1") == Told(2, "accepted", ended=False)
    assert await open_tasks(folder) == ["t1"]
    assert await ChainFolder(folder).final_anywhere("t1") is None


async def test_an_end_in_another_chain_counts(folder: Path) -> None:
    write_chain(folder, FIRST, [START, intent("t1"), intent("t2"), intent("t3")])
    write_chain(folder, SECOND, [START, outcome("t1", "rejected"), outcome("t2", "unknown", final=False), STOP])
    chains = ChainFolder(folder)
    assert await open_tasks(folder) == ["t2", "t3"]
    assert await chains.told(FIRST, "t1") == Told(2, None, ended=False)
    assert await chains.told(SECOND, "t1") == Told(None, "rejected", ended=True)
    assert [await chains.final_anywhere(task) for task in ("t1", "t2", "t3")] == ["rejected", None, None]


@pytest.mark.parametrize("hours", [0.5, 3, 23])
async def test_an_end_counts_though_the_clock_was_set_back_before_it(folder: Path, hours: float) -> None:
    write_chain(folder, FIRST, [START, intent("t1")])
    write_chain(folder, SECOND, [START, outcome("t1"), STOP])
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    os.utime(folder / f"{SECOND}.000001.jsonl", (noon, noon - 3600 * hours))
    assert await open_tasks(folder) == []


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
async def test_a_chain_that_stopped_in_order_is_passed_over(tmp_path: Path, *, signed: bool) -> None:
    bench = Bench(tmp_path / "audit")
    async with bench.journal(signer=SIGNER if signed else None) as journal:
        await journal.write(intent("t1"))
    assert bench.events[-1] == ("checkpoint" if signed else "stop")
    assert await open_tasks(bench.directory) == []


@pytest.mark.parametrize(
    "tail",
    [b"{", b'{"event":"outcome","task":"t1","outcome":"applied","final":true}', b"\x00" * 700_000],
    ids=["brace", "an outcome without its newline", "NULs"],
)
async def test_half_a_line_counts_for_nothing(folder: Path, tail: bytes) -> None:
    write_chain(folder, FIRST, [START, intent("t1")])
    file = folder / f"{FIRST}.000001.jsonl"
    file.write_bytes(file.read_bytes() + tail)
    assert await open_tasks(folder) == ["t1"]
    assert await ChainFolder(folder).told(FIRST, "t1") == Told(2, None, ended=False)
    assert await ChainFolder(folder).final_anywhere("t1") is None


async def test_a_line_that_does_not_hold_counts_for_nothing(folder: Path) -> None:
    write_chain(folder, FIRST, [START, intent("t1"), outcome("t1"), intent("t2")])
    file = folder / f"{FIRST}.000001.jsonl"
    file.write_bytes(
        file.read_bytes().replace(b'"outcome":"applied"', b'"outcome":"appliee"').replace(b"of t2", b"of t3")
    )
    assert await open_tasks(folder) == ["t1"]
    assert await ChainFolder(folder).told(FIRST, "t1") == Told(2, None, ended=False)
    assert await ChainFolder(folder).told(FIRST, "t2") == Told(None, None, ended=False)


async def test_an_empty_folder_and_strange_files_hold_nothing(folder: Path) -> None:
    write_chain(folder, FIRST, [])
    assert await open_tasks(folder) == []
    (folder / "20261122T115959Z-aaaaaaaa.000001.jsonl").touch()
    (folder / "20261122T115959Z-bbbbbbbb.000001.jsonl").write_bytes(b'\xff"task":"\xff","event":"intent"\n' * 3)
    (folder / "strange.jsonl").write_bytes(b'"task":"t1"\n[]\n{}\n')
    (folder / ".20261122T115959Z-aaaaaaaa.000002.jsonl.new").touch()
    assert await open_tasks(folder) == []
    assert await ChainFolder(folder).final_anywhere("t1") is None
    assert await ChainFolder(folder).told("20261122T115959Z-aaaaaaaa", "t1") == Told(None, None, ended=False)


@pytest.mark.parametrize("chain", ["", "../audit/" + FIRST, "strange", "*", FIRST[:-1]])
async def test_a_name_that_is_no_chain_of_the_folder_is_neither_dead_nor_read(folder: Path, chain: str) -> None:
    write_chain(folder, FIRST, [START])
    assert not ChainFolder(folder).is_dead(chain)
    assert await ChainFolder(folder).told(chain, "t1") is None


async def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    chains = ChainFolder(tmp_path / "gone")
    assert not chains.is_dead(FIRST)
    for reading in (chains.told(FIRST, "t1"), chains.open_intents()):
        with pytest.raises(JournalUnavailable, match="cannot be read: No such file"):
            await reading
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / f"{FIRST}.000001.jsonl").symlink_to("/dev/zero")
    assert not chains.is_dead(FIRST)
    with pytest.raises(JournalUnavailable, match="symbolic links"):
        await chains.told(FIRST, "t1")


async def test_a_line_without_end_is_not_read_into_memory(folder: Path) -> None:
    write_chain(folder, FIRST, [])
    (folder / f"{FIRST}.000001.jsonl").write_bytes(b"\x00" * 40_000_000 + b"\n")
    with pytest.raises(JournalUnavailable, match="longer than any record"):
        await ChainFolder(folder).told(FIRST, "t1")


async def test_what_was_written_long_before_the_end_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.chain_tails.AT_LEAST", 0)
    monkeypatch.setattr("gateway.storage.chain_tails._BLOCK", 100)
    bench = Bench(tmp_path / "audit")
    async with bench.journal() as journal:
        for task in ("t1", "t2", "t3"):
            await journal.write(intent(task))
            bench.clock.advance(minutes=10)
        without_stop(bench)
        assert await open_tasks(bench.directory, back=timedelta(minutes=5)) == []
    without_stop(bench)
    assert await open_tasks(bench.directory, back=timedelta(minutes=5)) == ["t2", "t3"]
    assert await open_tasks(bench.directory, back=timedelta(minutes=25)) == ["t1", "t2", "t3"]


def without_stop(bench: Bench) -> None:
    for file in bench.files:
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(line for line in lines if b'"event":"stop"' not in line))


async def test_our_own_chain_and_that_of_another_journal_are_alive_until_closed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "audit")
    chains = ChainFolder(bench.directory)
    async with bench.journal(chain={"segment_bytes": 100}) as journal, bench.journal() as other:
        names = [each.head.chain for each in (journal, other)]
        for n in range(20):
            await journal.write(intent(f"t{n}"))
            assert [chains.is_dead(name) for name in names] == [False, False]
        assert len(bench.files) > 10
        assert await open_tasks(bench.directory) == []
        assert await chains.told(names[0], "t7") == Told(9, None, ended=False)
    assert [chains.is_dead(name) for name in names] == [True, True]


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings

async def main():
    settings = JournalSettings(ChainSettings(Path(sys.argv[1]), segment_bytes=1))
    journal = await Journal.open(settings, clock=lambda: datetime.now(UTC))
    await journal.write({"event": "intent", "task": "t1"})
    await journal.write({"event": "outcome", "task": "t1", "final": False, "outcome": "unknown"})
    print(journal.head.chain, flush=True)
    while True:
        await journal.write({"event": "read"})

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def rotating_writer(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a process that goes on in a new file with every record."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_process_that_changes_files_all_the_time_is_alive_until_it_is_killed(folder: Path) -> None:
    chains = ChainFolder(folder)
    async with rotating_writer(folder) as (process, chain):
        end = time.monotonic() + 1.0
        looks = 0
        while time.monotonic() < end:
            assert not await asyncio.to_thread(chains.is_dead, chain)
            looks += 1
        assert await open_tasks(folder) == []
        process.kill()
        await process.wait()
        assert chains.is_dead(chain)
        assert await open_tasks(folder) == ["t1"]
        assert await chains.told(chain, "t1") == Told(2, "unknown", ended=False)
        assert looks > 10


async def test_a_file_that_is_removed_after_its_time_while_the_folder_is_looked_at_is_no_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chain(folder, FIRST, [START, STOP])
    write_chain(folder, SECOND, [START, intent("t2")])
    listing = Path.iterdir

    def gone(self: Path) -> Iterator[Path]:
        found = sorted(listing(self))
        (folder / f"{FIRST}.000001.jsonl").unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", gone)
    assert await open_tasks(folder) == ["t2"]


async def test_a_chain_whose_files_were_removed_is_not_in_the_folder(folder: Path) -> None:
    chains = ChainFolder(folder)
    async with rotating_writer(folder) as (process, chain):
        process.kill()
        await process.wait()
    shutil.rmtree(folder)
    assert not chains.is_dead(chain)
    write_chain(folder, FIRST, [])
    assert not chains.is_dead(chain)
    assert await chains.told(chain, "t1") is None
    assert await chains.open_intents() == []


def thousands() -> Iterator[dict[str, Any]]:
    yield START
    for n in range(6000):
        yield intent(f"task-{n}")
        yield READ
        yield outcome(f"task-{n}") if n % 1000 else READ


async def test_thousands_of_records_are_searched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_chain(folder, FIRST, list(thousands()), split=5000)
    write_chain(folder, SECOND, [START, outcome("task-3000"), STOP])
    chains = ChainFolder(folder)
    begun = time.monotonic()
    assert await open_tasks(folder) == [f"task-{n}" for n in (0, 1000, 2000, 4000, 5000)]
    opened = time.monotonic()
    assert await chains.told(FIRST, "task-1") == Told(5, "applied", ended=True)
    told = time.monotonic()
    assert await chains.final_anywhere("task-5999") == "applied"
    assert await chains.final_anywhere("nowhere") is None
    ended = time.monotonic()
    with capsys.disabled():
        spent = f"open {opened - begun:.2f} s, told {told - opened:.2f} s, final {ended - told:.2f} s"
        sys.stdout.write(f"\n18,000 records: {spent}\n")
