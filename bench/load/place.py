"""A sandbox with appointments of our own to ask for, and looks at the gateway's process from outside."""

import asyncio
import json
import os
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.plan import CHANGE, Plan, Run, Target, generate
from tests.journeys.partner import Client, birth_date, patient
from tests.journeys.processes import Place, gateway_process, sandbox_process

_MARK = re.compile(r"load ([a-z0-9-]+) (\d+)\.")


@dataclass(frozen=True, slots=True)
class Setting:
    """A gateway process to be loaded, and the PKB behind it, which is another process."""

    client: Client
    place: Place
    generations: list[Run]

    async def run(self, plan: Plan) -> Run:
        """Run a plan and keep what came of it."""
        run = await generate(plan)
        self.generations.append(run)
        return run


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    """Start both. The gateway has the audit budget of the product, not the sandbox's own."""
    with tempfile.TemporaryDirectory() as folder, sandbox_process(Path(folder) / "sandbox") as sandbox:
        _take_out(Path(sandbox.place.told["config_file"]), "unauthenticated")
        with gateway_process(sandbox.place, "load") as place:
            async with Client(place) as client:
                yield Setting(client, place, [])


def _take_out(file: Path, name: str) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE), encoding="utf-8")


async def seeded(client: Client, customer: str, count: int) -> list[Target]:
    """Let PKB hold so many new appointments of a customer, each like the first demo one that can be changed."""
    like = _demo(client.place, customer)
    resource = json.loads(await client.copy_text(like["id"], customer))
    system, _, _ = like["identifier"].partition("|")
    proof: tuple[dict[str, Any], ...] = ()
    if customer == "bradford":
        proof = (patient(like["patient_identifier"].split("|")[1]), birth_date(like["birth_date"]))
    token = client.place.token("swiftbook")

    async def make(number: int) -> Target:
        made = f"l-{uuid.uuid4().hex[:20]}"
        placer = [{"system": system, "value": f"L{uuid.uuid4().hex[:12].upper()}"}]
        changed = {**resource, "id": made, "comment": f"seed {number}", "identifier": placer}
        await client.put(made, changed, customer=customer)
        return Target(customer, made, token, proof)

    return [await make(number) for number in range(count)]


def _demo(place: Place, customer: str) -> Mapping[str, Any]:
    known = [each for each in place.told["appointments"] if each["customer"] == customer]
    return next(each for each in known if each["scenario"] == "changeable")


def port_of(place: Place) -> int:
    """The port of a gateway."""
    return int(place.gateway_url.rsplit(":", 1)[1])


@dataclass(frozen=True, slots=True)
class Vitals:
    """What /proc says of one process; memory in MiB, CPU in seconds."""

    rss: float
    files: int
    threads: int
    cpu: float


def vitals(pid: int) -> Vitals:
    """Look at a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    values = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Vitals(int(values["VmRSS"]) / 1024, files, int(values["Threads"]), cpu)


class Watch:
    """Looks at a process once a second until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.seen: list[Vitals] = []
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.seen.append(vitals(self._pid))
            await asyncio.sleep(1)

    async def stop(self) -> list[Vitals]:
        """Give all that was seen."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self.seen


async def wrong_answers(client: Client, runs: Sequence[Run]) -> list[str]:
    """Hold the answers of changes against the messages that PKB saw.

    Applied: exactly one message. Not attempted or refused: none. Whatever was told: never more than one.
    """
    messages: dict[tuple[str, int], int] = {}
    for write in await client.writes():
        for name, number in set(_MARK.findall(json.dumps(write))):
            messages[name, int(number)] = messages.get((name, int(number)), 0) + 1
    wrong = []
    for run in runs:
        for sample in run.samples:
            if sample.kind != CHANGE:
                continue
            seen = messages.get((run.plan.name, sample.number), 0)
            most = 0 if sample.shed or 400 <= sample.status < 500 else 1
            if seen > most or (sample.good and seen != 1):
                wrong.append(f"{run.plan.name} {sample.number}: {sample.status} {sample.code}, {seen} messages")
    return wrong
