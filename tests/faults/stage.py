"""The stage for one cell: a hospital's PKB, a store, and gateways on it as real processes that may die."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.journeys.hospital import booked, messages
from tests.journeys.partner import Client, Reply, parameters, reason, until
from tests.journeys.processes import Json, Place, free_port

START: Final = 30.0
LIMITS: Final = """
[limits]
deadline = "3s"
write_settles_after = "4s"
unresolved_after = { unknown = "6s", accepted = "6s" }
"""
"""Short, but in their order: a stalled process's write is over before it counts as never arrived."""


@dataclass
class Nursery:
    """Where gateways of the test build are forked from."""

    process: asyncio.subprocess.Process
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(cls) -> "Nursery":
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.faults.build", stdin=pipe, stdout=pipe)
        )

    async def fork(self, config: Path, log: Path, environment: Mapping[str, str]) -> int:
        """Start a gateway, and give the number of its process."""
        assert self.process.stdin is not None, "it listens"
        assert self.process.stdout is not None, "it answers"
        told = {"config": str(config), "log": str(log), "environment": dict(environment)}
        await asyncio.to_thread(log.touch, 0o600)
        async with self._turn:
            self.process.stdin.write(json.dumps(told).encode() + b"\n")
            return int(await self.process.stdout.readline())

    async def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()


@dataclass
class Node:
    """One gateway process on a store."""

    name: str
    place: Place
    log: Path

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.place.pid}").exists()

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.place.pid, number)

    async def gone(self, seconds: float = 25.0) -> None:
        """Wait until nothing is left of it."""

        async def alive() -> bool:
            return self.alive

        await until(alive, lambda lives: not lives, seconds)

    async def stop(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await self.gone()
        except AssertionError:
            self.send(signal.SIGKILL)
            await self.gone()


@dataclass
class Stage:
    """Gateways of one cell. `base` is a sandbox, whose PKB they speak to; `store` the address of their store."""

    nursery: Nursery
    base: Place
    client: Client
    folder: Path
    store: str
    apart: bool
    """Whether each gateway has an audit folder of its own, as on machines of their own."""
    nodes: list[Node] = field(default_factory=list)

    async def start(self, name: str, **environment: str) -> Node:
        """Start a gateway of the test build, and wait until it serves."""
        while True:
            try:
                return await self._start(name, environment)
            except AssertionError as error:
                # Somebody else took the free port in the moment between.
                if "address already in use" not in str(error):
                    raise

    async def _start(self, name: str, environment: Mapping[str, str]) -> Node:
        ports = (free_port(), free_port())
        config = self.folder / f"{name}-{len(self.nodes)}.toml"
        audit = self.folder / ("audit" if not self.apart else f"audit-{name}")
        config.write_text(self._settings(ports, audit), encoding="utf-8")
        log = config.with_suffix(".log")
        pid = await self.nursery.fork(config, log, environment)
        urls = (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
        node = Node(name, Place(self.base.told, *urls, audit, pid), log)
        self.nodes.append(node)
        await self._serving(node, ports[1])
        return node

    async def _serving(self, node: Node, admin_port: int) -> None:
        async def serves() -> bool:
            assert node.alive, node.log.read_text(encoding="utf-8")[-3000:]
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", admin_port)
                writer.close()
                return True
            return False

        await until(serves, bool, START)

    def _settings(self, ports: tuple[int, int], audit: Path) -> str:
        text = Path(self.base.told["config_file"]).read_text(encoding="utf-8")
        source = self.base.directory
        for pattern, new in (
            (r"public_url = .*", f'public_url = "http://127.0.0.1:{ports[0]}"'),
            (r'grants = "grants.toml"', f'grants = "{self.grants}"'),
            (r"(listen = .*port = )\d+", rf"\g<1>{ports[0]}"),
            (r"(admin = .*port = )\d+", rf"\g<1>{ports[1]}"),
            (r'directory = "audit"', f'directory = "{audit}"'),
            (r"sqlite:///state.db", self.store),
        ):
            text, count = re.subn(pattern, new, text)
            assert count == 1, pattern
        return text.replace("file:keys/", f"file:{source}/keys/") + LIMITS

    @property
    def grants(self) -> Path:
        return self.base.grants

    def at(self, node: Node) -> Client:
        return self.client.at(node.place)

    def records(self) -> list[Json]:
        """Every whole record of every chain."""
        found: list[Json] = []
        for path in sorted(self.folder.glob("audit*/*.jsonl")):
            found += [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return found

    async def close(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))


@dataclass(frozen=True)
class Subject:
    """One appointment, and the cancel of it that the cell is about."""

    route: str
    customer: str
    id: str
    placer: str | None
    body: Json
    key: str

    async def cancel(self, client: Client, **how: Any) -> Reply:
        headers = {"Idempotency-Key": self.key, **how.pop("headers", {})}
        return await client.cancel(self.id, customer=self.customer, body=self.body, headers=headers, **how)

    async def seen(self, client: Client) -> list[Json]:
        """The messages about it that PKB saw."""
        if self.placer is None:
            return await client.writes(self.id)
        return [sent.write for sent in await messages(client, self.placer)]

    async def cancelled(self, client: Client) -> bool:
        return bool((await client.copy(self.id, self.customer))["status"] == "cancelled")


async def subject(route: str, client: Client) -> Subject:
    """Make PKB hold a new appointment on a route."""
    key = uuid.uuid4().hex
    if route == "hl7":
        made = await booked(client)
        return Subject(route, "bradford", made.id, made.placer, parameters(*made.who, reason()), key)
    return Subject(route, "airedale", await client.fresh(), None, parameters(reason()), key)


def final_of(records: list[Json], task: str) -> list[Json]:
    return [each for each in records if each["event"] == "outcome" and each["task"] == task and each["final"]]


def of(records: list[Json], event: str, appointment: str) -> list[Json]:
    return [each for each in records if each["event"] == event and each["appointment"] == appointment]
