"""The course of a run: what is measured, in which order, for how long."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.speed import gateways, peers, tools
from bench.speed.bars import missed
from bench.speed.contender import Contender, Scenario
from bench.speed.decisions import costs
from bench.speed.facts import Clock, machine
from bench.speed.findings import Findings
from bench.speed.harness import Ended
from bench.speed.latency import DIRECT, latencies
from bench.speed.lives import starts
from bench.speed.profiling import profile
from bench.speed.records import left_on_disk
from bench.speed.reloads import reload
from bench.speed.work import Bench, WrongAnswer

CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        gateways.ONE,
        gateways.TWO,
        gateways.APART,
        peers.NJS,
        peers.REMEMBERING,
        peers.FASTIFY,
        peers.DURABLE,
        peers.FASTAPI,
        peers.BARE,
        peers.PROXY,
        peers.HELLO,
    )
}
COMPARED = ("gateway", "njs", "njs-cache", "fastify-durable", "fastapi", "bare")
"""Whose latency is measured."""
RATES = (10.0, 100.0, 1000.0)
SPARE = 1.2
"""A rate is asked of a server only if it has been seen to answer so many times as much."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How long everything takes."""

    rounds: int
    seconds: float
    """Of one contender at one scenario in one round."""
    latency_rounds: int
    latency_seconds: float
    latency_rates: tuple[tuple[Scenario, float], ...]
    starts: int
    grants: tuple[int, ...]
    changes: int
    decision_rounds: int
    profiled: int


FULL = Extent(
    rounds=5,
    seconds=1.0,
    latency_rounds=3,
    latency_seconds=5.0,
    latency_rates=((Scenario.CANCEL, 50.0), (Scenario.CANCEL, 200.0), (Scenario.READ, 200.0)),
    starts=5,
    grants=(10, 2_000, 5_000, 20_000),
    changes=3,
    decision_rounds=25,
    profiled=600,
)
QUICK = Extent(
    rounds=3,
    seconds=0.5,
    latency_rounds=2,
    latency_seconds=2.0,
    latency_rates=((Scenario.CANCEL, 200.0),),
    starts=2,
    grants=(10, 2_000),
    changes=2,
    decision_rounds=9,
    profiled=300,
)


def part(
    at: Bench, extent: Extent, chosen: Sequence[Contender], scenarios: Sequence[Scenario], *, profiled: bool
) -> Findings:
    """Processor time and throughput of some."""
    found = Findings(titles=_titles())
    found.work = at.measure(
        _that_run(found, chosen), scenarios, extent.rounds, extent.seconds, lambda why: _skip(found, why)
    )
    found.durable = _durable(found)
    if profiled:
        found.profile = profile(at, extent.profiled)
    return found


def whole(at: Bench, extent: Extent, scratch: Path, python: str) -> Findings:
    """Everything. `python` says which one this is, and why."""
    found, clock = Findings(machine(scratch, python), _titles()), Clock()
    chosen = _that_run(found, list(CONTENDERS.values()))

    def work() -> None:
        found.work = at.measure(chosen, list(Scenario), extent.rounds, extent.seconds, lambda why: _skip(found, why))
        found.durable = _durable(found)

    def latency() -> None:
        compared = [each for each in chosen if each.name in COMPARED]
        for scenario, rate in extent.latency_rates:
            able = [each for each in compared if _able(found, each.name, scenario, rate)]
            found.latency += latencies(
                at,
                able,
                (scenario, rate),
                extent.latency_rounds,
                extent.latency_seconds,
                lambda why: _skip(found, why),
            )

    def lives() -> None:
        found.starts = starts(at, [(1, gateways.ONE), (2, gateways.TWO)], extent.starts)

    def changes() -> None:
        for grants in extent.grants:
            found.reloads.append(reload(at, grants, extent.changes))

    def decisions() -> None:
        found.decisions = costs(extent.decision_rounds)

    def records() -> None:
        asked = [(Scenario.CANCEL, rate) for rate in RATES if _able(found, "gateway", Scenario.CANCEL, rate)]
        others = [(each, RATES[1]) for each in (Scenario.READ, Scenario.REFUSAL, Scenario.TOKEN)]
        found.records = left_on_disk(at, [*asked, *others], lambda why: _skip(found, why))

    def profiled() -> None:
        if any("per durable, audited cancel" in bar.what for bar in missed(found)):
            found.profile = profile(at, extent.profiled)

    for step in (work, latency, lives, changes, decisions, records, profiled):
        _try(found, step)
    found.facts |= clock.facts()
    return found


def _try(found: Findings, step: Callable[[], None]) -> None:
    print(f"{step.__name__} ...", file=sys.stderr, flush=True)
    try:
        step()
    except (tools.Unavailable, WrongAnswer, Ended, TimeoutError) as error:
        _skip(found, f"{step.__name__}: {error}")


def _skip(found: Findings, why: str) -> None:
    print(f"SKIPPED: {why}", file=sys.stderr, flush=True)
    found.skipped.append(why)


def _that_run(found: Findings, chosen: Sequence[Contender]) -> list[Contender]:
    """Those whose programs are there, or can be put there."""
    usable = []
    for each in chosen:
        try:
            each.needs()
        except tools.Unavailable as error:
            _skip(found, f"{each.title}: there is no {error}")
        else:
            usable.append(each)
    return usable


def _able(found: Findings, name: str, scenario: Scenario, rate: float) -> bool:
    rates = [each.rate.median for each in found.work if (each.contender, each.scenario) == (name, scenario)]
    if rates and rates[0] < SPARE * rate:
        _skip(found, f"{CONTENDERS[name].title}, {scenario} at {rate:.0f}/s: it answers {rates[0]:.0f}/s at most")
        return False
    return True


def _durable(found: Findings) -> list[str]:
    names = {each.contender for each in found.work}
    return [each.title for name, each in CONTENDERS.items() if name in names and each.durable]


def _titles() -> dict[str, str]:
    return {each.name: each.title for each in (*CONTENDERS.values(), DIRECT)}
