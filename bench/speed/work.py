"""CPU per request and throughput: contenders in turns, round after round, so that the machine's moods touch all."""

import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from bench.speed import assertions
from bench.speed.check import Check
from bench.speed.contender import EXPECTED, Contender, Running, Scenario, Setting, steps
from bench.speed.figures import Figure
from bench.speed.findings import Work
from bench.speed.harness import Driver, Ended
from bench.speed.plan import Plan, Result
from bench.speed.processes import cpu_seconds, memory
from bench.speed.turns import in_turns

CONNECTIONS = 32
FEWEST = 150
WARM = 5_000
"""Requests, or as many as fit into `WARM_ROUNDS`."""
WARM_ROUNDS = 3.0


class WrongAnswer(Exception):
    """A contender answered otherwise than it must; what it would need for that says nothing."""


Entry = tuple[Contender, Scenario]


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures contenders that all run at once, of which one at a time has something to do."""

    setting: Setting
    driver: Driver
    token: str
    connections: int = CONNECTIONS

    def measure(
        self,
        contenders: Iterable[Contender],
        scenarios: Iterable[Scenario],
        rounds: int,
        seconds: float,
        leave_out: Callable[[str], None],
    ) -> list[Work]:
        """Check each, then measure those that are right; `leave_out` hears of the others. Raises WrongAnswer."""
        wanted = set(scenarios)
        cpu: dict[Entry, list[float]] = defaultdict(list)
        rates: dict[Entry, list[float]] = defaultdict(list)
        with ExitStack() as stack:
            running: dict[str, Running] = {}
            chosen: list[Contender] = []
            for each in contenders:
                try:
                    running[each.name] = stack.enter_context(each.start(self.setting))
                    self.check(each, running[each.name])
                    chosen.append(each)
                except (WrongAnswer, Ended) as error:
                    leave_out(f"{each.title}: {error}")
            entries = [(each, scenario) for each in chosen for scenario in each.scenarios if scenario in wanted]
            counts = {entry: self._count(entry, running[entry[0].name], seconds) for entry in entries}
            for entry in in_turns(entries, rounds):
                contender, scenario = entry
                at = running[contender.name]
                before = sum(cpu_seconds(each.pid) for each in at.everybody)
                result = self.run(entry, at, counts[entry])
                after = sum(cpu_seconds(each.pid) for each in at.everybody)
                cpu[entry].append(1e6 * (after - before) / counts[entry])
                rates[entry].append(result.rate)
                print(
                    f"{contender.name} {scenario}: {cpu[entry][-1]:.0f} µs, {rates[entry][-1]:.0f}/s", file=sys.stderr
                )
            held = {each.name: sum(memory(at.pid).pss for at in running[each.name].everybody) for each in chosen}
        return [
            Work(
                entry[0].name,
                entry[1],
                Figure.of(cpu[entry]),
                Figure.of(rates[entry]),
                counts[entry],
                held[entry[0].name],
            )
            for entry in entries
        ]

    def check(self, contender: Contender, running: Running) -> None:
        """Hold it against what it has to do. Raises WrongAnswer."""
        for each in running.everybody if contender.judged else ():
            if faults := Check(each, self.setting.upstream, self.token).faults():
                raise WrongAnswer("; ".join(faults))

    def run(
        self,
        entry: Entry,
        running: Running,
        count: int,
        *,
        rate: float = 0.0,
        connections: int = 0,
        seed: int = 7,
    ) -> Result:
        """Ask so many times. Raises WrongAnswer."""
        name = f"b{secrets.token_hex(5)}"
        contender, scenario = entry
        each = scenario is Scenario.TOKEN
        asks = contender.asks or steps
        asked = assertions.requests(running.folder, count) if each else asks(scenario, self.token, name)
        beside = running.beside.port if running.beside else 0
        plan = Plan(
            name, running.port, asked, count, connections or self.connections, rate, seed, each=each, beside=beside
        )
        result = self.driver.run(plan)
        if set(result.answers) != {EXPECTED[scenario]}:
            raise WrongAnswer(f"{contender.name} {scenario}: {result.answers}")
        return result

    def _count(self, entry: Entry, running: Running, seconds: float) -> int:
        """Warm it, as engines that compile what runs often need to be, and tell how many requests fill a round."""
        asked, rate, until = 0, 0.0, time.monotonic() + WARM_ROUNDS * seconds
        while not asked or (asked < WARM and time.monotonic() < until):
            count = max(FEWEST, round(rate * seconds / 2))
            rate = self.run(entry, running, count).rate
            asked += count
        return max(FEWEST, round(rate * seconds))
