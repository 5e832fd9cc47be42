"""What the gateway promises about its speed, as ratios within one run, each with what was found."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.speed.findings import Findings, Latency, Reload

MB_PER_MIB = 1.048576
LATENCY_RATE = 200.0
STALLS = {2_000: (1.0, 20.0), 20_000: (10.0, 50.0)}
"""Grants: seconds to be in force, milliseconds of stall."""
LEAST_OVERHEAD = 0.1
"""Milliseconds; less is noise, and a ratio to it would say nothing."""
MOST_GRANTS, FEWEST_GRANTS = 100_000, 10


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise. `found` and `limit` have the same unit; None where nothing was measured."""

    what: str
    found: float | None
    limit: float
    unit: str = "×"
    digits: int = 2
    promised: bool = True
    """Otherwise it is only shown: a stricter comparison than the promise."""
    alone: float | None = None
    """The same of aiohttp and PyJWT alone: what no gateway on these libraries can be below."""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.found is None:
            return "not measured"
        if not self.promised:
            return "below" if self.found <= self.limit else "above"
        return "met" if self.found <= self.limit else "**missed**"

    def text(self) -> str:
        """What was found, for people."""
        return "–" if self.found is None else self._written(self.found)

    def floor(self) -> str:
        """What the libraries alone reach, for people."""
        return "" if self.alone is None else self._written(self.alone)

    def _written(self, value: float) -> str:
        if math.isinf(value):
            return "cannot keep up"
        return f"{value:,.{self.digits}f}{'' if self.unit == '×' else ' '}{self.unit}"


def bars(found: Findings) -> list[Bar]:
    """Every promise."""
    return [*_work(found), *_latency(found), *_grants(found), *_life(found)]


def missed(found: Findings) -> list[Bar]:
    """Those that were measured and do not hold."""
    return [bar for bar in bars(found) if bar.promised and bar.found is not None and bar.found > bar.limit]


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _work(found: Findings) -> Iterator[Bar]:
    cancel, alone = (found.cpu(name, "cancel") for name in ("gateway", "bare"))
    for peer, limit, words, promised in (
        ("njs", 0.9, "nginx + njs with its access log", True),
        ("njs-cache", 0.9, "nginx + njs that also remembers proven tokens", False),
        ("fastify-durable", 1.0, "Fastify that waits for fdatasync", True),
        ("fastify", 1.0, "Fastify with a buffered log", False),
        ("fastapi", 0.15, "FastAPI + httpx", True),
        ("bare", 1.0, "aiohttp and PyJWT alone, which do nothing else", False),
    ):
        cost = found.cpu(peer, "cancel")
        what = f"1. CPU per durable, audited cancel, to {words}: at most {limit}×"
        yield Bar(what, _ratio(cancel, cost), limit, promised=promised, alone=_ratio(alone, cost))
    hello = found.cpu("hello", "hello")
    refusal, alone = (_ratio(found.cpu(name, "refusal"), hello) for name in ("gateway", "bare"))
    what = "1. CPU per refusal without an upstream call, to an aiohttp hello: at most 3×"
    yield Bar(what, refusal, 3.0, alone=alone)


def _latency(found: Findings) -> Iterator[Bar]:
    at = {each.contender: each for each in found.latency if (each.scenario, each.rate) == ("cancel", LATENCY_RATE)}
    direct, gateway, njs, bare = (at.get(name) for name in ("direct", "gateway", "njs", "bare"))
    more, ratio = _beside(gateway, njs, direct)
    if direct and njs and not gateway and found.work:
        more = ratio = math.inf  # It cannot answer that many.
    least_more, least_ratio = _beside(bare, njs, direct)
    where = "cancels at 200/s, upstream of 50 ms"
    yield Bar(f"2. {where}: p50 at most 1 ms above nginx + njs", more, 1.0, "ms", alone=least_more)
    what = f"2. {where}: p99 added over direct, to that of nginx + njs: at most 2×"
    yield Bar(what, ratio, 2.0, alone=least_ratio)


def _beside(one: Latency | None, other: Latency | None, direct: Latency | None) -> tuple[float | None, float | None]:
    """How much longer one takes than another, and what it adds to direct requests, to what the other adds."""
    if one is None or other is None or direct is None:
        return None, None
    return one.p50 - other.p50, _overhead(one, direct) / max(LEAST_OVERHEAD, _overhead(other, direct))


def _overhead(one: Latency, direct: Latency) -> float:
    return one.p99 - direct.p99


def _grants(found: Findings) -> Iterator[Bar]:
    cost = {each.grants: each.few.median for each in found.decisions}
    ratio = _ratio(cost.get(MOST_GRANTS), cost.get(FEWEST_GRANTS))
    yield Bar("3. a decision with 100,000 grants in memory, to one with 10: at most 1.05×", ratio, 1.05, digits=3)
    at: dict[int, Reload] = {each.grants: each for each in found.reloads}
    for grants, (seconds, stall) in STALLS.items():
        one = at.get(grants)
        took = one.seconds.median if one else None
        stalled = one.stall.median if one else None
        yield Bar(f"3. {grants:,} grants, from file change to in force: at most {seconds:.0f} s", took, seconds, "s")
        yield Bar(f"3. {grants:,} grants, longest answer meanwhile: at most {stall:.0f} ms", stalled, stall, "ms", 1)


def _life(found: Findings) -> Iterator[Bar]:
    two, apart, one_worker = (found.cpu(name, "cancel") for name in ("gateway-2", "gateway-apart", "gateway"))
    yield Bar("4. CPU per cancel with two workers, to one: at most 1.1×", _ratio(two, one_worker), 1.1)
    what = "4. the same with two gateways that share the machine and nothing else: at most 1.1×"
    yield Bar(what, _ratio(apart, one_worker), 1.1, promised=False)
    one = next((each for each in found.starts if each.workers == 1), None)
    started = one.seconds.median if one else None
    idle = max((each.idle for each in found.starts), default=None)
    yield Bar("5. cold start to ready: at most 1 s", started, 1.0, "s")
    yield Bar("5. idle, per worker: at most 90 MB", None if idle is None else idle * MB_PER_MIB, 90.0, "MB", 0)
