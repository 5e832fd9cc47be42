"""What /proc says of a process and everything it started."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_WRITTEN: Final = re.compile(r"^write_bytes: (\d+)$", re.MULTILINE)
_PSS: Final = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_RSS: Final = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB, of all processes of a tree together; `pss` counts a page that several share once."""

    rss: float
    pss: float


def tree(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    found = [pid]
    for each in found:
        for thread in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # A thread may end while it is looked at.
                found += [int(child) for child in thread.read_text(encoding="ascii").split()]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a tree, with that of descendants that have ended and were waited for."""
    return sum(_ticks(each) for each in tree(pid)) / _TICKS


def threads_seconds(pid: int) -> tuple[float, float]:
    """User and system time of one process: of its first thread, and of all others that live."""
    ticks = {task.name: _fields(task)[11:13] for task in Path(f"/proc/{pid}/task").iterdir()}
    first = sum(map(int, ticks.pop(str(pid))))
    return first / _TICKS, sum(int(each) for both in ticks.values() for each in both) / _TICKS


def _ticks(pid: int) -> int:
    return sum(int(each) for each in _fields(Path(f"/proc/{pid}"))[11:15])


def _fields(folder: Path) -> list[str]:
    return (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()


def resident(pid: int) -> float:
    """The resident set of one process, in MiB; cheap enough to be asked often. 0 for one that has ended meanwhile."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * _PAGE / 1024 / 1024


def written_bytes(pid: int) -> int:
    """What the processes of a tree had written to the disk."""
    texts = [Path(f"/proc/{each}/io").read_text(encoding="ascii") for each in tree(pid)]
    return sum(int(found[1]) for text in texts if (found := _WRITTEN.search(text)))


def memory(pid: int) -> Memory:
    """What a tree holds now."""
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii") for each in tree(pid)]
    rss, pss = (sum(int(found[1]) for text in texts if (found := size.search(text))) / 1024 for size in (_RSS, _PSS))
    return Memory(rss, pss)
