"""A gateway of several processes beside a sandbox, and a steady load on it."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.journeys.partner import Client
from tests.journeys.processes import START_SECONDS, Place

PUBLIC_URL = "http://127.0.0.1:1"
"""The ports are not known before the gateway starts; nothing connects to this."""


@dataclass(frozen=True)
class CrewPlace(Place):
    """A place whose tokens were issued under another address than it is reached at."""

    def token(self, partner: str, scope: str = "system/Appointment.rus", age: float = 0.0) -> str:
        return Place(self.told, PUBLIC_URL, "", self.audit).token(partner, scope, age)


@dataclass
class Crew:
    """A supervisor process and what it says."""

    place: CrewPlace
    process: subprocess.Popen[bytes]
    log: Path
    temporary: Path

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in lines_of(self.log) if each.get("event") == event]

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def pid_of(self, chain: str) -> int:
        """The process that writes an audit chain."""
        (number,) = (number for number, lives in self.chains().items() if lives[-1] == chain)
        found = [each for each in self.workers() if f"\0PKB_GATEWAY_WORKER={number} " in environment_of(each)]
        assert len(found) == 1
        return found[0]

    def chains(self) -> dict[int, list[str]]:
        """The audit chains of each worker's number, in the order of its lives."""
        found: dict[int, list[str]] = {}
        for each in self.said("worker serving"):
            found.setdefault(each["worker"], []).append(each["chain"])
        return found


def lines_of(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def environment_of(pid: int) -> str:
    return f"\0{Path(f'/proc/{pid}/environ').read_text(encoding='utf-8')}"


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1][0] != "Z"
    return False


def crew_settings(place: Place, name: str, workers: int, **other: str) -> Path:
    """Write settings like the sandbox's own, for several workers on any free ports."""
    text = Path(place.told["config_file"]).read_text(encoding="utf-8")
    port, admin_port = other.get("port", "0"), other.get("admin_port", "0")
    for pattern, new in (
        (r"public_url = .*", f'public_url = "{PUBLIC_URL}"'),
        (r"(listen = .*port = )\d+", rf"\g<1>{port}, workers = {workers}"),
        (r"(admin = .*port = )\d+", rf"\g<1>{admin_port}"),
        (r'directory = "audit"', f'directory = "{other.get("audit", name)}"'),
        (r"sqlite:///state.db", f"sqlite:///{name}.db"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    config = place.directory / f"{name}.toml"
    config.write_text(text, encoding="utf-8")
    return config


def serve_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--insecure-public-url"]


@contextlib.contextmanager
def started_crew(place: Place, name: str, workers: int = 2, pass_fds: Sequence[int] = ()) -> Iterator[Crew]:
    """Start a gateway of several workers, for a caller that ends it itself."""
    config = crew_settings(place, name, workers)
    log, temporary = config.with_suffix(".log"), place.directory / f"{name}-temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with (
        log.open("ab") as out,
        subprocess.Popen(serve_command(config), stdout=out, stderr=out, env=environment, pass_fds=pass_fds) as process,
    ):
        try:
            ports = _serving(process, log)
            url, admin_url = (f"http://127.0.0.1:{ports[each]}" for each in ("partner_port", "admin_port"))
            reached = CrewPlace(place.told, url, admin_url, place.directory / name, process.pid)
            yield Crew(reached, process, log, temporary)
        finally:
            if process.poll() is None:
                process.kill()


def _serving(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    until = time.monotonic() + START_SECONDS
    while True:
        for each in lines_of(log):
            if each.get("event") == "serving":
                return each
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)


@contextlib.asynccontextmanager
async def fresh_connections(place: Place) -> AsyncIterator[Client]:
    """A client that opens a connection for every request."""
    client = Client(place)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        # aiohttp would ask a second time by itself where a connection was lost, and nobody would hear of it.
        session._retry_connection = False
        client.session = session
        yield client


async def samples(client: Client) -> dict[str, float]:
    """What one scrape tells, by name, with the labels of a request in one string."""
    async with client.session.get(client.place.admin_url + "/metrics") as response:
        text = await response.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            found[each.name] = found.get(each.name, 0.0) + each.value
    return found


@dataclass
class Load:
    """Requests without a pause, each on a connection of its own; `ended` tells of each what became of it, and when."""

    client: Client
    appointment: str
    width: int = 6
    ended: list[tuple[float, int | Exception]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def steady(self) -> AsyncIterator["Load"]:
        """Keep it up for as long as the caller likes; what is under way at the end is waited for."""
        going = asyncio.Event()
        streams = [asyncio.create_task(self._stream(going)) for _ in range(self.width)]
        try:
            yield self
        finally:
            going.set()
            await asyncio.gather(*streams)

    async def _stream(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                outcome: int | Exception = (await self.client.read(self.appointment)).status
            except (aiohttp.ClientError, OSError) as error:
                outcome = error
                # Nobody listens any more, or the process just died: asking at once would only burn the processor.
                await asyncio.sleep(0.02)
            self.ended.append((time.monotonic(), outcome))

    def statuses(self) -> set[int]:
        return {outcome for _, outcome in self.ended if isinstance(outcome, int)}

    def errors(self) -> list[tuple[float, Exception]]:
        return [(at, outcome) for at, outcome in self.ended if isinstance(outcome, Exception)]
