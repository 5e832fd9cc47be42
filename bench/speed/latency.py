"""Latency at fixed open-loop rates: contenders in turns, and direct requests to the upstream among them."""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from bench.speed.contender import Contender, Running, Scenario, Setting, upstream_steps
from bench.speed.figures import percentile
from bench.speed.findings import Latency
from bench.speed.turns import in_turns
from bench.speed.work import Bench, WrongAnswer

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
    bench: Bench,
    contenders: Sequence[Contender],
    asked: tuple[Scenario, float],
    rounds: int,
    seconds: float,
    leave_out: Callable[[str], None],
) -> list[Latency]:
    """Measure each at one scenario and rate; `leave_out` hears of those that did not answer as they must."""
    scenario, rate = asked
    everybody = (DIRECT, *contenders)
    took: dict[str, list[float]] = defaultdict(list)
    late: dict[str, list[float]] = defaultdict(list)
    wrong: set[str] = set()
    with ExitStack() as stack:
        running = {each.name: stack.enter_context(each.start(bench.setting)) for each in everybody}
        bench.setting.upstream.delay(UPSTREAM_MILLISECONDS)
        stack.callback(bench.setting.upstream.delay, 0.0)
        # The first round only warms.
        for number, each in enumerate((*everybody, *in_turns(everybody, rounds))):
            if each.name in wrong:
                continue
            turn, count = number // len(everybody), round(rate * seconds)
            try:
                result = bench.run(
                    (each, scenario),
                    running[each.name],
                    count if turn else max(CONNECTIONS, count // 4),
                    rate=rate,
                    connections=CONNECTIONS,
                    seed=turn,
                )
            except WrongAnswer as error:
                wrong.add(each.name)
                leave_out(f"latency at {rate:.0f}/s: {error}")
                continue
            if turn:
                took[each.name] += result.took
                late[each.name] += result.late
                p50 = 1000 * percentile(result.took, 0.5)
                print(f"{each.name} {scenario} at {rate:.0f}/s: p50 {p50:.1f} ms", file=sys.stderr, flush=True)
    return [
        Latency(
            name,
            scenario,
            rate,
            *(1000 * percentile(values, share) for share in (0.5, 0.99, 0.999)),
            len(values),
            1000 * percentile(late[name], 0.99),
        )
        for name, values in took.items()
        if name not in wrong
    ]
