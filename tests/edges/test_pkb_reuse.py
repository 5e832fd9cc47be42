"""A write over a connection that PKB answered on a moment ago: when it is taken, and that it stays sent once."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from gateway.flow.ports import Doubt, Written
from gateway.pkb import http as module
from gateway.pkb.http import Answer, Broken, HttpClient, NotConnected, Reuse, Withheld
from tests.edges.pkb_bench import GET, PATIENT, PUT, box, soon
from tests.edges.raw_network import authority, serving
from tests.edges.raw_upstream import HANG_UP, RawUpstream, raw_upstream, reply

BODY = b'{"resourceType":"Appointment"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with raw_upstream() as server:
        server.on("GET /thing", reply(200, b"{}"))
        server.on("PUT /thing", reply(200, b"{}"))
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient("gateway/test") as client:
        yield client


async def get(http: HttpClient, base: str, seconds: float = 5.0) -> Answer:
    return await http.send("GET", URL(f"{base}/thing", encoded=True), {}, soon(seconds))


async def put(http: HttpClient, base: str, fence: Callable[[], bool] = lambda: True) -> Answer:
    url = URL(f"{base}/thing", encoded=True)
    return await http.send("PUT", url, {}, soon(), body=BODY, reuse=Reuse.RECENT, fence=fence)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_write_goes_over_the_connection_of_the_read_before_it(secure: bool, tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with (
        raw_upstream(ca.server() if secure else None) as upstream,
        HttpClient("gateway/test", ssl_context=ca.trust()) as http,
    ):
        upstream.on("GET /thing", reply(200, b"{}"))
        upstream.on("PUT /thing", reply(200, b"{}"))
        await get(http, upstream.url)
        assert (await put(http, upstream.url)).status == 200
        assert (await put(http, upstream.url)).status == 200
    assert [heard.connection for heard in upstream.heard] == [1, 1, 1]


async def test_a_write_after_a_longer_silence_gets_a_connection_of_its_own(
    http: HttpClient, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_SECONDS", 0.05)
    await get(http, upstream.url)
    await asyncio.sleep(0.1)

    assert (await put(http, upstream.url)).status == 200
    await get(http, upstream.url)

    assert [heard.connection for heard in upstream.heard] == [1, 2, 1]
    assert upstream.heard[1].headers["connection"] == "close"


async def test_a_first_write_gets_a_connection_of_its_own(http: HttpClient, upstream: RawUpstream) -> None:
    assert (await put(http, upstream.url)).status == 200
    assert upstream.heard[0].headers["connection"] == "close"


async def test_of_several_kept_connections_the_one_used_last_is_taken(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("GET /thing", *(reply(200, b"{}", wait=wait) for wait in (0.05, 0.15, 0.1)))
    await asyncio.gather(*(get(http, upstream.url) for _ in range(3)))

    await put(http, upstream.url)

    assert upstream.connections == 3
    slowest = upstream.heard[1]
    assert upstream.heard[-1].connection == slowest.connection


async def test_another_servers_connection_is_not_taken(http: HttpClient, upstream: RawUpstream) -> None:
    async with raw_upstream() as other:
        other.on("PUT /thing", reply(200, b"{}"))
        await get(http, upstream.url)
        assert (await put(http, other.url)).status == 200
        assert upstream.count("PUT /thing") == 0


async def test_a_connection_that_pkb_closed_after_its_answer_is_not_taken(
    http: HttpClient, upstream: RawUpstream
) -> None:
    upstream.on("GET /thing", reply(200, b"{}", close=True))
    await get(http, upstream.url)
    await asyncio.sleep(0.05)

    assert (await put(http, upstream.url)).status == 200
    assert upstream.heard[-1].connection == 2


async def test_a_connection_that_pkb_wants_closed_is_not_taken(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("GET /thing", reply(200, b"{}", {"Connection": "close"}))
    await get(http, upstream.url)

    assert (await put(http, upstream.url)).status == 200
    assert upstream.heard[-1].connection == 2


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"], ids=["end", "word"]
)
async def test_nothing_leaves_where_pkb_hung_up_or_spoke_unasked_up_to_the_last_moment(
    secure: bool, said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PKB acts while the process stands between its choice of a connection and the first byte."""
    ca = authority(tmp_path)
    received: list[bytes] = []
    wires: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wires.append(writer)
        while data := await reader.read(65_536):
            received.append(data)
            writer.write(OK)

    connect = aiohttp.TCPConnector.connect

    async def connect_and_stop(self: aiohttp.TCPConnector, *given: object, **named: object) -> object:
        connection = await connect(self, *given, **named)  # type: ignore[arg-type]  # passed on as they came
        with socket.socket(fileno=os.dup(wires[0].get_extra_info("socket").fileno())) as wire:
            if said:
                wire.send(said)
            else:
                wire.shutdown(socket.SHUT_WR)
        time.sleep(0.05)  # noqa: ASYNC251  # the point: nothing else may run meanwhile
        return connection

    async with (
        serving(answer, ca.server() if secure else None) as port,
        HttpClient("gateway/test", ssl_context=ca.trust()) as http,
    ):
        base = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        await get(http, base)
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_stop)
        with pytest.raises(NotConnected) as caught:
            await put(http, base)
        monkeypatch.undo()
        assert not caught.value.late
        assert not isinstance(caught.value, Withheld)
        assert (await get(http, base)).status == 200
    assert [data[:3] for data in received] == [b"GET", b"GET"]


async def test_what_pkb_said_unasked_is_no_answer_to_the_next_read(http: HttpClient) -> None:
    asked: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(set(asked)) + 1
        while await reader.readuntil(b"\r\n\r\n"):
            asked.append(number)
            writer.write(OK)
            await asyncio.sleep(0.01)
            if number == 1:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with serving(answer) as port:
        base = f"http://127.0.0.1:{port}"
        await get(http, base)
        await asyncio.sleep(0.05)
        with pytest.raises(Broken):
            await get(http, base)
        assert (await get(http, base)).status == 200
    assert asked == [1, 2]


async def test_a_fence_keeps_a_write_back_from_a_connection_that_is_there(
    http: HttpClient, upstream: RawUpstream
) -> None:
    await get(http, upstream.url)
    with pytest.raises(Withheld):
        await put(http, upstream.url, lambda: False)
    await asyncio.sleep(0.05)
    assert [heard.method for heard in upstream.heard] == ["GET"]


async def test_what_is_broken_off_leaves_no_connection_with_half_an_answer_behind(
    http: HttpClient, upstream: RawUpstream
) -> None:
    upstream.on("GET /thing", reply(200, b"late", wait=0.2), reply(200, b"{}"))
    with pytest.raises(Broken):
        await get(http, upstream.url, 0.1)

    assert (await put(http, upstream.url)).status == 200
    assert (await get(http, upstream.url)).body == b"{}"
    assert upstream.heard[-1].connection > 1


async def test_a_cancelled_write_leaves_no_connection_behind(http: HttpClient, upstream: RawUpstream) -> None:
    upstream.on("PUT /thing", reply(200, b"late", wait=0.2), reply(200, b"{}"))
    await get(http, upstream.url)
    writing = asyncio.create_task(put(http, upstream.url))
    await asyncio.sleep(0.05)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing

    assert (await put(http, upstream.url)).body == b"{}"
    assert [heard.connection for heard in upstream.all("PUT /thing")] == [1, 2]


async def test_nothing_comes_behind_a_request_that_pkb_has_not_taken_in(http: HttpClient) -> None:
    """A server that answers at once and reads no more than the head of a large body."""
    connections: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await asyncio.sleep(5)

    async with serving(answer) as port:
        url = URL(f"http://127.0.0.1:{port}/thing", encoded=True)
        await http.send("PUT", url, {}, soon(), body=b"x" * 20_000_000)
        assert (await get(http, f"http://127.0.0.1:{port}")).status == 200
    assert [head[:3] for head in connections] == [b"PUT", b"GET"]


async def test_the_box_writes_over_the_connection_it_read_over() -> None:
    async with box() as hospital:
        assert isinstance(await hospital.write(), Written)
        (sent,) = hospital.upstream.all(PUT)
        assert sent.connection == hospital.upstream.all(PATIENT)[0].connection


async def test_the_box_writes_once_where_pkb_closes_every_connection_after_its_answer() -> None:
    async with box() as hospital:
        for request in (GET, PATIENT):
            hospital.upstream.on(
                request,
                *(
                    reply(200, held.raw.partition(b"\r\n\r\n")[2], {"ETag": 'W/"17"'}, close=True)
                    for held in hospital.upstream.replies[request]
                ),
            )
        assert isinstance(await hospital.write(), Written)
        assert hospital.upstream.count(PUT) == 1


async def test_a_write_that_is_dropped_on_the_connection_of_the_read_is_doubt() -> None:
    async with box() as hospital:
        hospital.upstream.on(PUT, HANG_UP)
        assert isinstance(await hospital.write(), Doubt)
        assert hospital.upstream.count(PUT) == 1
