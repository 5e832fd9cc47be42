"""The gateway on an audit disk that does as a file says: `slow SECONDS`, `hang`, `errno NUMBER`, or nothing unusual."""

import functools
import os
import sys
import time
from pathlib import Path

from gateway.cli.main import main
from gateway.storage import journal
from gateway.storage.journal_chain import Platform


def suffer(switch: Path) -> None:
    """Do to the caller what the switch says."""
    fault, _, value = switch.read_text(encoding="ascii").partition(" ")
    if fault == "slow":
        time.sleep(float(value))
    elif fault == "errno":
        raise OSError(int(value), os.strerror(int(value)))
    while fault == "hang":
        time.sleep(0.02)
        fault = switch.read_text(encoding="ascii")


def sync(switch: Path, fd: int) -> None:
    """Sync, or not."""
    suffer(switch)
    os.fdatasync(fd)


if __name__ == "__main__":
    faulty = Platform(sync=functools.partial(sync, Path(sys.argv.pop(1))))
    journal.Platform = lambda: faulty  # type: ignore[assignment, misc, attr-defined] # no other way in
    main()
