"""From nothing to ready, and what is held while nothing is asked."""

import compileall
import sysconfig
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.speed.contender import Contender
from bench.speed.figures import Figure
from bench.speed.findings import Start
from bench.speed.processes import memory, resident, tree
from bench.speed.turns import in_turns
from bench.speed.work import Bench

IDLE_SECONDS = 3.0
COMPILED = (str(Path(__file__).parents[2] / "gateway"), sysconfig.get_path("purelib"))
"""What pip compiles when it installs a gateway; a checkout may be without."""


def starts(bench: Bench, contenders: Sequence[tuple[int, Contender]], rounds: int) -> list[Start]:
    """Start each so many times. Every start has a new folder: keys, state and audit are made anew."""
    for folder in COMPILED:
        compileall.compile_dir(folder, quiet=2)
    seconds: dict[int, list[float]] = defaultdict(list)
    held: dict[int, tuple[float, float]] = {}
    for workers, contender in in_turns(contenders, rounds):
        with contender.start(bench.setting) as running:
            seconds[workers].append(running.started_after)
            if len(seconds[workers]) == rounds:
                time.sleep(IDLE_SECONDS)
                processes = tree(running.pid)
                # With several workers the first process is the one that watches over them.
                serving = processes if workers == 1 else processes[1:]
                held[workers] = (max(map(resident, serving)), memory(running.pid).pss / workers)
    return [Start(workers, Figure.of(each), *held[workers]) for workers, each in seconds.items()]
