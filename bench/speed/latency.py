"""Latency at fixed open-loop rates: contenders in turns, and direct requests to the upstream among them."""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bench.speed.contender import Contender, Running, Scenario, Setting, upstream_steps
from bench.speed.figures import percentile
from bench.speed.findings import Latency
from bench.speed.turns import in_turns
from bench.speed.work import Bench

UPSTREAM_MILLISECONDS = 50.0
CONNECTIONS = 64


@contextlib.contextmanager
def _nobody(setting: Setting) -> Iterator[Running]:
    yield Running(setting.upstream.pid, setting.upstream.port)


DIRECT = Contender(
    "direct",
    "direct: the same upstream requests without anybody between",
    _nobody,
    (Scenario.CANCEL, Scenario.READ),
    judged=False,
    asks=lambda scenario, _, run: upstream_steps(scenario, run),
)


def latencies(
    bench: Bench, contenders: Sequence[Contender], asked: Sequence[tuple[Scenario, float]], rounds: int, seconds: float
) -> list[Latency]:
    """Measure each at each scenario and rate."""
    took: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    late: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        running = {each.name: stack.enter_context(each.start(bench.setting)) for each in (DIRECT, *contenders)}
        bench.setting.upstream.delay(UPSTREAM_MILLISECONDS)
        stack.callback(bench.setting.upstream.delay, 0.0)
        for each in (DIRECT, *contenders):
            bench.run((each, Scenario.CANCEL), running[each.name], CONNECTIONS, rate=100.0, connections=CONNECTIONS)
        for scenario, rate in asked:
            for number, each in enumerate(in_turns((DIRECT, *contenders), rounds)):
                result = bench.run(
                    (each, scenario),
                    running[each.name],
                    round(rate * seconds),
                    rate=rate,
                    connections=CONNECTIONS,
                    seed=number // (1 + len(contenders)),
                )
                took[each.name, scenario, rate] += result.took
                late[each.name, scenario, rate] += result.late
                p50 = 1000 * percentile(result.took, 0.5)
                print(f"{each.name} {scenario} at {rate:.0f}/s: p50 {p50:.1f} ms", file=sys.stderr, flush=True)
    return [
        Latency(
            *key,
            *(1000 * percentile(values, share) for share in (0.5, 0.99, 0.999)),
            len(values),
            1000 * percentile(late[key], 0.99),
        )
        for key, values in took.items()
    ]
