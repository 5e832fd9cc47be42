"""Files that are older than the audit is to be kept go, on record; `audit verify` takes that and nothing else."""

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.chain import What
from gateway.domain.chain_check import Named, Sound
from gateway.storage.journal import Journal
from gateway.storage.removal import LOCK, AuditRetention, old_files
from gateway.storage.verification import Report, verify
from tests.edges.audit_folders import write_chain
from tests.edges.independent_verifier import independent_verdict
from tests.edges.journal_bench import SIGNER, Bench

KEYS = {SIGNER.kid: SIGNER.key.public_key()}
KEEP = timedelta(days=30)
SOON = {"checkpoint_seconds": 0.0}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "audit")


async def a_run(bench: Bench, days: int = 3) -> str:
    """A process that wrote a file a day, in nine records with the default, and stopped."""
    async with bench.journal(signer=SIGNER, patience=9.0) as journal:
        for day in range(days):
            await journal.write({"event": "read", "appointment": str(day)})
            bench.clock.advance(days=1)
        return journal.chain


def retention(bench: Bench, journal: Journal, *, signed: bool = True, patience: float = 20.0) -> AuditRetention:
    return AuditRetention(bench.directory, KEEP, journal, bench.clock, signed=signed, patience=patience)


def good(report: Report) -> dict[str, tuple[int, int]]:
    """What is there of each chain and what was removed."""
    assert report.bad == ()
    return {each.chain: (each.records, each.removed) for each in report.chains if isinstance(each, Sound)}


async def test_what_is_too_old_goes_and_the_rest_verifies(bench: Bench) -> None:
    first = await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        assert await retention(bench, journal).clean() == 1
        assert not (bench.directory / f"{first}.000001.jsonl").exists()
        assert await retention(bench, journal).clean() == 0
    [record] = [each for each in bench.records if each["event"] == "segments-removed"]
    assert [(each["chain"], each["file"], each["first"], each["last"], each["ends"]) for each in record["removed"]] == [
        (first, f"{first}.000001.jsonl", 1, 3, False)
    ]
    for keys in (KEYS, None):
        found = good(verify([bench.directory], keys=keys))
        assert found[first] == (6, 3)
        assert good(verify([bench.directory], keys=keys, processes=2)) == found


async def test_a_whole_chain_may_go_though_later_starts_name_it(bench: Bench) -> None:
    first, second = await a_run(bench), await a_run(bench, days=40)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        assert await retention(bench, journal).clean() > 3
    found = good(verify([bench.directory], keys=KEYS))
    assert found[first] == (0, 9)
    assert found[second][1] > 0
    known = {first: [Named(2, "the checkpoint kept elsewhere")]}
    assert good(verify([bench.directory], keys=KEYS, checkpoints=known)) == found
    beyond = {first: [Named(10, "the checkpoint kept elsewhere")]}
    [bad] = verify([bench.directory], keys=KEYS, checkpoints=beyond).bad
    assert (bad.chain, bad.what) == (first, What.MISSING_CHAIN)


def unlink_next(folder: Path, first: str) -> None:
    (folder / f"{first}.000002.jsonl").unlink()


def unlink_rest(folder: Path, first: str) -> None:
    for path in folder.glob(f"{first}.*"):
        path.unlink()


def forge(folder: Path, first: str) -> None:
    """Remove more, and a record that says so in a chain of its own."""
    path = folder / f"{first}.000002.jsonl"
    last = json.loads(path.read_bytes().splitlines()[-1])
    stated = {"file": path.name, "chain": first, "first": 4, "last": last["seq"], "hash": last["hash"], "ends": False}
    path.unlink()
    write_chain(
        folder, "20270101T000000Z-0000000f", [{"event": "start"}, {"event": "segments-removed", "removed": [stated]}]
    )


@pytest.mark.parametrize(
    ("more", "what"),
    [(unlink_next, What.REMOVED), (unlink_rest, What.MISSING_CHAIN), (forge, What.REMOVED)],
    ids=["one more file", "the whole chain", "one more, with a forged record"],
)
async def test_nothing_else_may_be_gone(bench: Bench, more: Callable[[Path, str], None], what: What) -> None:
    first = await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        assert await retention(bench, journal).clean() == 1
    more(bench.directory, first)
    for processes in (1, 2):
        [bad] = verify([bench.directory], keys=KEYS, processes=processes).bad
        assert (bad.chain, bad.what) == (first, what)


async def test_a_statement_in_a_chain_that_is_bad_does_not_count(bench: Bench) -> None:
    first = await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        await retention(bench, journal).clean()
        own = journal.chain
    path = bench.directory / f"{own}.000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0].replace(b'"start"', b'"smart"'), *lines[1:]]))
    assert {bad.chain for bad in verify([bench.directory]).bad} == {first, own}


async def test_a_file_that_is_still_there_though_its_removal_is_on_record_does_no_harm(bench: Bench) -> None:
    """A process dies between record and removal; the next one makes it good."""
    first = await a_run(bench)
    kept = bench.directory.with_name("kept")
    shutil.copytree(bench.directory, kept)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        await retention(bench, journal).clean()
    name = f"{first}.000001.jsonl"
    shutil.copy(kept / name, bench.directory / name)
    assert good(verify([bench.directory], keys=KEYS))[first] == (9, 0)
    assert independent_verdict(bench.directory)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        assert await retention(bench, journal).clean() == 1
    assert good(verify([bench.directory], keys=KEYS))[first] == (6, 3)


async def test_nothing_goes_before_its_record_is_signed(bench: Bench) -> None:
    await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER) as journal:
        assert await retention(bench, journal, patience=0.2).clean() == 0
        assert len(bench.files) == 5
        waiting = asyncio.create_task(retention(bench, journal).clean())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        bench.clock.advance(seconds=61)
        assert await waiting == 1


async def test_without_a_key_nothing_is_waited_for(bench: Bench) -> None:
    first = await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal() as journal:
        assert await retention(bench, journal, signed=False).clean() == 1
    assert good(verify([bench.directory]))[first] == (6, 3)


async def test_what_is_not_on_record_does_not_go(bench: Bench) -> None:
    await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER) as journal:
        bench.disk.full = 0
        with pytest.raises(Exception, match="No space left"):
            await retention(bench, journal).clean()
        bench.disk.full = None
    assert "segments-removed" not in bench.events
    assert len(bench.files) == 5


async def test_a_file_that_somebody_writes_stays_however_old(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER, chain=SOON) as living:
        await living.write({"event": "read"})
        bench.clock.advance(days=99)
        other = Bench(bench.directory, bench.clock)
        other.disk.ids = 9
        async with other.journal(signer=SIGNER, chain=SOON) as journal:
            assert await retention(bench, journal).clean() == 0
    assert verify([bench.directory], keys=KEYS).bad == ()


async def test_a_living_chain_loses_its_old_files_and_goes_on(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        for _ in range(40):
            await journal.write({"event": "read"})
            bench.clock.advance(days=1)
        before = len(bench.files)
        assert await retention(bench, journal).clean() == 10
        await journal.write({"event": "read"})
        chain = journal.chain
    assert len(bench.files) in (before - 10, before - 9)
    records, removed = good(verify([bench.directory], keys=KEYS))[chain]
    assert (records > 30, removed >= 10) == (True, True)


async def test_of_several_processes_one_removes(bench: Bench) -> None:
    await a_run(bench)
    bench.clock.advance(days=28)
    async with bench.journal(signer=SIGNER) as journal:
        waiting = asyncio.create_task(retention(bench, journal).clean())
        await asyncio.sleep(0.1)
        assert await retention(bench, journal).clean() == 0
        bench.clock.advance(seconds=61)
        assert await waiting == 1
    assert bench.events.count("segments-removed") == 1
    assert (bench.directory / LOCK).stat().st_mode & 0o777 == 0o600


async def test_what_cannot_be_read_stays_and_all_behind_it(bench: Bench) -> None:
    first = await a_run(bench)
    path = bench.directory / f"{first}.000002.jsonl"
    path.write_bytes(b"x\n")
    old = old_files(bench.directory, bench.clock() + timedelta(days=1))
    assert [file.path.name for file in old] == [f"{first}.000001.jsonl"]


async def test_a_statement_that_goes_itself_is_repeated_for_as_long_as_somebody_names_that_chain(bench: Bench) -> None:
    first = await a_run(bench)
    idle = Bench(bench.directory, bench.clock)
    idle.disk.ids = 50
    async with idle.journal(signer=SIGNER, chain=SOON):
        # It names the first chain and writes nothing more, so its file is never too old.
        bench.clock.advance(days=40)
        for _ in range(3):
            async with bench.journal(signer=SIGNER, chain=SOON) as journal:
                await retention(bench, journal).clean()
            bench.clock.advance(days=40)
            assert good(verify([bench.directory], keys=KEYS))[first] == (0, 9)
    async with bench.journal(signer=SIGNER, chain=SOON) as journal:
        await retention(bench, journal).clean()
    assert verify([bench.directory], keys=KEYS).bad == ()
    assert first not in good(verify([bench.directory], keys=KEYS))


async def test_a_start_beside_a_removal_is_no_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_run(bench)
    glob = Path.glob

    def gone(self: Path, pattern: str) -> list[Path]:
        found = sorted(glob(self, pattern))
        found[0].unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", gone)
    async with bench.journal(signer=SIGNER) as journal:
        assert journal.healthy


def test_a_chain_that_goes_on_while_it_is_looked_at_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = "20260101T000000Z-00000001"
    write_chain(tmp_path, chain, [{"event": "start"}])

    def goes_on(_: int) -> bool:
        write_chain(tmp_path, chain, [{"event": "start"}, {"event": "read"}], split=1)
        return False

    monkeypatch.setattr("gateway.storage.removal.is_alive", goes_on)
    assert old_files(tmp_path, datetime.now(UTC) + timedelta(days=9999)) == []
