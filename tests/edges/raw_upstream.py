"""A server on a bare socket: it counts what really arrives, and answers, breaks and lies as told."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

REASONS = {200: "OK", 201: "Created", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Heard:
    connection: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    raw: bytes
    wait: float = 0.0
    close: bool = False


HANG_UP = Reply(b"", close=True)


def reply(
    status: int,
    body: bytes | object = b"",
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
    wait: float = 0.0,
    close: bool = False,
) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(content) if length is None else length}", "", ""]
    return Reply("\r\n".join(lines).encode() + content, wait, close)


@dataclass
class RawUpstream:
    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    replies: dict[str, list[Reply]] = field(default_factory=lambda: defaultdict(list))
    """By `METHOD /path`; the last one is given again and again."""
    connections: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def on(self, request: str, *replies: Reply) -> None:
        self.replies[request] = list(replies)

    def count(self, request: str) -> int:
        return len(self.all(request))

    def all(self, request: str) -> list[Heard]:
        return [heard for heard in self.heard if f"{heard.method} {heard.target}" == request]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(number, reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.heard.append(Heard(number, method, target, headers, body))
        answer = self._next(f"{method} {target}")
        await asyncio.sleep(answer.wait)
        writer.write(answer.raw)
        await writer.drain()
        return not answer.close

    def _next(self, request: str) -> Reply:
        prepared = self.replies.get(request, [])
        if not prepared:
            return reply(404)
        return prepared.pop(0) if len(prepared) > 1 else prepared[0]


@asynccontextmanager
async def raw_upstream(tls: SSLContext | None = None) -> AsyncIterator[RawUpstream]:
    upstream = RawUpstream(scheme="http" if tls is None else "https")
    open_: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(upstream.serve(reader, writer))
        open_.add(task)
        task.add_done_callback(open_.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)


def document_of(heard: Heard) -> Any:
    return json.loads(heard.body)
