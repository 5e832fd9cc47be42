"""The load generator, a process of its own: a plan on standard input, samples on standard output, both JSON."""

import asyncio
import gc
import json
import random
import sys
import uuid
from dataclasses import astuple

from bench.load.connection import Connection, Told
from bench.load.plan import CHANGE, READ, Plan, Sample, Target, comment

HOST = "127.0.0.1"


class Generator:
    """Runs one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(plan.seed)
        self._idle: list[Connection] = []
        self._open = 0
        self._count = 0
        self._late: list[float] = []
        self.samples: list[Sample] = []
        self.seconds = 0.0

    async def run(self) -> None:
        """Send all, and wait for the last answer."""
        begun = self._loop.time()
        if self._plan.rate:
            await self._at_random_moments(begun)
        else:
            await asyncio.gather(*(self._one_after_the_other(begun) for _ in range(self._plan.workers)))
        self.seconds = self._loop.time() - begun
        for connection in self._idle:
            connection.close()

    @property
    def late(self) -> float:
        """How late the requests were sent: the 99th percentile, in seconds."""
        ordered = sorted(self._late) or [0.0]
        return ordered[int(len(ordered) * 0.99) - 1]

    async def _at_random_moments(self, begun: float) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = begun
        while due < begun + self._plan.seconds:
            due += self._random.expovariate(self._plan.rate)
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._ask(begun, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one_after_the_other(self, begun: float) -> None:
        while (now := self._loop.time()) < begun + self._plan.seconds:
            await self._ask(begun, now)

    async def _ask(self, begun: float, due: float) -> None:
        self._late.append(self._loop.time() - due)
        number, self._count = self._count, self._count + 1
        target = self._plan.targets[number % len(self._plan.targets)]
        kind = CHANGE if self._random.random() < self._plan.writes else READ
        status, code = await self._send(self._request(number, kind, target))
        took = self._loop.time() - due
        self.samples.append(Sample(number, kind, target.customer, due - begun, took, status, code))

    async def _send(self, request: bytes) -> Told:
        connection = self._kept()
        if connection is None:
            if self._open >= self._plan.connections:
                return (0, "no-connection")
            self._open += 1
            try:
                async with asyncio.timeout(self._plan.patience):
                    _, connection = await self._loop.create_connection(Connection, HOST, self._plan.port)
            except OSError as error:  # a TimeoutError is one
                self._open -= 1
                return (0, type(error).__name__)
        told = await connection.ask(request, self._plan.patience)
        if connection.usable and not self._plan.fresh:
            self._idle.append(connection)
        else:
            connection.close()
            self._open -= 1
        return told

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._open -= 1
        return None

    def _request(self, number: int, kind: str, target: Target) -> bytes:
        path = f"/{target.customer}/fhir/Appointment/{target.id}"
        marker = uuid.UUID(int=self._random.getrandbits(128), version=4)
        head = f"Host: {HOST}:{self._plan.port}\r\nAuthorization: Bearer {target.token}\r\nX-Request-Id: {marker}\r\n"
        if kind == READ:
            return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        text = {"name": "comment", "valueString": comment(self._plan.name, number)}
        body = json.dumps({"resourceType": "Parameters", "parameter": [text, *target.proof]})
        head += f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n"
        return f"POST {path}/$change HTTP/1.1\r\n{head}\r\n{body}".encode()


async def main() -> None:
    """Read the plan, run it, tell."""
    told = json.loads(await asyncio.to_thread(sys.stdin.buffer.read))
    plan = Plan(**{**told, "targets": [Target(**target) for target in told["targets"]]})
    gc.freeze()
    generator = Generator(plan)
    await generator.run()
    result = {"samples": [astuple(each) for each in generator.samples], "late": generator.late}
    sys.stdout.write(json.dumps({**result, "seconds": generator.seconds}))


if __name__ == "__main__":
    asyncio.run(main())
