"""Every checkpoint goes to a second place too, and whatever becomes of that place keeps nobody waiting."""

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.chain import What
from gateway.storage.checkpoint_copy import CheckpointCopy
from gateway.storage.journal import Journal
from gateway.storage.verification import read_checkpoints, verify
from tests.edges.audit_folders import run
from tests.edges.journal_bench import SIGNER, Bench, eventually

KEYS = {SIGNER.kid: SIGNER.key.public_key()}


@dataclass
class Place:
    """A second place that can be full or hang, and what was said of it."""

    file: Path
    full: bool = False
    hanging: threading.Event = field(default_factory=threading.Event)
    told: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hanging.set()

    def put(self, fd: int, data: bytes) -> int:
        if self.full:
            os.write(fd, data[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        assert self.hanging.wait(20)
        os.fsync(fd)

    @asynccontextmanager
    async def copied(self, bench: Bench, **how: Any) -> AsyncIterator[tuple[Journal, CheckpointCopy]]:
        copy = CheckpointCopy(self.file, self.told.append, put=self.put, sync=self.sync, retry=0.05, **how)
        async with bench.journal(signer=SIGNER, chain={"checkpoint_records": 2}) as journal:
            journal.listen(copy.listen)
            yield journal, copy
        await copy.close()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_bytes().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "audit")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "elsewhere").mkdir()
    return Place(tmp_path / "elsewhere" / "checkpoints.jsonl")


async def reads(journal: Journal, count: int) -> None:
    for n in range(count):
        await journal.write({"event": "read", "appointment": str(n)})


async def test_every_checkpoint_is_there_as_it_stands_in_the_chain(bench: Bench, place: Place) -> None:
    async with place.copied(bench) as (journal, copy):
        await reads(journal, 5)
        assert copy.trouble is None
    signed = [each for each in bench.records if each["event"] == "checkpoint"]
    # The one at the start was written before anybody listened here.
    assert place.lines == signed[1:]
    assert len(signed) > 3
    assert place.file.stat().st_mode & 0o777 == 0o600
    assert place.told == []


async def test_several_processes_write_to_one_file(bench: Bench, place: Place, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    async with place.copied(bench) as (first, _), place.copied(other) as (second, _):
        await asyncio.gather(reads(first, 20), reads(second, 20))
    assert len(place.lines) > 20


def away(place: Place) -> Callable[[], None]:
    folder = place.file.parent
    moved = folder.rename(folder.with_name("away"))

    def again() -> None:
        moved.rename(folder)

    return again


def full(place: Place) -> Callable[[], None]:
    place.full = True

    def again() -> None:
        place.full = False

    return again


@pytest.mark.parametrize("break_it", [away, full])
async def test_a_place_that_fails_is_told_of_and_gets_all_of_them_later(
    bench: Bench, place: Place, break_it: Callable[[Place], Callable[[], None]]
) -> None:
    async with place.copied(bench) as (journal, copy):
        await reads(journal, 3)
        await eventually(place.file.exists)
        mend = break_it(place)
        await reads(journal, 4)
        await eventually(lambda: len(place.told) == 1)
        assert "second place" in str(copy.trouble)
        assert journal.healthy
        mend()
        await eventually(lambda: place.told[-1] is None)
        assert copy.trouble is None
    assert place.lines == [each for each in bench.records if each["event"] == "checkpoint"][1:]


async def test_a_place_that_hangs_holds_nobody_up(bench: Bench, place: Place) -> None:
    place.hanging.clear()
    async with place.copied(bench, late=0.1) as (journal, copy):
        began = time.monotonic()
        await reads(journal, 20)
        await eventually(lambda: copy.trouble is not None)
        assert "does not answer" in str(copy.trouble)
        assert time.monotonic() - began < 5
        await reads(journal, 1)
        assert len(place.told) == 1
        place.hanging.set()
        await eventually(lambda: place.told[-1] is None)


async def test_half_a_line_of_a_dead_process_is_taken_away(bench: Bench, place: Place) -> None:
    place.file.write_bytes(b'{"chain":"c","seq":1,"prev":"0"}\n{"chain":"c","s')
    async with place.copied(bench) as (journal, _):
        await reads(journal, 2)
    assert [each["chain"] for each in place.lines][:2] == ["c", journal.chain]


async def test_a_file_of_half_a_line_is_begun_anew(bench: Bench, place: Place) -> None:
    place.file.write_bytes(b'{"chain":"c","s')
    async with place.copied(bench) as (journal, _):
        await reads(journal, 2)
    assert {each["chain"] for each in place.lines} == {journal.chain}


async def test_a_file_with_many_checkpoints_shows_a_cut_tail_and_a_missing_chain(bench: Bench, place: Place) -> None:
    for _ in range(2):
        async with place.copied(bench) as (journal, _):
            await reads(journal, 6)
    jwks = bench.directory.with_name("keys.json")
    x = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    jwks.write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": SIGNER.kid, "x": x}]}))
    assert run(bench.directory, "--keys", jwks, "--checkpoint", place.file).exit_code == 0
    _, second = bench.files
    lines = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(b"".join(lines[:-2]))
    cut = run(bench.directory, "--keys", jwks, "--checkpoint", place.file)
    assert (cut.exit_code, "cut tail" in cut.output) == (1, True)
    second.unlink()
    known = read_checkpoints(place.file, KEYS)
    assert [bad.what for bad in verify([bench.directory], keys=KEYS, checkpoints=known).bad] == [What.MISSING_CHAIN]


def test_half_a_line_at_the_end_of_the_checkpoints_is_passed_over(tmp_path: Path) -> None:
    line = b'{"chain":"c","seq":3,"prev":"0"}\n'
    (tmp_path / "kept").write_bytes(line + line[:9])
    assert [each.seq for each in read_checkpoints(tmp_path / "kept")["c"]] == [3]
