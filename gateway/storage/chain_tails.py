"""Reads what dead processes left in an audit folder: did they intend a write, and is its end on record?

A line counts only if it is whole and holds against its own hash, so damage is never taken for a record. That keeps
nobody from forging one who may write to the folder: the hash has no key. `audit verify` finds him, not this.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.domain.chain import Record, open_line
from gateway.flow.chains import Told
from gateway.flow.ports import JournalUnavailable
from gateway.storage.journal_files import SEGMENT_NAME, SUFFIX, is_alive
from gateway.storage.journal_records import LINE_BYTES, stamp

BACK: Final = timedelta(minutes=15)
"""How long before the last record of a chain an intent may be that still waited when its writer died."""
AT_LEAST: Final = 1024 * 1024
"""Bytes of a tail that are read in any case: a clock that was set forward makes what came before look old."""
_SET_BACK: Final = timedelta(days=1)
"""By how much a clock may have been set back between an intent and its end in another chain."""
_BLOCK: Final = 256 * 1024
_TRIES: Final = 3
"""How often a folder is looked at anew of which a file was removed meanwhile, after its time."""

_TASK: Final = re.compile(rb'"task":"([^"\\]+)"')
_TIME: Final = re.compile(rb'"time":"([^"\\]+)"')

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ChainFolder:
    """The chains of one audit folder, which lies on a disk of this machine: locks tell who lives."""

    directory: Path
    back: timedelta = BACK

    def is_dead(self, chain: str) -> bool:
        """Whether the chain lies in this folder and nobody writes it any more. False where that cannot be known."""
        try:
            last = self._last(chain)
            while last is not None:
                if _locked(last):
                    return False
                # A writer names and locks its next file before it lets go of this one.
                newest = self._last(chain)
                if newest == last:
                    return True
                last = newest
        except OSError:
            return False
        return False

    async def told(self, chain: str, task: str) -> Told | None:
        """Say what a chain tells of a write; None where the chain is not in this folder.

        Reads from the end back to the intent, the whole chain where there is none. Raises JournalUnavailable.
        """
        return await _reading(lambda: self._told(chain, task))

    async def open_intents(self) -> Sequence[Mapping[str, Any]]:
        """Give the intents without a final outcome in any chain that dead processes left, oldest chain first.

        Chains that end with a `stop` record are passed over: what was open then is in the request store. Raises
        JournalUnavailable.
        """
        return await _reading(self._open_intents)

    async def final_anywhere(self, task: str) -> str | None:
        """Give the word of a write's final outcome, in whichever chain it stands. Raises JournalUnavailable.

        Reads the whole folder where there is none.
        """
        ends = await _reading(lambda: self._finals({task: ""}))
        return ends.get(task)

    def _told(self, chain: str, task: str) -> Told | None:
        segments = self._chains().get(chain)
        if segments is None:
            return None
        last, ended = Record(), False
        for path in reversed(segments):
            with opened(path) as fd:
                # What a killed process wrote may not be on the disk yet, and is about to be relied upon.
                os.fsync(fd)
                for record in _mentions(fd, {task}):
                    match record:
                        case {"chain": str(of), "event": "outcome", "outcome": str()} if of == chain:
                            last = last or record
                            ended = ended or record.get("final") is True
                        case {"chain": str(of), "event": "intent", "seq": int(seq)} if of == chain:
                            return _told(seq, last, ended=ended)
        return _told(None, last, ended=ended)

    def _open_intents(self) -> list[Record]:
        found = {
            str(intent["task"]): intent
            for chain, segments in self._chains().items()
            if not _stopped(segments[-1]) and self.is_dead(chain)
            for intent in self._left(chain, segments)
        }
        ends = self._finals({task: intent["time"] for task, intent in found.items()})
        return [intent for task, intent in found.items() if task not in ends]

    def _left(self, chain: str, segments: Sequence[Path]) -> list[Record]:
        """Find the intents of a chain's tail whose end is not in that tail."""
        ended: set[str] = set()
        left: list[Record] = []
        for line in _tail(segments, self.back):
            task = _TASK.search(line)
            if task is None or not (b'"event":"intent"' in line or b'"event":"outcome"' in line):
                continue
            name = task[1].decode(errors="replace")
            if b'"event":"intent"' in line and name in ended:
                ended.discard(name)
                continue
            record = open_line(line)
            if not isinstance(record, dict) or record.get("chain") != chain:
                continue
            match record:
                case {"event": "intent"}:
                    left.append(record)
                case {"event": "outcome", "final": True}:
                    ended.add(name)
        return left[::-1]

    def _finals(self, since: Mapping[str, str]) -> dict[str, str]:
        """Find final outcomes of writes; what was last written to before the time of their intents is passed over."""
        wanted, ends = dict(since), dict[str, str]()
        for path, touched in self._by_age() if wanted else ():
            asked = {task for task, at in wanted.items() if at <= touched}
            if not asked:
                continue
            with opened(path) as fd:
                for record in _mentions(fd, asked):
                    match record:
                        case {"event": "outcome", "final": True, "task": str(task), "outcome": str(word)}:
                            os.fsync(fd)
                            ends.setdefault(task, word)
                            wanted.pop(task, None)
        return ends

    def _by_age(self) -> list[tuple[Path, str]]:
        """Name the files, the one first that was left alone longest, and until when they may have been written to.

        The end of a write most often stands in the first file that was written to after its intent.
        """
        files = sorted((path.stat().st_mtime, path) for path in self.directory.glob(f"*{SUFFIX}"))
        return [(path, stamp(datetime.fromtimestamp(at).astimezone() + _SET_BACK)) for at, path in files]

    def _last(self, chain: str) -> Path | None:
        names = (path.name for path in self.directory.iterdir() if path.name.startswith(f"{chain}."))
        found = max(filter(None, map(SEGMENT_NAME.fullmatch, names)), key=_number, default=None)
        return None if found is None else self.directory / found[0]

    def _chains(self) -> dict[str, list[Path]]:
        """List the files of every chain, oldest first."""
        named = filter(None, (SEGMENT_NAME.fullmatch(path.name) for path in self.directory.iterdir()))
        chains: dict[str, list[Path]] = {}
        for match in sorted(named, key=lambda match: (match["chain"], _number(match))):
            chains.setdefault(match["chain"], []).append(self.directory / match[0])
        return chains


def _told(intent: int | None, last: Record, *, ended: bool) -> Told:
    upstream = last.get("upstream") or {}
    return Told(intent, last.get("outcome"), ended, last.get("code"), upstream.get("version_after"))


async def _reading(read: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(_while_files_go, read)
    except (OSError, _LineTooLong) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JournalUnavailable(f"the audit folder cannot be read: {reason}") from error


def _while_files_go(read: Callable[[], _T]) -> _T:
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            return read()
    return read()


class _LineTooLong(Exception):
    """No record is that long; where the lines begin cannot be told."""


def _number(name: re.Match[str]) -> int:
    return int(name["number"])


def _locked(path: Path) -> bool:
    with opened(path) as fd:
        return is_alive(fd)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading, never through a link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def _stopped(path: Path) -> bool:
    """Whether the last record, checkpoints aside, says that the writer stopped in order."""
    with opened(path) as fd:
        for block in blocks_backwards(fd):
            for line in reversed(block.splitlines(keepends=True)):
                match open_line(line):
                    case {"event": "checkpoint"}:
                        pass
                    case record:
                        return isinstance(record, dict) and record.get("event") == "stop"
    return False


def _tail(segments: Sequence[Path], back: timedelta) -> Iterator[bytes]:
    """Give the lines of a chain from its end until they are `back` older than its last, and some more."""
    read, oldest = 0, ""
    for path in reversed(segments):
        with opened(path) as fd:
            for block in blocks_backwards(fd):
                yield from reversed(block.splitlines(keepends=True))
                read += len(block)
                times = _TIME.findall(block)
                if times and not oldest:
                    oldest = _earlier(times[-1], back)
                if read >= AT_LEAST and times and times[0].decode() < oldest:
                    return


def _earlier(time: bytes, by: timedelta) -> str:
    try:
        return stamp(datetime.fromisoformat(time.decode()) - by)
    except (ValueError, OverflowError):
        return ""


def _mentions(fd: int, tasks: set[str]) -> Iterator[Record]:
    """Give the records that name one of these Tasks, the last first."""
    wanted = {task.encode() for task in tasks}
    for block in blocks_backwards(fd):
        end = len(block)
        for found in reversed(list(_TASK.finditer(block))):
            if found[1] not in wanted or found.start() >= end:
                continue
            begin = block.rfind(b"\n", 0, found.start()) + 1
            record = open_line(block[begin : block.find(b"\n", found.end()) + 1])
            end = begin
            if isinstance(record, dict) and record.get("task") in tasks:
                yield record


def blocks_backwards(fd: int) -> Iterator[bytes]:
    """Give a file from its end in pieces of whole lines; half a line at its end is left out."""
    end = whole_lines(fd)
    held = b""
    while end > 0:
        begin = max(0, end - _BLOCK)
        data = os.pread(fd, end - begin, begin) + held
        cut = 0 if begin == 0 else data.find(b"\n", 0, len(data) - 1) + 1
        if begin == 0 or cut:
            yield data[cut:]
        held = data if begin and not cut else data[:cut]
        if len(held) > LINE_BYTES:
            raise _LineTooLong("a line longer than any record")
        end = begin


def whole_lines(fd: int) -> int:
    """Tell how many bytes of a file are whole lines."""
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
