"""How long a change of the grants file takes to count: python bench/reload.py [GRANTS] [CHANGES]."""

import asyncio
import contextlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from gateway.configuration.grants import Grants, GrantsReader
from gateway.configuration.problems import Problem
from gateway.configuration.reading_aside import AsideReader
from gateway.configuration.reload import GrantsWatcher

CUSTOMER = """
[customers.c{n}]
name = "Customer {n}"
kind = "organisation"
source_organisation = "Organization/c{n}"
route = "box"
privacy_labels = ["GENERAL_HEALTH", "SEXUAL_HEALTH"]
notice = "72h"
"""
GRANT = """
[[grants]]
id = "g{n}"
customer = "c{customer}"
partner = "p{partner}"
operations = ["read", "change", "cancel"]
from = 2026-01-01
until = 2027-01-01
privacy_labels = ["GENERAL_HEALTH"]
specialties = ["394579002"]
notice = "48h"
patient = "required"
change = {{ fields = ["start", "end", "comment"], within = "90d" }}
cancel = {{ reasons = ["pat", "pat-crs", "other"] }}
rate = "60/min"
approved_by = "Director of Informatics, 2026-01-03, DPA-17"
"""


def grants_text(count: int) -> str:
    """A file of ten partners, and a customer for every ten grants."""
    partners = [f'\n[partners.p{n}]\nname = "Partner {n}"\npkb_client_id = "client-{n}"\n' for n in range(10)]
    customers = [CUSTOMER.format(n=n) for n in range(-(-count // 10))]
    grants = [GRANT.format(n=n, customer=n // 10, partner=n % 10) for n in range(count)]
    return "".join(["version = 1\n", *partners, *customers, *grants])


async def longest_stall(stop: asyncio.Event) -> float:
    """The longest the event loop left somebody waiting, in seconds."""
    worst = 0.0
    while not stop.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - began - 0.001)
    return worst


def append(path: Path, line: str) -> None:
    """Change a file in place."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


async def measure(path: Path, changes: int) -> tuple[list[float], float]:
    """Seconds from each change until it counted, and the longest stall of the loop."""
    reader, counted = AsideReader(GrantsReader(path)), asyncio.Event()

    async def on_loaded(_: Grants, previous: str) -> None:
        del previous
        counted.set()

    async def on_refused(problems: tuple[Problem, ...]) -> None:
        raise SystemExit("\n".join(map(str, problems)))

    async def on_keys(_: Grants) -> None:
        return

    watcher = GrantsWatcher(
        path,
        reader.load,
        reader.load(),
        now=lambda: datetime.now(UTC),
        on_loaded=on_loaded,
        on_refused=on_refused,
        on_keys=on_keys,
        abandon=reader.abandon,
    )
    watching, stop = asyncio.create_task(watcher.run()), asyncio.Event()
    stall = asyncio.create_task(longest_stall(stop))
    await asyncio.sleep(0.5)
    took = []
    for number in range(changes):
        counted.clear()
        began = time.perf_counter()
        await asyncio.to_thread(append, path, f"# {number}\n")
        await counted.wait()
        took.append(time.perf_counter() - began)
        # Changes come at any moment of the watcher's rhythm.
        await asyncio.sleep(0.037 * (number % 5))
    stop.set()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return took, await stall


def main() -> None:
    """Measure and print."""
    count, changes = (int(each) for each in (*sys.argv[1:], *("2000", "20")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grants.toml"
        path.write_text(grants_text(count), encoding="utf-8")
        began = time.perf_counter()
        AsideReader(GrantsReader(path), spare=False).load()
        read = time.perf_counter() - began
        took, stall = asyncio.run(measure(path, changes))
    took.sort()
    print(f"{count} grants, {changes} changes: read and checked in {read:.3f} s")
    print(f"in force after {took[len(took) // 2]:.3f} s (median), {took[-1]:.3f} s (longest)")
    print(f"longest stall of the event loop {stall * 1000:.0f} ms")


if __name__ == "__main__":
    main()
