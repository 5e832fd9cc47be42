"""Where the gateway's own processor time goes: one worker under a profiler, while it cancels."""

import io
import pstats
import re
import sys
from pathlib import Path

from bench.speed.contender import Scenario
from bench.speed.gateways import ONE, serving
from bench.speed.work import Bench

LINES = 30
_FOLDERS = re.compile(r"\S*/(?=(?:gateway|site-packages|python3\.\d+|asyncio)/)")


def profile(bench: Bench, cancels: int) -> str:
    """The functions in which most time is spent, by their own time."""
    out = bench.setting.folder / "gateway.profile"
    command = (sys.executable, "-m", "bench.speed.profiled", str(out))
    with serving(bench.setting, workers=1, program=command) as running:
        bench.run((ONE, Scenario.CANCEL), running, cancels)
    return _read(out)


def _read(out: Path) -> str:
    text = io.StringIO()
    pstats.Stats(str(out), stream=text).sort_stats("tottime").print_stats(LINES)
    lines = [_FOLDERS.sub("", line).rstrip() for line in text.getvalue().splitlines()]
    start = next(number for number, line in enumerate(lines) if "tottime" in line)
    return "\n".join(line for line in lines[start:] if line)
