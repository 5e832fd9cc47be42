"""A write leaves in its time or not at all: proven on raw sockets, with a process that stops at the worst time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from gateway.flow.ports import Doubt, NotSent, Sender
from gateway.pkb.breaker import BreakerState
from gateway.pkb.http import Broken, HttpClient, NotConnected, Reuse, Unreadable, Withheld
from tests.edges import test_hl7_route as hl7
from tests.edges.pkb_bench import CANCEL, CUSTOMER, PUT, SENDER, box, soon
from tests.edges.raw_network import authority, listening, serving, stalled_reader
from tests.edges.raw_upstream import RawUpstream, Reply, raw_upstream, reply
from tests.edges.test_aggregated import PATIENT, TOKEN, granted, person
from tests.edges.test_hl7_ack import ack

BODY = b'{"resourceType":"Appointment"}'


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with raw_upstream() as server:
        server.on("PUT /thing", reply(200, b"{}"))
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient("gateway/test") as client:
        yield client


def thing(upstream: RawUpstream) -> URL:
    return URL(f"{upstream.url}/thing", encoded=True)


def stands_still(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """Stop the whole process for so long right after a connection was made, as SIGSTOP or a paused machine would."""
    stopped: list[float] = []
    connect = aiohttp.TCPConnector.connect

    async def connect_and_stop(self: aiohttp.TCPConnector, *given: object, **named: object) -> object:
        connection = await connect(self, *given, **named)  # type: ignore[arg-type]  # passed on as they came
        time.sleep(seconds)  # noqa: ASYNC251  # the point: nothing else may run meanwhile
        stopped.append(seconds)
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_stop)
    return stopped


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_write_whose_time_ran_out_in_a_stopped_process_never_leaves(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = authority(tmp_path)
    async with (
        listening(ca.server() if secure else None) as server,
        HttpClient("gateway/test", ssl_context=ca.trust()) as http,
    ):
        stopped = stands_still(monkeypatch, 0.3)
        with pytest.raises(Withheld) as caught:
            await http.send("PUT", URL(f"{server.url}/thing"), {}, soon(0.2), body=BODY, reuse=Reuse.NEVER)
        await server.closed()
        assert (stopped, caught.value.late) == ([0.3], True)
        assert (server.connections, bytes(server.received)) == (1, b"")


async def test_a_write_that_is_stopped_and_still_has_time_leaves(
    http: HttpClient, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = stands_still(monkeypatch, 0.1)
    assert (await http.send("PUT", thing(upstream), {}, soon(5), body=BODY, reuse=Reuse.NEVER)).status == 200
    assert (stopped, upstream.heard[0].body) == ([0.1], BODY)


async def test_without_the_fence_the_same_write_would_leave_late(
    upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_still(monkeypatch, 0.3)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.put(thing(upstream), data=BODY)
    await asyncio.sleep(0.05)
    assert upstream.count("PUT /thing") == 1


async def test_a_fence_is_asked_once_the_connection_is_there_and_keeps_the_write_back(http: HttpClient) -> None:
    asked: list[int] = []

    def fence() -> bool:
        asked.append(server.connections)
        return False

    async with listening() as server:
        with pytest.raises(Withheld):
            await http.send("PUT", URL(f"{server.url}/thing"), {}, soon(), body=BODY, reuse=Reuse.NEVER, fence=fence)
        await server.closed()
        assert (asked, bytes(server.received)) == ([1], b"")


async def test_a_fence_that_fails_keeps_the_write_back(http: HttpClient) -> None:
    def fence() -> bool:
        raise KeyError("lease")

    async with listening() as server:
        with pytest.raises(NotConnected):
            await http.send("PUT", URL(f"{server.url}/thing"), {}, soon(), body=BODY, reuse=Reuse.NEVER, fence=fence)
        await server.closed()
        assert bytes(server.received) == b""


async def test_what_pkb_did_not_take_in_time_is_never_sent_later(http: HttpClient) -> None:
    huge = b"x" * 1_000_000
    async with stalled_reader() as server:
        with pytest.raises(Broken) as caught:
            await http.send("PUT", URL(f"{server.url}/thing"), {}, soon(0.4), body=huge, reuse=Reuse.NEVER)
        assert caught.value.late
        assert len(await server.read_all()) < len(huge)


async def test_what_pkb_did_not_take_in_before_it_answered_is_never_sent_later(http: HttpClient) -> None:
    huge = b"x" * 20_000_000
    answered, received = asyncio.Event(), bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await answered.wait()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                received.extend(data)
        ended.set()

    ended = asyncio.Event()
    async with serving(answer) as port, asyncio.timeout(5):
        url = URL(f"http://127.0.0.1:{port}/thing")
        told = await http.send("PUT", url, {}, soon(), body=huge, reuse=Reuse.NEVER)
        answered.set()
        await ended.wait()
    assert told.status == 503
    assert len(received) < len(huge)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_a_write_that_is_not_answered_in_http_is_told_as_one_that_left(secure: bool, tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with (
        raw_upstream(ca.server() if secure else None) as upstream,
        HttpClient("gateway/test", ssl_context=ca.trust()) as http,
    ):
        upstream.on("PUT /thing", Reply(b"I am no HTTP at all\r\n\r\n"))
        with pytest.raises(Unreadable):
            await http.send("PUT", thing(upstream), {}, soon(), body=BODY, reuse=Reuse.NEVER)
        assert upstream.count("PUT /thing") == 1


@pytest.mark.parametrize("answer", [True, False], ids=["may write", "may not write"])
async def test_the_box_asks_the_senders_fence(answer: bool) -> None:
    asked: list[int] = []

    def fence() -> bool:
        asked.append(bench.upstream.count(PUT))
        return answer

    async with box() as bench:
        sighting = await bench.sighting()
        told = await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=fenced(SENDER, fence))
        assert bench.upstream.count(PUT) == int(answer)
        assert isinstance(told, NotSent) is not answer
        assert asked == [0]


@pytest.mark.parametrize("answer", [True, False], ids=["may write", "may not write"])
async def test_the_hl7_route_asks_the_senders_fence(answer: bool) -> None:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        bench = hl7_bench(upstream, http)
        told = await bench.write(sender=fenced(hl7.SENDER, lambda: answer))
        assert upstream.count(hl7.POST) == int(answer)
        assert isinstance(told, NotSent) is not answer
        await bench.route.close()


async def test_a_message_whose_time_ran_out_in_a_stopped_process_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        bench = hl7_bench(upstream, http)
        sighting = await bench.sighting()
        stands_still(monkeypatch, 0.3)
        told = await bench.route.write(hl7.CUSTOMER, hl7.CANCEL, sighting, soon(0.2), sender=hl7.SENDER)
        assert told == NotSent("its time was over before it left")
        assert upstream.count(hl7.POST) == 0
        await bench.route.close()


def hl7_bench(upstream: RawUpstream, http: HttpClient) -> hl7.Bench:
    bench = hl7.Bench(upstream, hl7.route_at(upstream.url, upstream.url, http, dict(hl7.LOGINS)))
    upstream.on(TOKEN, granted("t1"))
    upstream.on(PATIENT, reply(200, person()))
    upstream.on(hl7.POST, reply(200, ack(f"MSA|AA|{hl7.ID}")))
    return bench


def fenced(sender: Sender, fence: Callable[[], bool]) -> Sender:
    return Sender(sender.partner, sender.alias, sender.control_id, sender.now, fence)


async def test_writes_that_the_gateway_kept_back_do_not_open_the_breaker() -> None:
    async with box() as bench:
        sighting = await bench.sighting()
        for _ in range(25):
            answer = await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=fenced(SENDER, lambda: False))
            assert answer == NotSent("this process may no longer write")
        assert bench.box.state is BreakerState.CLOSED


async def test_a_box_whose_write_waits_for_its_connection_too_long_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with box() as bench:
        sighting = await bench.sighting()
        stands_still(monkeypatch, 0.3)
        told = await bench.box.write(CUSTOMER, CANCEL, sighting, soon(0.2), sender=SENDER)
        assert told == NotSent("its time was over before it left")
        assert bench.upstream.count(PUT) == 0


async def test_a_write_that_left_in_time_and_was_answered_late_is_doubt() -> None:
    async with box() as hospital:
        hospital.upstream.on(PUT, reply(200, b"{}", wait=1))
        assert isinstance(await hospital.write(0.2), Doubt)
        assert hospital.upstream.count(PUT) == 1
