"""The lines of audit files, one after the other, for whoever reads all of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.storage.journal_records import LINE_BYTES

Advance = Callable[[int], None]
"""Hears how many more bytes are done."""
_STEP: Final = 1024 * 1024
"""Bytes between two steps of a progress bar."""


def audit_lines(files: Sequence[Path], advance: Advance = lambda _: None) -> Iterator[tuple[Path, int, bytes]]:
    """Give file, line number from 1, and line, in constant memory. Raises OSError."""
    for path in files:
        with path.open("rb") as file:
            done = 0
            for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
                done += len(line)
                if done >= _STEP:
                    advance(done)
                    done = 0
                yield path, number, line
            advance(done)
