"""How fast is it, next to others doing the same work? python -m bench.speed [--quick] [--only NAME] [--scenario NAME].

Prints a report in Markdown and writes it, and the same as JSON, to .bench/. With --only or --scenario it measures
processor time and throughput of these alone.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.speed import course, document
from bench.speed.bars import missed
from bench.speed.contender import Scenario, Setting
from bench.speed.findings import Findings
from bench.speed.harness import Cores, driver, upstream
from bench.speed.interpreters import OWN, chosen, environment, programs
from bench.speed.keys import TokenKey
from bench.speed.report import markdown
from bench.speed.tools import Unavailable
from bench.speed.work import Bench

OUT = Path(".bench")
SCRATCH = OUT / "runs"
"""On the disk of the checkout: a temporary folder may lie in memory, where `fdatasync` costs nothing."""


@contextmanager
def bench(cores: Cores) -> Iterator[Bench]:
    """Everything but the contenders."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as name:
        folder = Path(name).resolve()
        keys = TokenKey.made(folder)
        with upstream(cores.others, folder) as stub, driver(cores.others, folder) as load:
            yield Bench(Setting(folder, stub, keys, cores), load, keys.token())


def measured(given: argparse.Namespace) -> Findings:
    """What the command line asks for."""
    if given.report is not None:
        return Findings.read(json.loads(given.report.read_text(encoding="utf-8")))
    extent = course.QUICK if given.quick else course.FULL
    with bench(Cores.apart() if given.pin else Cores.shared()) as at:
        if given.only or given.scenario or given.profile:
            names, scenarios = given.only or list(course.CONTENDERS), given.scenario or list(Scenario)
            chosen = [course.CONTENDERS[name] for name in names]
            return course.part(at, extent, chosen, [Scenario(name) for name in scenarios], profiled=given.profile)
        return course.whole(at, extent, SCRATCH, given.because)


def settle(wanted: str | None) -> str:
    """Give why this Python is the one to run on, or begin anew on the one that is. Raises Unavailable."""
    choice = chosen(wanted, programs(os.environ.get("PATH", os.defpath)), environment)
    print(f"Python {choice.why}", file=sys.stderr, flush=True)
    if choice.program != Path(sys.executable):
        os.execv(choice.program, [choice.program, "-m", "bench.speed", *sys.argv[1:], "--because", choice.why])
    return choice.why


def main() -> int:
    """Measure, print, and end with 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes, and wider spread")
    parser.add_argument("--only", action="append", choices=course.CONTENDERS, help="a contender; may be repeated")
    parser.add_argument("--scenario", action="append", choices=list(Scenario), help="may be repeated")
    parser.add_argument("--profile", action="store_true", help="also where the gateway's time goes")
    parser.add_argument("--pin", action="store_true", help="the last processor is for stub and driver alone")
    parser.add_argument(
        "--python", metavar="PROGRAM", help=f"run on this Python; '{OWN}': the checkout's; else on the fastest"
    )
    parser.add_argument("--because", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing, report an earlier run's JSON")
    parser.add_argument("--write-docs", action="store_true", help="put the figures into docs/performance.md")
    given = parser.parse_args()
    if given.report is None and given.because is None:
        try:
            given.because = settle(given.python)
        except Unavailable as error:
            parser.error(str(error))
    found = measured(given)
    text = markdown(found)
    print(text)
    OUT.mkdir(exist_ok=True)
    (OUT / "speed.md").write_text(text, encoding="utf-8")
    (OUT / "speed.json").write_text(json.dumps(found.told(), indent=1), encoding="utf-8")
    if given.write_docs:
        document.write(found)
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
