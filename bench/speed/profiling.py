"""Where the gateway's own processor time goes: one worker under a profiler, while it cancels."""

import io
import os
import pstats
import re
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.speed.contender import Scenario
from bench.speed.gateways import ONE, serving
from bench.speed.processes import threads_seconds
from bench.speed.work import Bench

WARM = 200
LINES = 25
_FOLDERS = re.compile(r"\S*/(?=(?:gateway|site-packages|python3\.\d+|asyncio)/)")
_PARTS = (
    (re.compile(r"/gateway/(\w+)/"), "gateway/{}"),
    (re.compile(r"/site-packages/(\w+)"), "{}"),
    (re.compile(r"/python3\.\d+/(\w+)"), "Python's {}"),
)
_BUILT_IN = "~"
_Function = tuple[str, int, str]


def profile(bench: Bench, cancels: int) -> str:
    """What of it each part of the program takes, and the functions in which most is spent."""
    out = bench.setting.folder / "gateway.profile"
    command = (sys.executable, "-m", "bench.speed.profiled", str(out))
    with serving(bench.setting, workers=1, program=command) as running:
        bench.run((ONE, Scenario.CANCEL), running, WARM)
        before = threads_seconds(running.pid)
        bench.run((ONE, Scenario.CANCEL), running, cancels)
        main, others = (now - then for now, then in zip(threads_seconds(running.pid), before, strict=True))
        os.kill(running.pid, signal.SIGUSR1)
        bench.run((ONE, Scenario.CANCEL), running, cancels)
        os.kill(running.pid, signal.SIGUSR2)
    # The file is whole once the process has ended.
    stats: Any = pstats.Stats(str(out))
    head = (
        f"processor time of a cancel, without the profiler: {1e6 * main / cancels:,.0f} µs in the main thread, "
        f"{1e6 * others / cancels:,.0f} µs in those that wait for the disk\n"
        f"calls of functions in the main thread: {stats.total_calls / cancels:,.0f} a cancel"
    )
    shares = "\n".join(f"{100 * share:6.1f} %  {part}" for part, share in _shares(stats) if share >= 0.01)
    return f"{head}\n\n{shares}\n\n{_slowest(out)}"


def _shares(stats: Any) -> list[tuple[str, float]]:
    """Own time by part of the program, the largest first; what is built into Python counts for who calls it."""
    spent: dict[str, float] = defaultdict(float)
    for function, (_, _, own, _, callers) in stats.stats.items():
        if function[0] != _BUILT_IN or not callers:
            spent[_part(function)] += own
            continue
        for caller, (_, _, own_for_caller, _) in callers.items():
            spent[_part(caller)] += own_for_caller
    total = sum(spent.values())
    return sorted(((part, own / total) for part, own in spent.items()), key=lambda each: -each[1])


def _part(function: _Function) -> str:
    for pattern, name in _PARTS:
        if found := pattern.search(function[0]):
            return name.format(found[1])
    return "built into Python"


def _slowest(out: Path) -> str:
    text = io.StringIO()
    pstats.Stats(str(out), stream=text).sort_stats("tottime").print_stats(LINES)
    lines = [_FOLDERS.sub("", line).rstrip() for line in text.getvalue().splitlines()]
    start = next(number for number, line in enumerate(lines) if "tottime" in line)
    return "\n".join(line for line in lines[start:] if line)
