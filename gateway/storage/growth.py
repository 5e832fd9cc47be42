"""What is added to an audit folder from now on, whoever writes it: all workers, and the command line."""

import os
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Final

from gateway.domain.chain import Record, open_line
from gateway.storage.chain_tails import opened, whole_lines
from gateway.storage.journal_files import SUFFIX
from gateway.storage.journal_records import LINE_BYTES

AT_ONCE: Final = 2 * 1024 * 1024
"""Bytes of one file that one look takes in; of what is beyond only the end is looked at."""
CLOSED_AFTER: Final = 2 * 86_400.0
"""Seconds after which nothing is added to a file any more: a chain begins a new one each day."""


def segments(directory: Path, without: Container[str] = ()) -> Iterator[tuple[str, os.stat_result]]:
    """Name the files of an audit folder, but for some, with what the system says of them. Raises OSError."""
    with os.scandir(directory) as entries:
        for each in entries:
            if each.name.endswith(SUFFIX) and each.name not in without:
                with suppress(FileNotFoundError):
                    yield each.name, each.stat(follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class News:
    """The whole records that came since the last look, in the order of their times."""

    records: tuple[Record, ...]
    passed_over: int = 0
    """Bytes that came too fast to be looked at."""


@dataclass(slots=True)
class Growth:
    """Looks at a folder again and again; for one thread at a time. Methods raise OSError."""

    directory: Path
    _ends: dict[str, int] = field(default_factory=dict)
    _closed: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Take what is there now for known."""
        for name, size, touched in self._files():
            if touched < time() - CLOSED_AFTER:
                self._closed.add(name)
            elif size:
                with suppress(FileNotFoundError), opened(self.directory / name) as fd:
                    self._ends[name] = whole_lines(fd)

    def news(self) -> News:
        """Give what is new."""
        records: list[Record] = []
        passed_over = 0
        for name, size, _ in self._files():
            end = self._ends.get(name, 0)
            # A file that is removed meanwhile was not one that grew.
            with suppress(FileNotFoundError):
                if size > end + AT_ONCE:
                    # More came than anybody could read; its end is what is of interest.
                    end, skipped = self._skip(name, end, size - AT_ONCE)
                    passed_over += skipped
                if size > end:
                    records += self._read(name, end, size)
        records.sort(key=lambda record: str(record["time"]))
        return News(tuple(records), passed_over)

    def _files(self) -> list[tuple[str, int, float]]:
        """Name the files that may still grow, with size and time of the last change."""
        return [(name, told.st_size, told.st_mtime) for name, told in segments(self.directory, self._closed)]

    def _skip(self, name: str, end: int, to: int) -> tuple[int, int]:
        with opened(self.directory / name) as fd:
            cut = os.pread(fd, LINE_BYTES, to).find(b"\n")
        beyond = to + cut + 1 if cut >= 0 else end
        return beyond, beyond - end

    def _read(self, name: str, end: int, size: int) -> list[Record]:
        with opened(self.directory / name) as fd:
            data = os.pread(fd, size - end, end)
        whole = data.rfind(b"\n") + 1
        self._ends[name] = end + whole
        lines = data[:whole].splitlines(keepends=True)
        return [record for line in lines if isinstance(record := open_line(line), dict)]
