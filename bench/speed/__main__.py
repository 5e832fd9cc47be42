"""How fast is it, next to others doing the same work? python -m bench.speed [--only NAME] [--scenario NAME]."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.speed import gateways, peers
from bench.speed.contender import Contender, Scenario, Setting
from bench.speed.harness import Cores, driver, upstream
from bench.speed.keys import TokenKey
from bench.speed.work import Bench

CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        gateways.ONE,
        gateways.TWO,
        peers.NJS,
        peers.REMEMBERING,
        peers.FASTIFY,
        peers.DURABLE,
        peers.FASTAPI,
        peers.PROXY,
        peers.HELLO,
    )
}
SCRATCH = Path(".bench/runs")
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="a contender; may be repeated")
    parser.add_argument("--scenario", action="append", choices=list(Scenario), help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one contender in one round")
    parser.add_argument("--pin", action="store_true", help="the last processor is for stub and driver alone")
    given = parser.parse_args()
    chosen = [CONTENDERS[name] for name in given.only or CONTENDERS]
    scenarios = [Scenario(name) for name in given.scenario or list(Scenario)]
    with bench(Cores.apart() if given.pin else Cores.shared()) as at:
        works = at.measure(chosen, scenarios, given.rounds, given.seconds)
    for work in works:
        print(
            f"{work.contender} {work.scenario}: {work.cpu.text()} µs CPU per request, {work.rate.text()} requests/s,"
            f" {work.memory.pss:.0f} MiB ({work.requests} requests in each round)"
        )


if __name__ == "__main__":
    sys.exit(main())
