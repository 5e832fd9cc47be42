"""An answer that begins well and stops being HTTP later on: noticed when it comes, not when the time is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from gateway.pkb.http import Answer, HttpClient, Reuse, Unreadable
from tests.edges.pkb_bench import soon
from tests.edges.raw_network import serving

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
METHODS = [("GET", None, Reuse.ANY), ("PUT", b"{}", Reuse.NEVER)]


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient("gateway/test") as client:
        yield client


@asynccontextmanager
async def in_two_pieces(rest: bytes) -> AsyncIterator[URL]:
    """Serve the head and a first chunk, and the rest once these have been read; the connection stays."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await asyncio.sleep(0.02)
        writer.write(rest)
        await reader.read()

    async with serving(answer) as port:
        yield URL(f"http://127.0.0.1:{port}/thing", encoded=True)


@pytest.mark.parametrize(("method", "body", "reuse"), METHODS, ids=["read", "write"])
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"zz\r\n", id="no size of a chunk"),
        pytest.param(b"2\r\n{}HTTP/1.1 502 Bad Gateway\r\n\r\n", id="another answer within a chunk"),
        pytest.param(b"0\r\nno trailer\r\n\r\n", id="no trailer"),
        pytest.param(b"0\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", id="a huge trailer"),
    ],
)
async def test_what_stops_being_http_is_unreadable_at_once(
    http: HttpClient, rest: bytes, method: str, body: bytes | None, reuse: Reuse
) -> None:
    async with in_two_pieces(rest) as url, asyncio.timeout(2):
        with pytest.raises(Unreadable) as caught:
            await http.send(method, url, {}, soon(5), body=body, reuse=reuse)
    assert (caught.value.status, caught.value.late) == (200, False)


async def test_what_goes_on_as_it_should_is_read_to_its_end(http: HttpClient) -> None:
    rest = b"2\r\n[]\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with in_two_pieces(rest) as url:
        assert await http.send("GET", url, {}, soon()) == Answer(200, None, b"{}[]")
