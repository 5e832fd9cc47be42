"""What a request leaves on disk: bytes of audit, and how often the disk was waited for, at several rates."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.speed.contender import Running, Scenario
from bench.speed.findings import Records
from bench.speed.gateways import ONE, serving
from bench.speed.processes import written_bytes
from bench.speed.tools import Unavailable
from bench.speed.work import Bench, WrongAnswer

SOURCE = Path(__file__).with_name("syncs.c")
SECONDS = 4.0
FEWEST = 60


def left_on_disk(
    bench: Bench, asked: Sequence[tuple[Scenario, float]], leave_out: Callable[[str], None]
) -> list[Records]:
    """Measure one worker at each; `leave_out` hears of those at which it did not answer as it must.

    Raises Unavailable where there is no C compiler to make the counter with.
    """
    found = []
    library, counter = compiled(bench.setting.folder), bench.setting.folder / "syncs"
    counter.write_bytes(bytes(8))
    environment = {"LD_PRELOAD": str(library), "SYNCS_FILE": str(counter)}
    with serving(bench.setting, workers=1, environment=environment) as running:
        bench.run((ONE, Scenario.CANCEL), running, FEWEST)
        for scenario, rate in asked:
            try:
                found.append(_at(bench, running, counter, scenario, rate))
            except WrongAnswer as error:
                leave_out(f"what a request leaves on disk, at {rate:.0f}/s: {error}")
    return found


def _at(bench: Bench, running: Running, counter: Path, scenario: Scenario, rate: float) -> Records:
    count = max(FEWEST, round(rate * SECONDS))
    audit, syncs, written = _size(running.folder / "audit"), counted(counter), written_bytes(running.pid)
    bench.run((ONE, scenario), running, count, rate=rate)
    time.sleep(0.2)  # What follows an answer has its time too.
    found = Records(
        scenario,
        rate,
        (_size(running.folder / "audit") - audit) / count,
        (counted(counter) - syncs) / count,
        (written_bytes(running.pid) - written) / count,
    )
    print(f"{scenario} at {rate:.0f}/s: {found.syncs:.2f} syncs, {found.audit_bytes:.0f} bytes", file=sys.stderr)
    return found


def compiled(folder: Path) -> Path:
    """The counter, as a library that can be preloaded. Raises Unavailable."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unavailable("a C compiler, to count what is put safely on disk")
    library = folder / "syncs.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{Path(compiler).name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return library


def counted(counter: Path) -> int:
    """What it has counted so far."""
    return int.from_bytes(counter.read_bytes(), sys.byteorder)


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in os.scandir(folder) if each.name.endswith(".jsonl"))
