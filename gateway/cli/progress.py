"""A bar for work that takes long: on a terminal only, and on standard error, so that results stay clean."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn


@contextmanager
def progress(what: str, files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """Show how much of these files is done; call what it gives with every so many bytes. Raises OSError."""
    size = sum(path.stat().st_size for path in files)
    with Progress(
        what, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True,
        # A bar that draws itself has a thread, and a process with threads must not fork.
        auto_refresh=False,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=size)

        def advance(done: int) -> None:
            bar.advance(task, done)
            bar.refresh()

        yield advance
