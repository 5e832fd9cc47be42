"""The files of the audit stream: one open segment, and what a folder of old ones holds."""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.domain.chain import Record, open_line
from gateway.storage.journal_records import LINE_BYTES

SUFFIX: Final = ".jsonl"
SEGMENT_NAME: Final = re.compile(r"(?P<chain>[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8,})\.(?P<number>[0-9]{6,})\.jsonl")
_WINDOW: Final = 64 * 1024

Put = Callable[[int, bytes], int]
Sync = Callable[[int], None]


class Segment:
    """One file of a chain, append only, mode 0600, locked for as long as its writer lives.

    Every method raises OSError. After one, only `heal` may follow: half a line is never continued.
    """

    def __init__(self, directory: Path, name: str, *, put: Put, sync: Sync) -> None:
        self.path = directory / name
        self.durable = 0
        self._put = put
        self._sync = sync
        # It gets its name once it is locked, so that nobody takes it for the file of a dead writer.
        unnamed = directory / f".{name}.new"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._fd = os.open(unnamed, flags, 0o600)
        try:
            os.fchmod(self._fd, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(self.path)
            sync_directory(directory)
            own = os.fstat(self._fd)
            self._own = own.st_dev, own.st_ino
        except OSError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                unnamed.unlink()
            raise

    def append(self, data: bytes) -> None:
        """Write whole lines and wait until they would survive a power cut."""
        left = memoryview(data)
        while left:
            left = left[self._put(self._fd, bytes(left)) :]
        self._sync(self._fd)
        self.durable += len(data)

    def heal(self) -> None:
        """Take away what was written but never became durable."""
        os.ftruncate(self._fd, self.durable)
        self._sync(self._fd)

    def gone(self) -> bool:
        """Whether the file is no longer in its place: removed or moved away, alone or with its folder."""
        try:
            there = self.path.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
        return (there.st_dev, there.st_ino) != self._own

    def close(self) -> None:
        """Let go of file and lock."""
        os.close(self._fd)


def prepare(directory: Path) -> None:
    """Make the folder, mode 0700, where there is none. Raises OSError."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)


def segment_name(chain: str, number: int) -> str:
    """Name the file of a chain's segment, counted from 1."""
    return f"{chain}.{number:06d}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain."""

    chain: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Torn:
    """Half a line that a dead writer left at the end of a file. Offset and length in bytes."""

    file: str
    offset: int
    length: int


def survey(directory: Path) -> tuple[list[Head], list[Torn]]:
    """Find the last record of every chain of a folder, and its torn tails. Raises OSError.

    What is found is made durable first: a later reader must not miss what a start record names.
    """
    heads: dict[str, Head] = {}
    torn: list[Torn] = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            # Removed just now, after its time, by another process.
            continue
        try:
            os.fsync(fd)
            alive = is_alive(fd)
            head, tail = _end_of(fd, path.name)
        finally:
            os.close(fd)
        if head is not None and (head.chain not in heads or heads[head.chain].seq < head.seq):
            heads[head.chain] = head
        if tail is not None and not alive:
            torn.append(tail)
    return list(heads.values()), torn


def is_alive(fd: int) -> bool:
    """Whether somebody holds the lock of an open segment: its writer lives."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _end_of(fd: int, name: str) -> tuple[Head | None, Torn | None]:
    size = os.fstat(fd).st_size
    head: Head | None = None
    whole = size
    for offset, line in _lines_backwards(fd, size):
        if not line.endswith(b"\n"):
            whole = offset
            continue
        record = open_line(line)
        if isinstance(record, dict):
            head = _head(record)
            break
    return head, Torn(name, whole, size - whole) if whole < size else None


def last_record(fd: int) -> Record | None:
    """Give the last record of a file that holds."""
    for _, line in _lines_backwards(fd, os.fstat(fd).st_size):
        record = open_line(line)
        if isinstance(record, dict):
            return record
    return None


def _head(record: Record) -> Head | None:
    match record:
        case {"chain": str(chain), "seq": int(seq), "hash": str(digest)}:
            return Head(chain, seq, digest)
    return None


def _lines_backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a file from its end, each with its offset, up to one that is too long for a record."""
    start = end = size
    held = b""
    while end > 0:
        cut = held.rfind(b"\n", 0, max(len(held) - 1, 0)) + 1
        if cut > 0 or start == 0:
            yield start + cut, held[cut:]
            held, end = held[:cut], start + cut
        elif len(held) > LINE_BYTES:
            return
        else:
            begin = max(0, start - max(_WINDOW, len(held)))
            held, start = os.pread(fd, start - begin, begin) + held, begin


def sync_directory(directory: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
