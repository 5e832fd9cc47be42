"""What the journal does when the disk is full, broken, read-only or gone, and after a crash."""

import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from gateway.domain.chain_check import Sound
from gateway.domain.grant import Rate
from gateway.flow.ports import JournalUnavailable
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings, Platform
from gateway.storage.journal_files import Segment
from gateway.storage.verification import verify
from tests.edges.journal_bench import SIGNER, Bench, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "audit")


STRANGER = {"event": "authentication-refused", "code": "token-missing", "client": "192.0.2.1"}


def read(number: int) -> dict[str, object]:
    return {"event": "read", "appointment": str(number)}


@pytest.mark.parametrize("room", [0, 1, 700, 1400], ids=["no byte", "one byte", "a line and a bit", "two lines"])
async def test_a_full_disk_turns_everybody_away_and_leaves_no_half_line(bench: Bench, room: int) -> None:
    async with bench.journal(patience=60) as journal:
        bench.disk.full = room
        results = await asyncio.gather(*(journal.write(read(n)) for n in range(5)), return_exceptions=True)
        assert any(isinstance(result, JournalUnavailable) for result in results)
        assert not journal.healthy
        assert journal.trouble == "the audit stream cannot be written: No space left on device"
        taken = [result for result in results if isinstance(result, int)]
        bench.disk.full = None
        assert await journal.write(read(9)) == len(taken) + 2
        assert journal.healthy
    assert [record["seq"] for record in bench.records] == list(range(1, len(taken) + 4))
    assert not verify([bench.directory]).bad


async def test_what_could_not_be_made_durable_is_taken_back(bench: Bench) -> None:
    async with bench.journal(patience=60) as journal:
        bench.disk.broken = True
        for n in range(3):
            with pytest.raises(JournalUnavailable, match="Input/output error"):
                await journal.write(read(n), essential=True)
        bench.disk.broken = False
        assert await journal.write(read(3)) == 2
    assert [record["appointment"] for record in bench.records] == [None, "3", None]
    assert not verify([bench.directory]).bad


async def test_the_journal_comes_back_by_itself(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER) as journal:
        bench.disk.broken = True
        with pytest.raises(JournalUnavailable):
            await journal.write(read(1))
        await asyncio.sleep(0.1)
        assert not journal.healthy
        bench.disk.broken = False
        await eventually(lambda: journal.healthy)
        assert await journal.write(read(2)) == 3
    assert not verify([bench.directory]).bad


async def test_notes_wait_for_the_disk_to_come_back(bench: Bench) -> None:
    async with bench.journal() as journal:
        bench.disk.broken = True
        journal.note({"event": "grants-refused"})
        await eventually(lambda: not journal.healthy)
        bench.disk.broken = False
        await eventually(lambda: journal.healthy)
    assert bench.events == ["start", "grants-refused", "stop"]


async def test_strangers_cannot_fill_the_memory_while_the_disk_is_away(bench: Bench) -> None:
    async with bench.journal(process=Rate(10_000, 1), client=Rate(10_000, 1)) as journal:
        bench.disk.broken = True
        for _ in range(3000):
            journal.refused_unauthenticated(STRANGER, "192.0.2.1")
        await eventually(lambda: not journal.healthy)
        assert len(journal._notes) + len(journal._entries) <= 1000
        bench.disk.broken = False
        await eventually(lambda: journal.healthy)
    counted = sum(count["count"] for record in bench.records for count in record.get("counts", []))
    assert bench.events.count("authentication-refused") + counted == 3000
    assert not verify([bench.directory]).bad


async def test_what_was_only_counted_adds_up_though_the_counts_could_not_be_written(bench: Bench) -> None:
    async with bench.journal(suppressed_seconds=0.02) as journal:
        bench.disk.broken = True
        for _ in range(1200):
            journal.note({"event": "grants-refused"})
        for n in range(20):
            for last in range(50):
                journal.refused_unauthenticated(STRANGER, f"192.0.{n}.{last}")
            await asyncio.sleep(0.02)
        await eventually(lambda: not journal.healthy)
        bench.disk.broken = False
        await eventually(lambda: journal.healthy)
    counts = [count for record in bench.records for count in record.get("counts", [])]
    counted = sum(count["count"] for count in counts if count["code"] == "token-missing")
    assert bench.events.count("authentication-refused") + counted == 1000
    assert {count["client"] for count in counts} <= {*(f"192.0.{n}.0/24" for n in range(20)), "unknown"}


async def test_the_reserve_is_kept_for_essential_records(bench: Bench) -> None:
    async with bench.journal(reserve=1000) as journal:
        bench.disk.free = 999
        with pytest.raises(JournalUnavailable, match="reserve"):
            await journal.write({"event": "intent"})
        assert not journal.healthy
        refused, number = await asyncio.gather(
            journal.write(read(1)), journal.write({"event": "outcome"}, essential=True), return_exceptions=True
        )
        assert isinstance(refused, JournalUnavailable)
        assert number == 2
        bench.disk.free = 1000
        await eventually(lambda: journal.healthy)
        assert await journal.write({"event": "intent"}) == 3
    assert bench.events == ["start", "outcome", "intent", "stop"]


async def test_the_room_on_the_disk_is_looked_at_now_and_then_and_each_time_once_it_is_short(bench: Bench) -> None:
    async with bench.journal(reserve=1000, look=0.2, patience=30.0) as journal:
        await journal.write(read(1))
        bench.disk.free = 999
        assert await journal.write(read(2)) == 3
        await asyncio.sleep(0.25)
        with pytest.raises(JournalUnavailable, match="reserve"):
            await journal.write(read(3))
        bench.disk.free = 1000
        assert await journal.write(read(4)) == 4


async def test_the_stop_record_may_be_missing_but_closing_does_not_fail(bench: Bench) -> None:
    async with bench.journal() as journal:
        await journal.write(read(1))
        bench.disk.full = 10
    bench.disk.full = None
    assert bench.files[0].read_bytes().count(b"\n") == 2
    async with bench.journal():
        pass
    assert not verify([bench.directory]).bad


async def test_a_removed_file_is_missed_and_a_new_chain_says_so(bench: Bench) -> None:
    async with bench.journal() as journal:
        await journal.write(read(1))
        lost = journal.head
        bench.files[0].unlink()
        assert await journal.write(read(2)) == 2
        assert journal.head.chain != lost.chain
        assert bench.records[0]["chains"] == [{"chain": lost.chain, "seq": lost.seq, "hash": lost.hash}]
    (missing,) = verify([bench.directory]).bad
    assert (missing.chain, missing.what) == (lost.chain, "missing chain")


@pytest.mark.parametrize("moved", [False, True], ids=["removed", "moved away"])
async def test_a_folder_that_goes_while_we_write_is_made_anew_and_the_lost_chain_is_named(
    bench: Bench, tmp_path: Path, *, moved: bool
) -> None:
    aside = tmp_path / "aside"
    async with bench.journal() as journal:
        await journal.write(read(1))
        lost = journal.head
        if moved:
            shutil.move(bench.directory, aside)
        else:
            shutil.rmtree(bench.directory)
        assert await journal.write(read(2)) == 2
        assert journal.chain != lost.chain
    assert bench.records[0]["chains"] == [{"chain": lost.chain, "seq": lost.seq, "hash": lost.hash}]
    (missing,) = verify([bench.directory]).bad
    assert (missing.chain, missing.what) == (lost.chain, "missing chain")
    if moved:
        assert not verify([bench.directory, aside]).bad


async def test_a_folder_that_a_file_took_the_place_of_is_told_and_waited_for(bench: Bench, tmp_path: Path) -> None:
    async with bench.journal() as journal:
        shutil.move(bench.directory, tmp_path / "aside")
        bench.directory.write_text("", encoding="ascii")
        with pytest.raises(JournalUnavailable, match="File exists"):
            await journal.write(read(1))
        bench.directory.unlink()
        await eventually(lambda: journal.healthy)
        assert await journal.write(read(1)) == 2


@pytest.mark.parametrize("fault", ["read_only", "broken"])
async def test_a_disk_that_takes_nothing_refuses_essential_records_too_and_says_why(bench: Bench, fault: str) -> None:
    told: list[str | None] = []
    async with bench.journal(alarm=told.append) as journal:
        setattr(bench.disk, fault, True)
        for record in ({"event": "intent"}, {"event": "outcome"}):
            with pytest.raises(JournalUnavailable):
                await journal.write(record, essential=record["event"] == "outcome")
        await eventually(lambda: len(told) == 1)
        assert not journal.healthy
        setattr(bench.disk, fault, False)
        await eventually(lambda: len(told) == 2)
        assert await journal.write({"event": "outcome"}, essential=True) == 2
    words = {"read_only": "Read-only file system", "broken": "Input/output error"}
    assert told == [f"the audit stream cannot be written: {words[fault]}", None]
    assert bench.events == ["start", "outcome", "stop"]
    assert not verify([bench.directory]).bad


async def test_a_new_chain_that_cannot_begin_is_tried_again_and_leaves_nothing_behind(bench: Bench) -> None:
    async with bench.journal(patience=60) as journal:
        await journal.write(read(1))
        lost = journal.head
        bench.files[0].unlink()
        bench.disk.full = 100
        for n in range(3):
            with pytest.raises(JournalUnavailable):
                await journal.write(read(n))
        assert list(bench.directory.iterdir()) == []
        bench.disk.full = None
        await journal.write(read(4))
        assert [each["chain"] for each in bench.records[0]["chains"]] == [lost.chain]


@pytest.mark.parametrize("tail", [b"{", b'{"v":1,"chain":"x"', b"\x00" * 5000], ids=["brace", "half a record", "NULs"])
async def test_half_a_line_of_a_dead_process_is_named_and_then_accepted(bench: Bench, tail: bytes) -> None:
    async with bench.journal() as journal:
        await journal.write(read(1))
    (dead,) = bench.files
    size = dead.stat().st_size
    with dead.open("ab") as file:
        file.write(tail)
    assert verify([bench.directory]).bad[0].what == "torn"
    async with bench.journal():
        pass
    async with bench.journal():
        pass
    start = [line for line in bench.files[1].read_bytes().splitlines() if b'"start"' in line]
    assert b'"torn":[{"file":"%s","offset":%d,"length":%d}]' % (dead.name.encode(), size, len(tail)) in start[0]
    report = verify([bench.directory])
    assert [chain.torn for chain in report.chains if isinstance(chain, Sound)] == [len(tail), 0, 0]
    # It is accepted as it was named, not as more, nor as less.
    with dead.open("ab") as file:
        file.write(b"x")
    assert verify([bench.directory]).bad[0].what == "torn"


async def test_a_damaged_last_record_is_not_passed_off_as_torn(bench: Bench) -> None:
    async with bench.journal() as journal:
        await journal.write(read(1))
    (dead,) = bench.files
    dead.write_bytes(dead.read_bytes().replace(b'"event":"stop"', b'"event":"step"'))
    async with bench.journal():
        pass
    (bad,) = verify([bench.directory]).bad
    assert (bad.seq, bad.what) == (3, "edited")


async def test_what_a_living_process_is_writing_is_not_called_torn(bench: Bench) -> None:
    async with bench.journal() as journal:
        segment = journal._writer._segment
        assert segment is not None
        os.write(segment._fd, b'{"half')
        async with bench.journal():
            pass
    newer = bench.files[1].read_bytes().splitlines()
    assert b'"torn":[]' in newer[0]


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings

async def main():
    settings = JournalSettings(ChainSettings(Path(sys.argv[1])))
    journal = await Journal.open(settings, clock=lambda: datetime.now(UTC))
    while True:
        numbers = await asyncio.gather(*(journal.write({"event": "read"}) for _ in range(50)))
        print(max(numbers), flush=True)

asyncio.run(main())
"""


async def test_a_killed_process_has_lost_nothing_that_it_was_told_is_durable(bench: Bench) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(bench.directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(5):
        await process.stdout.readline()
    process.kill()
    told = [int(line) for line in (await process.stdout.read()).splitlines()]
    await process.wait()
    async with bench.journal() as journal:
        assert journal.healthy
    report = verify([bench.directory])
    assert not report.bad
    assert max(chain.records for chain in report.chains) >= max([251, *told])


async def test_a_file_torn_in_its_very_first_line_is_accepted_too(bench: Bench) -> None:
    async with bench.journal():
        pass
    (bench.directory / "20261122T115959Z-aaaaaaaa.000001.jsonl").write_bytes(b'{"v":1,')
    async with bench.journal():
        pass
    assert not verify([bench.directory]).bad


async def test_an_empty_file_and_strange_records_do_not_stop_a_start(bench: Bench) -> None:
    bench.directory.mkdir()
    (bench.directory / "empty.jsonl").touch()
    (bench.directory / "strange.jsonl").write_bytes(b"x" * 200_000 + b"\n" + b"y" * 70_000)
    async with bench.journal():
        pass
    start = next(record for record in map(str, bench.files[0].read_bytes().splitlines()))
    assert '"length":70000' in start
    assert '"offset":200001' in start


async def test_a_folder_that_cannot_be_used_is_told_when_opening(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()
    with pytest.raises(JournalUnavailable, match="File exists"):
        await Journal.open(JournalSettings(ChainSettings(tmp_path / "audit")), clock=Bench(tmp_path).clock)


async def test_a_fault_without_words_of_the_operating_system_is_told_by_its_kind(bench: Bench) -> None:
    async with bench.journal(patience=60) as journal:
        bench.disk.free = None  # type: ignore[assignment] # a fault that nobody foresaw
        with pytest.raises(JournalUnavailable, match="TypeError"):
            await journal.write(read(1))
        bench.disk.free = 10**12
        assert await journal.write(read(1)) == 2


def test_a_segment_that_cannot_be_named_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        Segment(tmp_path, "a.jsonl", put=os.write, sync=os.fdatasync)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


async def test_the_real_disk_is_asked_for_its_free_space(bench: Bench) -> None:
    settings = JournalSettings(ChainSettings(bench.directory), reserve=1)
    journal = await Journal.open(settings, clock=bench.clock)
    assert await journal.write(read(1)) == 2
    await journal.close()
    assert Platform().free_bytes(bench.directory) > 0
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        Platform().free_bytes(bench.directory / "nowhere")
