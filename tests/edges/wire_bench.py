"""A tiny application behind the HTTP edge, and raw sockets towards it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

from gateway.partner.arrival import Gone, TimedOut, TooLarge, arrival, read_body
from gateway.partner.callers import NOBODY_BETWEEN, Callers
from gateway.partner.http_edge import HttpEdge, HttpLimits
from gateway.partner.protocol import partner_runner
from gateway.partner.target import Malformed

BODY_LIMIT = 1_000
QUICK = HttpLimits(headers=1.0, keep_alive=1.5, write=0.8, discard=0.8, shutdown=0.5)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    continued: bool = False


@dataclass
class WireBench:
    """What the edge said to the outside it was given, and what got through to the handlers."""

    port: int = 0
    body_seconds: float = 0.5
    malformed: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[BaseException | None] = field(default_factory=list)
    handled: list[str] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)

    def on_malformed(self, reason: str, request_id: str, peer: str) -> bytes:
        self.malformed.append((reason, request_id, peer))
        return json.dumps({"resourceType": "OperationOutcome", "reason": reason}).encode()

    def on_fault(self, error: BaseException | None, request_id: str, peer: str) -> bytes:
        self.faults.append(error)
        return json.dumps({"resourceType": "OperationOutcome", "id": request_id, "peer": peer}).encode()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        came = arrival(request)
        self.handled.append(came.target.path)
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        match came.target.segments[-1:]:
            case ("echo",):
                return await self.echo(request)
            case ("unread",):
                return web.Response(status=415)
            case ("last",):
                return web.Response(headers={"Connection": "close"})
            case ("boom",):
                raise ValueError("patient Jane Doe")
            case ("late",):
                raise TimeoutError
            case ("nothing",):
                return None  # type: ignore[return-value]  # the mistake under test
            case ("thrown",):
                raise web.HTTPNotFound(text="plain")
            case ("big",):
                return web.Response(body=b"x" * 16_000_000)
            case ("slow",):
                await asyncio.sleep(0.2)
                self.handled.append("slow is done")
            case _:
                pass
        return web.json_response({"peer": came.peer, "id": came.request_id})

    async def echo(self, request: web.BaseRequest) -> web.Response:
        deadline = asyncio.get_running_loop().time() + self.body_seconds
        body = await read_body(request, BODY_LIMIT, deadline)
        self.bodies.append(body)
        match body:
            case bytes():
                return web.Response(body=body)
            case TooLarge():
                return web.Response(status=413)
            case TimedOut():
                return web.Response(status=408)
            case Malformed() | Gone():
                return web.Response(status=400)


@asynccontextmanager
async def serving(limits: HttpLimits = QUICK, callers: Callers = NOBODY_BETWEEN) -> AsyncIterator[WireBench]:
    bench, numbers = WireBench(), count(1)
    edge = HttpEdge(bench.on_malformed, bench.on_fault, lambda: f"new-{next(numbers)}", limits, callers)
    runner = partner_runner(bench.handle, edge)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.port = runner.addresses[0][1]
    try:
        yield bench
    finally:
        await runner.cleanup()


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(5):
            status, headers = await self._head()
            continued = status == 100
            if continued:
                status, headers = await self._head()
            return Answer(status, headers, await self._body(headers), continued)

    async def _head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.split("\r\n")
        assert first.startswith("HTTP/1.1 ")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        assert len(headers) == len(pairs), "no answer has two lines of a header"
        return int(first.split(" ")[1]), headers

    async def _body(self, headers: dict[str, str]) -> bytes:
        return await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def closed(self, within: float = 3.0) -> bool:
        """Whether the other side ends the stream, with nothing more said."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read() == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def wire(bench: WireBench) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
