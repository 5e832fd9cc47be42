"""The HTTP edge over raw sockets: what follows what on a connection, how long it may take, and how it ends."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.partner.arrival import Gone, TimedOut, TooLarge, connection_peer
from gateway.partner.connections import Connections
from gateway.partner.http_edge import HttpLimits
from gateway.partner.target import Malformed
from tests.edges.raw_requests import CHUNKED, get, head, post
from tests.edges.wire_bench import QUICK, WireBench, serving, wire


@pytest.fixture
async def bench() -> AsyncIterator[WireBench]:
    async with serving() as bench:
        yield bench


async def test_requests_in_one_segment_are_answered_one_at_a_time_and_in_order(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/slow") + get(target="/next"))
        await line.answer()
        await line.answer()
    assert bench.handled == ["/slow", "slow is done", "/next"]


async def test_a_thousand_requests_in_one_segment_are_all_answered(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(b"".join(get(target=f"/{n}") for n in range(1_000)))
        for _ in range(1_000):
            assert (await line.answer()).status == 200
    assert bench.handled == [f"/{n}" for n in range(1_000)]


async def test_nothing_behind_a_refused_request_is_served(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/a//b") + get(target="/smuggled"))
        assert (await line.answer()).status == 400
        assert await line.closed()
    assert bench.handled == []


async def test_bad_bytes_behind_a_good_request_do_not_cost_it_its_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/slow"))
        await asyncio.sleep(0.05)
        await line.send(b"\0\0\0\r\n\r\n")
        assert (await line.answer()).status == 200
        assert (await line.answer()).status == 400
    assert len(bench.malformed) == 1


async def test_continue_is_sent_when_the_body_is_wanted(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post("Expect: 100-continue", "Content-Length: 2"))
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.send(b"ab")
        answer = await line.answer()
    assert (answer.status, answer.body) == (200, b"ab")


CONTINUE_NOT_SENT = {
    "the body is not wanted": (post("Expect: 100-continue", "Content-Length: 2", target="/unread"), 415),
    "the body is too large": (post("Expect: 100-continue", "Content-Length: 2000"), 413),
    "the body is here already": (post("Expect: 100-continue", "Content-Length: 2", body=b"ab"), 200),
    "there is no body": (post("Expect: 100-continue"), 200),
    "the caller speaks 1.0": (head("POST /echo HTTP/1.0", "Expect: 100-continue", "Content-Length: 2") + b"ab", 200),
    "the target is refused": (post("Expect: 100-continue", "Content-Length: 2", target="/a//b"), 400),
}


@pytest.mark.parametrize(("data", "status"), CONTINUE_NOT_SENT.values(), ids=CONTINUE_NOT_SENT.keys())
async def test_continue_is_not_sent_when(bench: WireBench, data: bytes, status: int) -> None:
    async with wire(bench) as line:
        await line.send(data)
        answer = await line.answer()
    assert (answer.status, answer.continued) == (status, False)


async def test_a_caller_that_says_nothing_is_closed_without_an_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        assert await line.closed(within=QUICK.headers * 3)


async def test_headers_that_trickle_are_cut_off_without_an_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        began = asyncio.get_running_loop().time()
        trickle = asyncio.create_task(_trickle(line.writer, get("X-Note: " + "a" * 1_000)))
        assert await line.closed(within=QUICK.headers * 3)
        assert asyncio.get_running_loop().time() - began < QUICK.headers * 2
        trickle.cancel()
    assert bench.handled == []


async def _trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_the_next_request_on_a_connection_has_the_same_time_for_its_headers(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get())
        await line.answer()
        await asyncio.sleep(QUICK.headers * 1.3)
        await line.send(get())
        assert (await line.answer()).status == 200
        await line.send(b"GET /")
        assert await line.closed(within=QUICK.headers * 1.8)


async def test_a_connection_between_two_requests_is_closed_in_the_end(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get())
        await line.answer()
        assert not await line.closed(within=QUICK.keep_alive * 0.7)
        assert await line.closed(within=QUICK.keep_alive * 2)


async def test_a_handler_may_take_longer_than_headers_may() -> None:
    async with serving(HttpLimits(headers=0.05)) as bench, wire(bench) as line:
        await line.send(get(target="/slow"))
        await asyncio.sleep(0.02)
        await line.send(b"GET /partial")
        assert (await line.answer()).status == 200
        assert await line.closed(within=0.5)


async def test_a_body_that_never_comes_times_out_and_closes(bench: WireBench) -> None:
    bench.body_seconds = 0.2
    async with wire(bench) as line:
        await line.send(post("Content-Length: 10", body=b"abc"))
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert await line.closed(within=QUICK.discard * 3)
    assert bench.bodies == [TimedOut()]


async def test_a_body_in_chunks_is_too_large_as_soon_as_it_exceeds_the_limit(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post(CHUNKED, body=b"400\r\n" + b"a" * 1_024 + b"\r\n"))
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert bench.bodies == [TooLarge()]


@pytest.mark.parametrize("framing", ["Content-Length: 5000000", CHUNKED], ids=["announced", "in chunks"])
async def test_an_early_answer_reaches_a_caller_that_goes_on_sending(bench: WireBench, framing: str) -> None:
    def send_and_read() -> bytes:
        with socket.create_connection(("127.0.0.1", bench.port), timeout=5) as plain:
            plain.sendall(post(framing) + b"4c4b40\r\n" * (framing == CHUNKED))
            try:
                for _ in range(500):
                    plain.sendall(b"a" * 10_000)
            except OSError:
                pass  # the gateway has stopped listening; its answer waits in the socket
            return plain.recv(4_096)

    answer = await asyncio.to_thread(send_and_read)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_an_answer_to_an_unread_body_does_not_linger(bench: WireBench) -> None:
    async with wire(bench) as line:
        began = asyncio.get_running_loop().time()
        await line.send(post("Content-Length: 100000", body=b"a", target="/unread"))
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (415, "close")
        assert await line.closed()
        assert asyncio.get_running_loop().time() - began < QUICK.discard / 2
        line.writer.write(b"b")
        await asyncio.sleep(QUICK.discard * 1.5)
        assert await _refuses_more(line.writer)


async def test_input_behind_an_early_answer_is_thrown_away_up_to_a_limit() -> None:
    async with serving(HttpLimits(discard=60.0, discard_bytes=50_000, shutdown=0.1)) as bench, wire(bench) as line:
        await line.send(post("Content-Length: 5000000", target="/unread"))
        assert (await line.answer()).status == 415
        assert await line.closed()
        await line.send(b"a" * 49_000)
        await asyncio.sleep(0.05)
        await line.send(b"a" * 1_000)
        assert await _refuses_more(line.writer)


async def _refuses_more(writer: asyncio.StreamWriter) -> bool:
    """A byte may come before the end; the first one after it is answered by a reset, which the next meets."""
    for _ in range(3):
        # A connection that is known to be gone is written to in silence by asyncio and with an error by uvloop.
        if writer.transport.is_closing():
            break
        writer.write(b"c")
        await asyncio.sleep(0.05)
    return writer.transport.is_closing()


async def test_a_handler_may_make_its_answer_the_last(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/last") + get())
        assert (await line.answer()).headers["connection"] == "close"
        assert await line.closed()
    assert bench.handled == ["/last"]


async def test_an_idle_connection_does_not_hold_up_stopping() -> None:
    async with serving(HttpLimits()) as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1
    writer.transport.abort()


@pytest.mark.parametrize(
    ("peername", "name"),
    [
        (("::ffff:10.0.0.1", 4711, 0, 0), "10.0.0.1"),
        (("2001:DB8::1", 4711, 0, 0), "2001:db8::1"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::1"),
        ("", ""),
        (None, ""),
    ],
    ids=["mapped", "IPv6", "with a zone", "a Unix socket", "a connection that is gone"],
)
def test_a_peer_of_both_families_has_one_name(peername: object, name: str) -> None:
    assert connection_peer(peername) == name


async def test_a_caller_that_shuts_its_sending_side_still_gets_its_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/slow") + get(target="/next"))
        line.writer.write_eof()
        assert (await line.answer()).status == 200
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await line.closed()


async def test_a_caller_that_shuts_its_side_before_the_next_request_is_waited_for_is_let_go(
    bench: WireBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick client in another process ends its stream while the task of the answered request is being left."""
    used = Connections.used

    def end(self: Connections, connection: Any) -> None:
        used(self, connection)
        connection.eof_received()

    monkeypatch.setattr(Connections, "used", end)
    async with wire(bench) as line:
        await line.send(get())
        assert (await line.answer()).status == 200
        assert await line.closed(within=1.0)


async def test_a_body_cut_short_is_malformed(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post("Content-Length: 10", body=b"abc"))
        line.writer.write_eof()
        assert (await line.answer()).status == 400
    assert isinstance(bench.bodies[0], Malformed)


async def test_a_request_cut_short_in_its_headers_is_closed_without_an_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(b"GET /x HT")
        line.writer.write_eof()
        assert await line.closed(within=QUICK.headers / 2)


async def test_a_caller_that_resets_while_its_body_is_read_is_gone(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post("Content-Length: 10", body=b"abc"))
        await asyncio.sleep(0.05)
        _reset(line.writer)
        await asyncio.sleep(0.05)
    assert bench.bodies == [Gone()]
    assert bench.faults == []


async def test_a_caller_that_goes_away_does_not_stop_the_handler(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/slow"))
        await asyncio.sleep(0.05)
        _reset(line.writer)
        await asyncio.sleep(0.25)
    assert bench.handled == ["/slow", "slow is done"]


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_caller_that_never_reads_is_cut_off(bench: WireBench) -> None:
    async with wire(bench) as line:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket reads too
        await line.send(get(target="/big"))
        await asyncio.sleep(QUICK.write * 4)
        line.writer.transport.resume_reading()  # type: ignore[attr-defined]  # the same
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await line.answer()


async def test_a_caller_that_reads_gets_all_of_a_long_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/big"))
        assert len((await line.answer()).body) == 16_000_000


async def test_stopping_the_gateway_lets_a_request_end() -> None:
    async with serving() as bench, wire(bench) as line:
        await line.send(get(target="/slow"))
        await asyncio.sleep(0.05)
    assert bench.handled == ["/slow", "slow is done"]
