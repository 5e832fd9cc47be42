"""One customer's PKB hangs; what do the others notice? python -m bench.neighbour [--seconds 10] [--rounds 3].

Rounds with and without the hang take turns, so that whatever else the machine does touches both.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bench.load.place import port_of, seeded, setting, wrong_answers
from bench.load.plan import Plan, Run, Sample
from bench.load.report import Report, p99

HUNG = "leeds"
OTHERS = ("airedale", "bradford")
WORSE = 1.5
FEW = 0.001
"""A share of failures that is one request of a thousand either way."""


async def measure(seconds: float, rounds: int, rate: float) -> Report:
    """Measure; a third of the `rate` goes to each customer."""
    report = Report(f"Noisy neighbour: the box of {HUNG} takes requests and does not answer")
    async with setting() as at:
        seeds = [await seeded(at.client, customer, 200) for customer in (HUNG, *OTHERS)]
        targets = [target for group in zip(*seeds, strict=True) for target in group]

        async def run(name: str, length: float) -> list[Sample]:
            done = await at.run(Plan(name, port_of(at.place), length, targets, rate=rate, seed=rounds))
            others = [each for each in done.samples if each.customer in OTHERS]
            report.phase(name, Run(done.plan, others, done.late, length))
            return others

        await run("warm-up", 3)
        quiet: list[Sample] = []
        noisy: list[Sample] = []
        for number in range(rounds):
            quiet += await run(f"without-{number}", seconds)
            await at.client.fault("delay", 60_000, customer=HUNG, on="any")
            noisy += await run(f"hanging-{number}", seconds)
            await at.client.clear()
        judge(report, quiet, noisy)
        wrong = await wrong_answers(at.client, at.generations)
        report.demand("every answer agrees with PKB", ", ".join(wrong[:3]) or "all do", holds=not wrong)
    return report


def judge(report: Report, quiet: Sequence[Sample], noisy: Sequence[Sample]) -> None:
    """Hold the others' answers with the hang against those without."""
    report.demand(
        f"p99 of the others at most {WORSE} times that without the hang ({p99(quiet):.0f} ms)",
        f"{p99(noisy):.0f} ms",
        holds=p99(noisy) <= WORSE * p99(quiet),
    )
    failed, usual = (sum(not each.good for each in samples) / len(samples) for samples in (noisy, quiet))
    report.demand(
        f"failures of the others at most {WORSE} times those without the hang ({usual:.2%})",
        f"{failed:.2%}",
        holds=failed <= max(WORSE * usual, FEW),
    )


def main() -> None:
    """Measure, print, and end with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second, for three customers together")
    given = parser.parse_args()
    sys.exit(asyncio.run(measure(given.seconds, given.rounds, given.rate)).end())


if __name__ == "__main__":
    main()
