"""`make faults`: plays every cell of the table, prints what became of it, and fails where a promise was broken.

Then each guard is taken out in turn: at least one cell must notice.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.build import GUARDS
from tests.faults.cells import Verdict, run_cell
from tests.faults.stage import Nursery, Stage
from tests.faults.table import Cell, table
from tests.journeys.partner import Client
from tests.journeys.processes import Sandbox, sandbox_process
from tests.postgres import NoServer, Server, start_server

SHORT: Final = (
    ("kill", "held", "customer-fhir", "sqlite"),
    ("kill", "intended", "hl7", "sqlite"),
    ("kill", "on the wire", "customer-fhir", "sqlite"),
    ("kill", "ended", "hl7", "sqlite"),
    ("store", "answered", "customer-fhir", "sqlite"),
    ("disk", "answered", "hl7", "sqlite"),
    ("kill", "end recorded", "customer-fhir", "postgresql"),
    ("kill", "doubt filed", "customer-fhir", "postgresql"),
    ("stall", "intended", "hl7", "postgresql"),
    ("database", "permitted", "customer-fhir", "postgresql"),
    ("two nodes at once", "same key", "hl7", "postgresql"),
    ("relabelled", "after the answer", "customer-fhir", "sqlite"),
)
"""Fault, step, route and store of the cells of the short form."""

WITNESSES: Final = {
    "final record": (("kill", "intended", "customer-fhir", "sqlite"),),
    "no resend": (("PKB drops a message done", "at PKB", "hl7", "sqlite"),),
    "claims": (("two nodes at once", "other key", "hl7", "sqlite"), ("two nodes at once", "same key", "hl7", "sqlite")),
    "fence": (("stall", "intended", "hl7", "sqlite"), ("stall", "intended", "customer-fhir", "sqlite")),
    "second decision": (("revoked", "held", "customer-fhir", "sqlite"),),
    "rights on replay": (("relabelled", "after the answer", "customer-fhir", "sqlite"),),
    "read-back": (("PKB drops a write unread", "at PKB", "customer-fhir", "sqlite"),),
}
"""For each guard the cells that its absence must show in: one of them at least."""


@dataclass
class Lane:
    """A sandbox whose PKB one cell at a time has to itself, and a database server of its own."""

    nursery: Nursery
    sandbox: Sandbox
    server: Server | None
    folder: Path


@contextlib.contextmanager
def lanes(nursery: Nursery, count: int, *, postgresql: bool) -> Iterator[list[Lane]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        made: list[Lane] = []
        for n in range(count):
            server = None
            if postgresql:
                server = start_server()
                stack.callback(server.stop)
            sandbox = stack.enter_context(sandbox_process(folder / f"sandbox-{n}"))
            made.append(Lane(nursery, sandbox, server, folder / f"lane-{n}"))
        yield made


async def play(lane: Lane, cell: Cell, number: int, guard: str = "") -> Verdict:
    """Play one cell with files and a database of its own."""
    folder = lane.folder / f"{number:04d}"
    folder.mkdir(parents=True)
    apart = cell.store == "postgresql"
    url = f"sqlite:///{folder}/state.db"
    if apart:
        assert lane.server is not None, "the table has PostgreSQL only where there is a server"
        url = await asyncio.to_thread(lane.server.database)
    async with Client(lane.sandbox.place) as client:
        return await run_cell(
            cell, Stage(lane.nursery, lane.sandbox.place, client, folder, url, apart), lane.server, guard
        )


async def play_all(running: Sequence[Lane], cells: Sequence[tuple[Cell, str]], *, tell: bool = True) -> list[Verdict]:
    """Play cells, each with a guard taken out or none, as many at a time as there are lanes."""
    waiting = list(enumerate(cells))
    waiting.reverse()
    verdicts: dict[int, Verdict] = {}

    async def work(lane: Lane) -> None:
        while waiting:
            number, (cell, guard) = waiting.pop()
            begun = time.monotonic()
            verdicts[number] = verdict = await play(lane, cell, time.monotonic_ns() % 10**12, guard)
            if tell:
                bad = "; ".join(verdict.violations)
                print(f"{time.monotonic() - begun:5.1f}s  {cell.name}  {bad}", file=sys.stderr, flush=True)

    await asyncio.gather(*(work(lane) for lane in running))
    return [verdicts[number] for number in sorted(verdicts)]


def chosen(words: Sequence[str], cells: Sequence[Cell]) -> list[Cell]:
    """Those whose name has every word."""
    return [cell for cell in cells if all(word in cell.name for word in words)]


def named(keys: Sequence[tuple[str, str, str, str]], cells: Sequence[Cell]) -> list[Cell]:
    found = {(cell.fault, cell.step, cell.route, cell.store): cell for cell in cells}
    return [found[key] for key in keys if key in found]


def markdown(verdicts: Sequence[Verdict]) -> Iterator[str]:
    columns = (
        "fault",
        "step",
        "route",
        "store",
        "messages",
        "final records",
        "first answer",
        "answer on retry",
        "s",
        "ok",
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for each in verdicts:
        cell = each.cell
        good = "yes" if not each.violations else "**no**: " + "; ".join(each.violations)
        ends = ", ".join(each.finals) or "none"
        yield (
            f"| {cell.fault} | {cell.step} | {cell.route} | {cell.store} | {each.messages} | {ends} | {each.first} "
            f"| {each.retry} | {each.recovery:.1f} | {good} |"
        )


def summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    broken = [each for each in verdicts if each.violations]
    times = sorted(each.recovery for each in verdicts)
    yield f"{len(verdicts)} cells, {len(broken)} with violations."
    if times:
        yield f"Most messages for one write: {max(each.messages for each in verdicts)}."
        yield f"Recovery: median {times[len(times) // 2]:.1f} s, longest {times[-1]:.1f} s."


async def guards_out(running: Sequence[Lane], every: Sequence[Cell]) -> tuple[list[str], bool]:
    """Take each guard out and say which cells noticed."""
    jobs = [(cell, guard) for guard in GUARDS for cell in named(WITNESSES[guard], every)]
    verdicts = await play_all(running, jobs)
    lines, good = ["| guard taken out | cells played | cells that noticed | what they saw |", "|---|---|---|---|"], True
    for guard in GUARDS:
        told = [each for each, (_, out) in zip(verdicts, jobs, strict=True) if out == guard]
        noticed = [each for each in told if each.violations]
        good = good and bool(noticed)
        saw = noticed[0].violations[0] if noticed else "**nothing**"
        lines.append(f"| {guard} | {len(told)} | {len(noticed)} | {saw} |")
    return lines, good


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"


async def main(arguments: Any) -> int:
    stores = ["sqlite", "postgresql"]
    begun = time.monotonic()
    nursery = await Nursery.open()
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(lanes(nursery, arguments.lanes, postgresql=True))
        except NoServer as error:
            print(f"SKIPPED: NOTHING WAS TRIED ON POSTGRESQL: {error}", file=sys.stderr)
            stores = ["sqlite"]
            running = stack.enter_context(lanes(nursery, arguments.lanes, postgresql=False))
        every = table(tuple(stores))
        cells = named(SHORT, every) if arguments.short else chosen(arguments.words, every)
        cells = [] if arguments.guards else cells
        verdicts = await play_all(running, [(cell, arguments.guard) for cell in cells])
        guards: list[str] = []
        noticed = True
        if arguments.guards or not (arguments.words or arguments.short or arguments.guard):
            guards, noticed = await guards_out(running, every)
        lines = [
            f"# What faults do to a write\n\n{machine()}. {time.monotonic() - begun:.0f} s.\n",
            *markdown(verdicts),
        ]
        lines += ["", *summary(verdicts), "", *guards]
        print("\n".join(lines))
        for each in verdicts:
            if each.violations and arguments.logs:
                print(f"\n## {each.cell.name}\n{each.log}", file=sys.stderr)
        if arguments.json:
            told = [{**asdict(each), "log": ""} for each in verdicts]
            arguments.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
        await nursery.close()
        return 0 if noticed and not any(each.violations for each in verdicts) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only cells whose name has all these words")
    parser.add_argument("--lanes", type=int, default=3, help="cells played at a time")
    parser.add_argument("--short", action="store_true", help="the short form")
    parser.add_argument("--guards", action="store_true", help="only take each guard out in turn")
    parser.add_argument("--guard", default="", choices=["", *GUARDS], help="take a guard out")
    parser.add_argument("--logs", action="store_true", help="show the logs of cells with violations")
    parser.add_argument("--json", type=Path, help="write the verdicts there, too")
    sys.exit(asyncio.run(main(parser.parse_args())))
