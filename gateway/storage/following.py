"""Reads an audit folder as it grows."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.storage.journal_records import LINE_BYTES
from gateway.storage.verification import audit_files

Ends = dict[Path, int]
"""How far each file was read, in bytes."""
_INTERVAL: Final = 0.2


def last_lines(path: Path, count: int, wanted: Callable[[bytes], bool] = lambda _: True) -> tuple[list[bytes], Ends]:
    """Give the last whole lines that are wanted of a file, or of a folder in the order of its files.

    Raises Unreadable.
    """
    lines: deque[bytes] = deque(maxlen=count)
    ends: Ends = {}
    lines.extend(filter(wanted, _new_lines(path, ends)))
    return list(lines), ends


def follow(path: Path, ends: Ends, pause: Callable[[float], None]) -> Iterator[bytes]:
    """Give every whole line beyond `ends` as it is added, in new files too; never ends. Raises Unreadable."""
    while True:
        yield from _new_lines(path, ends)
        pause(_INTERVAL)


def _new_lines(path: Path, ends: Ends) -> Iterator[bytes]:
    for each in audit_files([path]):
        try:
            file = each.open("rb")
        except FileNotFoundError:
            # Removed just now, after its time.
            continue
        with file:
            file.seek(ends.setdefault(each, 0))
            while (line := file.readline(LINE_BYTES)).endswith(b"\n"):
                ends[each] += len(line)
                yield line
