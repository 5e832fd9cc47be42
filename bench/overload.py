"""Three times more requests than the gateway can serve: python -m bench.overload [--seconds 60].

Capacity is what eight and sixteen callers get who ask one after the other; everything else is sent at random moments,
whether or not earlier requests were answered. Gateway, simulator and generator share this machine's processors.
"""

import argparse
import asyncio
import sys

from bench.load.place import Setting, Watch, port_of, seeded, setting, wrong_answers
from bench.load.plan import Plan, Run
from bench.load.report import Report, p99, told

GOODPUT, SLOWER, GROWTH, RECOVERY = 0.6, 2.0, 128.0, 5.0
"""Of capacity; times the p99 at 80 % load; MiB; seconds."""

FAULTS = {"500 internal", "0 closed", "0 reset", "0 no-answer"}


async def measure(seconds: float, appointments: int) -> Report:
    """Measure; `seconds` is the length of the overload."""
    report = Report(f"Overload: three times the capacity for {seconds:.0f} s")
    async with setting() as at:
        targets = [*await seeded(at.client, "airedale", appointments), *await seeded(at.client, "leeds", appointments)]

        async def run(name: str, length: float, rate: float = 0.0, workers: int = 0) -> Run:
            watch = Watch(at.place.pid)
            plan = Plan(name, port_of(at.place), length, targets, rate=rate, workers=workers)
            done = await at.run(plan)
            seen = await watch.stop()
            report.phase(name, done, **{"RSS MiB": round(max(each.rss for each in seen))})
            return done

        await run("warm-up", 3, workers=8)
        share = max(5.0, seconds / 6)
        tries = [await run(f"capacity-{count}", share, workers=count) for count in (8, 16)]
        capacity = max(sum(each.good for each in tried.samples) / tried.seconds for tried in tries)
        before = await run("load-80-before", seconds / 2, rate=0.8 * capacity)
        over = await run("overload", seconds, rate=3 * capacity)
        after = await run("load-80-after", max(seconds / 2, 2 * RECOVERY), rate=0.8 * capacity)
        judge(report, capacity, before, over, after)
        await judge_answers(report, at)
    return report


def judge(report: Report, capacity: float, before: Run, over: Run, after: Run) -> None:
    """Hold what was measured against the bar."""
    settled = [each for each in after.samples if each.due >= RECOVERY]
    normal = p99([*before.samples, *settled])
    goodput = sum(each.good for each in over.samples) / over.seconds
    report.demand(
        f"goodput at least {GOODPUT:.0%} of the capacity of {capacity:.0f}/s",
        f"{goodput:.0f}/s, {goodput / capacity:.0%}",
        holds=goodput >= GOODPUT * capacity,
    )
    report.demand(
        f"p99 of what was let in at most {SLOWER:.0f} times that at 80 % load ({normal:.0f} ms)",
        f"{p99(over.samples):.0f} ms",
        holds=p99(over.samples) <= SLOWER * normal,
    )
    report.demand(
        f"{RECOVERY:.0f} s later the p99 is back to normal (1.5 times the {p99(before.samples):.0f} ms before)",
        f"{p99(settled):.0f} ms",
        holds=p99(settled) <= 1.5 * p99(before.samples),
    )
    shed = sum(each.shed for each in before.samples) / len(before.samples)
    report.demand("at 80 % load at most 0.1 % is refused", f"{shed:.2%}", holds=shed <= 0.001)
    memory = {phase["phase"]: phase["RSS MiB"] for phase in report.phases}
    grown = memory["overload"] - memory["load-80-before"]
    report.demand(f"memory grows by less than {GROWTH:.0f} MiB", f"{grown} MiB", holds=grown < GROWTH)


async def judge_answers(report: Report, at: Setting) -> None:
    """No answer may be untrue, or missing."""
    wrong = await wrong_answers(at.client, at.generations)
    report.demand("every answer agrees with PKB", ", ".join(wrong[:3]) or "all do", holds=not wrong)
    answers = {answer for run in at.generations for answer in told(run.samples)}
    report.demand(
        "nothing fails and nothing stays without an answer",
        ", ".join(sorted(answers & FAULTS)) or "nothing",
        holds=not answers & FAULTS,
    )


def main() -> None:
    """Measure, print, and end with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--appointments", type=int, default=400, help="of each of two customers")
    given = parser.parse_args()
    sys.exit(asyncio.run(measure(given.seconds, given.appointments)).end())


if __name__ == "__main__":
    main()
