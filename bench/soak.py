"""Mixed traffic for minutes while everything around it changes: python -m bench.soak [--minutes 10] [--rate 30].

Every second the grants file is replaced, every few seconds a partner's key, our own key and what fails at PKB. Then:
what has grown, whether every chain verifies, whether every intent has one final outcome.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence

from bench.load.chores import Chores
from bench.load.place import Setting, Vitals, Watch, port_of, seeded, setting, wrong_answers
from bench.load.plan import Plan, Run
from bench.load.report import Report, slope, told
from tests.journeys.processes import Place

MEMORY, FILES, THREADS = 2.0, 1.0, 0.5
"""Growth a minute that is still none: MiB, files, threads. Measured over the second half of the run."""

SETTLED = 90.0
"""Seconds in which the last unknown outcomes must have been found out; `write_settles_after` is 30."""

DOCUMENTED = {
    *("502 upstream-refused", "502 upstream-invalid", "503 upstream-unavailable", "503 overloaded"),
    *("504 upstream-timeout", "504 outcome-unknown"),
}
"""What may be answered while PKB fails; every other 5xx, and no answer at all, is a finding."""


async def measure(minutes: float, rate: float) -> Report:
    """Measure."""
    report = Report(f"Soak: {minutes:g} minutes at {rate:g} requests a second")
    async with setting() as at:
        seeds = [await seeded(at.client, customer, 300) for customer in ("airedale", "bradford", "leeds")]
        targets = [target for group in zip(*seeds, strict=True) for target in group]
        chores = Chores(at.client, at.place)
        working, watch = asyncio.create_task(chores.run()), Watch(at.place.pid)
        run = await at.run(Plan("soak", port_of(at.place), minutes * 60, targets, rate=rate))
        seen = await watch.stop()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await at.client.clear()
        report.phase("soak", run, **{"RSS MiB": round(seen[-1].rss)})
        judge_growth(report, seen)
        judge_answers(report, run)
        done = f"{chores.reloads} reloads, {chores.partner_keys} + {chores.own_keys} keys, {chores.faults} faults"
        trouble = "; ".join(chores.trouble[:3])
        report.demand("reloads, keys and faults come and go", trouble or done, holds=not trouble)
        await judge_end(report, at)
    return report


def judge_growth(report: Report, seen: Sequence[Vitals]) -> None:
    """Nothing may grow but by chance."""
    half = seen[len(seen) // 2 :]
    for what, values, most in (
        ("memory, MiB", [each.rss for each in half], MEMORY),
        ("open files", [float(each.files) for each in half], FILES),
        ("threads", [float(each.threads) for each in half], THREADS),
    ):
        grown = 60 * slope(values)
        found = f"{grown:+.2f} a minute, {values[0]:.0f} to {values[-1]:.0f}"
        report.demand(f"{what}: less than {most} more a minute", found, holds=grown < most)


def judge_answers(report: Report, run: Run) -> None:
    """Only what is documented may be answered."""
    strange = {
        answer: count
        for answer, count in told(run.samples).items()
        if answer.startswith(("5", "0")) and answer not in DOCUMENTED
    }
    report.demand("no 5xx but those documented for a failing PKB", str(strange or "none"), holds=not strange)


async def judge_end(report: Report, at: Setting) -> None:
    """Hold the audit against PKB once nothing is open any more."""
    left = await settled(at)
    report.demand("nothing is under way and nothing stays open", str(left), holds=not any(left.values()))
    records = await asyncio.to_thread(at.place.records)
    intents = {(each["chain"], each["seq"]) for each in records if each["event"] == "intent"}
    finals = Counter(
        (each["chain"], each["intent"]) for each in records if each["event"] == "outcome" and each["final"]
    )
    odd = [intent for intent in intents | set(finals) if finals[intent] != 1]
    report.demand(f"each of {len(intents)} intents has one final outcome", f"{len(odd)} have not", holds=not odd)
    messages = len(await at.client.writes())
    report.demand("PKB saw no more messages than intents", str(messages), holds=messages <= len(intents))
    wrong = await wrong_answers(at.client, at.generations)
    report.demand("every answer agrees with PKB", ", ".join(wrong[:3]) or "all do", holds=not wrong)
    status, words = await verified(at.place)
    report.demand("every chain verifies", words, holds=status == 0)


async def settled(at: Setting) -> dict[str, int]:
    """Wait for the end of what is open; what is left then."""
    until = time.monotonic() + SETTLED
    while True:
        async with at.client.session.get(f"{at.place.admin_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        left = {name: int(float(values[f"pkb_gateway_{name}"])) for name in ("open_writes", "in_flight")}
        if not any(left.values()) or time.monotonic() > until:
            return left
        await asyncio.sleep(1)


async def verified(place: Place) -> tuple[int, str]:
    """Run `audit verify` on what was recorded."""
    keys = place.directory / "keys" / "audit.jwks.json"
    command = [sys.executable, "-m", "gateway", "audit", "verify", str(place.audit), "--keys", str(keys)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    out, _ = await process.communicate()
    return process.returncode or 0, json.dumps(" ".join(out.decode().split())[-120:])


def main() -> None:
    """Measure, print, and end with 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second")
    given = parser.parse_args()
    sys.exit(asyncio.run(measure(given.minutes, given.rate)).end())


if __name__ == "__main__":
    main()
