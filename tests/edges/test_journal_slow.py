"""What the journal does on a disk that takes seconds, or does not answer at all."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.flow.ports import JournalUnavailable
from gateway.storage.journal import Journal
from gateway.storage.verification import verify
from tests.edges.journal_bench import Bench, eventually

SILENT = "the audit stream cannot be written: the disk does not answer"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "audit")


@asynccontextmanager
async def hanging(bench: Bench, **settings: Any) -> AsyncIterator[Journal]:
    """A journal whose disk hangs until it is let go; it does so at the end in any case."""
    async with bench.journal(**{"wait": 0.4, "patience": 60, **settings}) as journal:
        bench.disk.hanging.clear()
        try:
            yield journal
        finally:
            bench.disk.hanging.set()


async def in_hand(bench: Bench, journal: Journal, record: dict[str, object], **how: Any) -> asyncio.Task[int]:
    """Hand in a record and see to it that the disk has it."""
    asked = bench.disk.asked
    writing = asyncio.create_task(journal.write(record, **how))
    await eventually(lambda: bench.disk.asked > asked)
    return writing


async def test_a_slow_disk_is_waited_for_while_everything_else_goes_on(bench: Bench) -> None:
    async with hanging(bench, wait=10) as journal:
        asyncio.get_running_loop().call_later(0.4, bench.disk.hanging.set)
        gaps, before = list[float](), time.monotonic()
        writing = asyncio.gather(*(journal.write({"event": "read", "appointment": str(n)}) for n in range(50)))
        while not writing.done():
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - before)
            before = now
        assert sorted(writing.result()) == list(range(2, 52))
        assert len(gaps) >= 20
        assert max(gaps) < 0.2
    # All who came while the disk was busy share the next sync.
    assert bench.disk.asked <= 4


@pytest.mark.parametrize("event", ["read", "search", "refused", "token-issued", "authentication-refused"])
async def test_an_answer_is_not_held_up_for_longer_and_may_be_on_record_later(bench: Bench, event: str) -> None:
    async with hanging(bench) as journal:
        writing = await in_hand(bench, journal, {"event": event})
        with pytest.raises(JournalUnavailable, match=SILENT):
            await writing
    assert bench.events == ["start", event, "stop"]


@pytest.mark.parametrize("event", ["intent", "outcome", "task-resolved", "blocked"])
async def test_what_must_be_known_to_be_there_or_not_is_waited_for_once_it_is_in_hand(bench: Bench, event: str) -> None:
    async with hanging(bench) as journal:
        writing = await in_hand(bench, journal, {"event": event})
        await asyncio.sleep(0.8)
        assert not writing.done()
        bench.disk.hanging.set()
        assert await writing == 2


async def test_what_is_not_in_hand_yet_is_withdrawn_and_never_written(bench: Bench) -> None:
    async with hanging(bench) as journal:
        first = await in_hand(bench, journal, {"event": "intent", "task": "t1"})
        with pytest.raises(JournalUnavailable, match=SILENT):
            await journal.write({"event": "outcome", "task": "t0"}, essential=True)
        bench.disk.hanging.set()
        assert await first == 2
        assert await journal.write({"event": "outcome", "task": "t0"}, essential=True) == 3
    assert [record["task"] for record in bench.records] == [None, "t1", "t0", None]
    assert not verify([bench.directory]).bad


async def test_while_the_disk_does_not_answer_nothing_new_waits_for_it(bench: Bench) -> None:
    told: list[str | None] = []
    async with hanging(bench, alarm=told.append, patience=0.02) as journal:
        first = await in_hand(bench, journal, {"event": "intent"})
        await eventually(lambda: not journal.healthy)
        assert journal.trouble == SILENT
        begun = time.monotonic()
        for event in ("intent", "read"):
            with pytest.raises(JournalUnavailable, match=SILENT):
                await journal.write({"event": event})
        assert time.monotonic() - begun < 0.1
        await eventually(lambda: told == [SILENT])
        bench.disk.hanging.set()
        assert await first == 2
        await eventually(lambda: journal.healthy)
        await eventually(lambda: told == [SILENT, None])
        assert await journal.write({"event": "read"}) == 3
    assert bench.events == ["start", "intent", "read", "stop"]


async def test_a_caller_that_went_away_leaves_its_record(bench: Bench) -> None:
    async with hanging(bench) as journal:
        writing = await in_hand(bench, journal, {"event": "intent"})
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert bench.events == ["start", "intent", "stop"]
