"""Finds records in an audit folder, the newest first and in bounded pieces: what a request left, and what came last."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.domain.chain import Record, open_line
from gateway.storage.chain_tails import blocks_backwards, opened
from gateway.storage.growth import segments
from gateway.storage.journal_records import stamp

MOST: Final = 200
"""Records that one search gives."""
BYTES: Final = 512 * 1024 * 1024
SECONDS: Final = 5.0
"""What one search may read, and how long it may take; then it says where it stopped."""
RECENT_BYTES: Final = 1024 * 1024
RECENT_FILES: Final = 16
"""How much of the end of each file is looked at for what came last, and of how many files."""
BACK: Final = timedelta(hours=1)
"""How long before the first record of a request, by the clocks of its writers, another one of it may stand."""

_TIME: Final = re.compile(rb'"time":"([^"\\]+)"')
_ENDS: Final = frozenset({"outcome", "task-resolved", "replayed"})
"""Events that never begin what is known of a request."""

Wanted = Callable[[Record], bool]
Marks = Sequence[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Found:
    """The records that name an id, the oldest first, and how far the search went."""

    records: tuple[Record, ...]
    looked_at: int = 0
    """Bytes."""
    back_to: str | None = None
    """The time of the oldest record looked at."""
    stopped_after: str | None = None
    """The file after which it stopped looking; None: there was no reason to look any further."""
    damaged: int = 0
    """Lines that name the id and do not hold against their own hash."""
    cut: bool = False
    """There are more than one search gives."""


@dataclass(slots=True)
class _Search:
    id: str
    until: float
    records: list[Record] = field(default_factory=list)
    looked_at: int = 0
    oldest: str | None = None
    damaged: int = 0
    begun: str | None = None
    """Before this time nothing more of the request can be found."""

    @property
    def spent(self) -> bool:
        return self.looked_at >= BYTES or len(self.records) >= MOST or time.monotonic() >= self.until

    def look(self, path: Path) -> None:
        """Look through one file, from its end as far back as need be."""
        with opened(path) as fd:
            for block in blocks_backwards(fd):
                self.looked_at += len(block)
                if (first := _TIME.search(block)) is not None:
                    told = first[1].decode(errors="replace")
                    self.oldest = min(self.oldest or told, told)
                    self._take(block)
                    if self.begun is not None and told < self.begun:
                        return
                if len(self.records) >= MOST:
                    return

    def _take(self, block: bytes) -> None:
        needle, end = f'"{self.id}"'.encode(), len(block)
        while len(self.records) < MOST and (place := block.rfind(needle, 0, end)) >= 0:
            begin = block.rfind(b"\n", 0, place) + 1
            record = open_line(block[begin : block.find(b"\n", place) + 1])
            end = begin
            if not isinstance(record, dict):
                self.damaged += 1
            elif self.id in {record.get("request_id"), record.get("task"), record.get("correlation_id")}:
                self.records.append(record)
                if _begins(record, self.id):
                    self.begun = _earlier(str(record["time"]))


def find(directory: Path, id_: str, after: str = "") -> Found:
    """Find the records of a request by its id, of a write by its Task's, or by a correlation id. Raises OSError.

    `after` goes on where an earlier search stopped.
    """
    search = _Search(id_, time.monotonic() + SECONDS)
    files = _newest_first(directory)
    if after:
        names = [path.name for _, path in files]
        files = files[names.index(after) + 1 :] if after in names else []
    stopped = None
    for touched, path in files:
        if search.begun is not None and touched < search.begun:
            stopped = None
            break
        if search.spent:
            break
        # Old files are removed while others are read.
        with suppress(FileNotFoundError):
            search.look(path)
        stopped = path.name
    else:
        stopped = None
    told = tuple(sorted(search.records, key=lambda record: (record["time"], record["seq"])))
    return Found(told, search.looked_at, search.oldest, stopped, search.damaged, len(told) >= MOST)


def recent(directory: Path, wanted: Wanted, count: int, marks: Marks = ()) -> list[Record]:
    """Give the last records that are wanted, the oldest first, as far as a bounded look finds them. Raises OSError.

    A line that lacks all of a group of `marks` is passed over without being read.
    """
    found: list[Record] = []
    for _, path in _newest_first(directory)[:RECENT_FILES]:
        with suppress(FileNotFoundError):
            found += _last_of(path, wanted, count, marks)
    found.sort(key=lambda record: str(record["time"]))
    return found[-count:]


def _last_of(path: Path, wanted: Wanted, count: int, marks: Marks) -> list[Record]:
    kept: list[Record] = []
    read = 0
    with opened(path) as fd:
        for block in blocks_backwards(fd):
            for line in reversed(block.splitlines(keepends=True)):
                if not all(any(mark in line for mark in group) for group in marks):
                    continue
                record = open_line(line)
                if isinstance(record, dict) and wanted(record):
                    kept.append(record)
                if len(kept) >= count:
                    return kept
            read += len(block)
            if read >= RECENT_BYTES:
                return kept
    return kept


def _newest_first(directory: Path) -> list[tuple[str, Path]]:
    """Name the files with the time of their last change."""
    files = [(told.st_mtime, name) for name, told in segments(directory)]
    return [
        (stamp(datetime.fromtimestamp(at).astimezone()), directory / name) for at, name in sorted(files, reverse=True)
    ]


def _begins(record: Record, id_: str) -> bool:
    if record.get("event") in _ENDS:
        return False
    return record.get("request_id") == id_ or (record.get("event") == "intent" and record.get("task") == id_)


def _earlier(at: str) -> str:
    try:
        return stamp(datetime.fromisoformat(at) - BACK)
    except (ValueError, OverflowError):
        return ""
