"""Removes what is older than the audit is to be kept: whole files that nobody writes, each on record before it goes."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.domain.chain import Record, open_line
from gateway.domain.chain_check import removals
from gateway.storage.audit_lines import audit_lines
from gateway.storage.journal_files import SEGMENT_NAME, SUFFIX, is_alive, last_record, sync_directory
from gateway.storage.journal_records import LINE_BYTES

LOCK: Final = ".removal.lock"
_AT_ONCE: Final = 200
"""Files told of in one record."""
_PATIENCE: Final = 180.0
"""Seconds to wait for the signature over the record. A checkpoint comes every minute."""


class Ledger(Protocol):
    """The journal that a removal is recorded in."""

    @property
    def chain(self) -> str:
        """The chain that is written now."""
        ...

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        """Make a record durable. Raises JournalUnavailable."""
        ...

    def listen(self, listener: Callable[[tuple[bytes, ...]], None]) -> Callable[[], None]:
        """Hear of every line once it is durable."""
        ...


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    chain: str
    first: int
    last: int
    hash: str
    time: str
    ends: bool
    """Whether its chain ends with it: it is the last one, and nobody writes it any more."""

    def as_record(self) -> Record:
        name = self.path.name
        return {
            "file": name,
            "chain": self.chain,
            "first": self.first,
            "last": self.last,
            "hash": self.hash,
            "ends": self.ends,
        }


class AuditRetention:
    """Keeps an audit folder to what is younger than `keep`. `signed`: whether the journal signs checkpoints.

    Several processes may do so in one folder: one at a time has the lock, and finds nothing left to do after another.
    Whoever dies between record and removal leaves files that the next one records again, and removes.
    """

    def __init__(
        self,
        directory: Path,
        keep: timedelta,
        journal: Ledger,
        clock: Callable[[], datetime],
        *,
        signed: bool,
        patience: float = _PATIENCE,
    ) -> None:
        self._directory = directory
        self._keep = keep
        self._journal = journal
        self._clock = clock
        self._signed = signed
        self._patience = patience

    async def clean(self) -> int:
        """Remove what is too old; gives the number of files. Raises JournalUnavailable and OSError."""
        with _locked(self._directory) as got:
            if not got:
                return 0
            old = await asyncio.to_thread(old_files, self._directory, self._clock() - self._keep)
            removed = 0
            for begin in range(0, len(old), _AT_ONCE):
                removed += await self._remove(old[begin : begin + _AT_ONCE])
            return removed

    async def _remove(self, files: Sequence[_File]) -> int:
        repeated = await asyncio.to_thread(still_needed, self._directory, [each.path for each in files])
        with self._signature() as signed:
            stated = [*repeated, *(each.as_record() for each in files)]
            number = await self._journal.write({"event": "segments-removed", "removed": stated}, essential=True)
            if not await signed(number):
                return 0
        await asyncio.to_thread(_unlink, self._directory, [each.path for each in files])
        return len(files)

    @contextmanager
    def _signature(self) -> Iterator[Callable[[int], Any]]:
        """Wait for the checkpoint after a record: until then nobody can tell it from one that was forged."""
        heard, news = {"seq": 0}, asyncio.Event()
        chain = self._journal.chain

        def listen(lines: tuple[bytes, ...]) -> None:
            for line in lines:
                match open_line(line) if b'"event":"checkpoint"' in line else None:
                    case {"chain": str(of), "seq": int(seq)} if of == chain:
                        heard["seq"] = seq
                        news.set()

        async def signed(number: int) -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    while self._signed and heard["seq"] <= number:
                        await news.wait()
                        news.clear()
            return not self._signed or heard["seq"] > number

        deaf = self._journal.listen(listen)
        try:
            yield signed
        finally:
            deaf()


@contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def old_files(directory: Path, before: datetime) -> list[_File]:
    """Find what may go, oldest first: of every chain the files from its first one on whose last record is too old.

    A file that somebody writes stays, and so does all that comes after one whose records cannot be read.
    """
    found: list[_File] = []
    for segments in _chains(directory).values():
        for path in segments:
            file = _looked_at(path, last=path == segments[-1])
            if file is None or datetime.fromisoformat(file.time) >= before:
                break
            found.append(file)
    # A writer names and locks its next file before it lets go of one: was what we took for a chain's end one of these?
    now = {chain: segments[-1] for chain, segments in _chains(directory).items()}
    sure = [file for file in found if not file.ends or now.get(file.chain) == file.path]
    return sorted(sure, key=lambda file: (file.time, file.path.name))


def _chains(directory: Path) -> dict[str, list[Path]]:
    named = filter(None, (SEGMENT_NAME.fullmatch(path.name) for path in directory.iterdir()))
    chains: dict[str, list[Path]] = {}
    for match in sorted(named, key=lambda match: (match["chain"], int(match["number"]))):
        chains.setdefault(match["chain"], []).append(directory / match[0])
    return chains


def _looked_at(path: Path, *, last: bool) -> _File | None:
    with path.open("rb") as file:
        if is_alive(file.fileno()):
            return None
        first, end = open_line(file.readline(LINE_BYTES)), last_record(file.fileno())
    match first, end:
        case {"seq": int(begin)}, {"chain": str(chain), "seq": int(seq), "hash": str(digest), "time": str(time)}:
            return _File(path, chain, begin, seq, digest, time, last)
    return None


def still_needed(directory: Path, going: Sequence[Path]) -> list[Record]:
    """Give what the files that go say was removed before, as far as it is of chains that those which stay know."""
    stated = [
        each
        for _, _, line in audit_lines(going)
        if b'"event":"segments-removed"' in line and isinstance(record := open_line(line), dict)
        for each in record["removed"]
        if any(removals({**record, "removed": [each]}))
    ]
    if not stated:
        return []
    known: set[str] = set()
    for path in sorted(set(directory.glob(f"*{SUFFIX}")) - set(going)):
        match _first(path):
            case {"chain": str(chain), "event": "start", "chains": list(named)}:
                known |= {chain, *(each["chain"] for each in named)}
            case {"chain": str(chain)}:
                known.add(chain)
    # Of a chain the last word says it all: nothing of it is there any more.
    latest = {each["chain"]: each for each in sorted(stated, key=lambda each: int(each["last"]))}
    return [each for chain, each in latest.items() if chain in known]


def _first(path: Path) -> Record | object:
    with path.open("rb") as file:
        return open_line(file.readline(LINE_BYTES))


def _unlink(directory: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    sync_directory(directory)
