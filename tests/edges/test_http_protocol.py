"""The HTTP edge over raw sockets: what is let through, what is refused, and how connections end."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from gateway.partner.arrival import Gone, TimedOut, TooLarge
from gateway.partner.protocol import HttpLimits
from gateway.partner.target import Malformed
from tests.edges.wire_bench import QUICK, WireBench, serving, wire

A_UUID = "0b3f4a52-93a8-4d7e-8f60-0a4c9d1f2b77"


@pytest.fixture
async def bench() -> AsyncIterator[WireBench]:
    async with serving() as bench:
        yield bench


def head(first: str, *lines: str, host: str = "Host: gateway") -> bytes:
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def get(*lines: str, target: str = "/x", version: str = "HTTP/1.1", host: str = "Host: gateway") -> bytes:
    return head(f"GET {target} {version}", *lines, host=host)


def post(*lines: str, body: bytes = b"", target: str = "/echo") -> bytes:
    return head(f"POST {target} HTTP/1.1", *lines) + body


CHUNKED = "Transfer-Encoding: chunked"

REFUSED = {
    "content-length beside transfer-encoding": post("Content-Length: 3", CHUNKED, body=b"0\r\n\r\n"),
    "transfer-encoding beside content-length": post(CHUNKED, "Content-Length: 3", body=b"0\r\n\r\n"),
    "two equal content-lengths": post("Content-Length: 1", "Content-Length: 1", body=b"a"),
    "two different content-lengths": post("Content-Length: 1", "Content-Length: 2", body=b"ab"),
    "a list of content-lengths": post("Content-Length: 1, 1", body=b"a"),
    "a signed content-length": post("Content-Length: +1", body=b"a"),
    "a negative content-length": post("Content-Length: -1", body=b"a"),
    "a hexadecimal content-length": post("Content-Length: 0x1", body=b"a"),
    "an empty content-length": post("Content-Length:", body=b"a"),
    "a content-length of 30 digits": post("Content-Length: " + "9" * 30, body=b"a"),
    "a content-length of 8000 digits": post("Content-Length: " + "9" * 8000, body=b"a"),
    "gzip as transfer coding": post("Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
    "gzip before chunked": post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked twice": post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked before identity": post("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "xchunked": post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked on two lines": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "identity": post("Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "a space before the colon": post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "a folded line": get("X-Note: one\r\n two"),
    "a folded line with a tab": get("X-Note: one\r\n\ttwo"),
    "a folded host": get(host="Host:\r\n gateway"),
    "NUL in a header": get("X-Note: a\0b"),
    "NUL in the target": get(target="/x\0y"),
    "a bare carriage return in a header": get("X-Note: a\rb"),
    "a bare carriage return in the request line": b"GET /x\r HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "bare line feeds": b"GET /x HTTP/1.1\nHost: gateway\n\n",
    "a header without colon": get("nonsense"),
    "a header without name": get(": value"),
    "a header name with a space": get("X Note: a"),
    "129 headers": get(*[f"X-{n}: 1" for n in range(128)]),
    "101 headers": get(*[f"X-{n}: 1" for n in range(100)]),
    "a target of 9000 bytes": get(target="/" + "a" * 9_000),
    "a header of 9000 bytes": get("X-Note: " + "a" * 9_000),
    "headers of 90 KB together": get(*[f"X-{n}: " + "a" * 1_500 for n in range(60)]),
    "HTTP/0.9": get(version="HTTP/0.9"),
    "HTTP/2.0": get(version="HTTP/2.0"),
    "HTTP/1.2": get(version="HTTP/1.2"),
    "HTTP/3.0": get(version="HTTP/3.0"),
    "an unreadable version": get(version="HTTP/one"),
    "no version at all": b"GET /x\r\nHost: gateway\r\n\r\n",
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + b"\0\r\n\r\n",
    "a lower-case method": head("get /x HTTP/1.1"),
    "a mixed-case method": head("Get /x HTTP/1.1"),
    "a method with a brace": head("G{T /x HTTP/1.1"),
    "no host": get(host=""),
    "no host on 1.0": get(version="HTTP/1.0", host=""),
    "an empty host": get(host="Host:"),
    "two hosts": get("Host: gateway"),
    "a host with userinfo": get(host="Host: user@gateway"),
    "a host with a path": get(host="Host: gateway/x"),
    "two authorizations": get("Authorization: Bearer a", "Authorization: Bearer a"),
    "two if-matches": get('If-Match: W/"1"', 'if-match: W/"1"'),
    "two idempotency keys": get("Idempotency-Key: a", "IDEMPOTENCY-KEY: b"),
    "two content types": get("Content-Type: application/json", "Content-Type: application/json"),
    "obs-text in authorization": get("Authorization: Bearer \xe9"),
    "CONNECT in authority form": head("CONNECT gateway:443 HTTP/1.1"),
    "CONNECT with a path": head("CONNECT /x HTTP/1.1"),
    "OPTIONS with an asterisk": head("OPTIONS * HTTP/1.1"),
    "absolute form naming another host": get(target="http://evil/x"),
    "absolute form with userinfo": get(target="http://user@gateway/x"),
    "another scheme": get(target="ftp://gateway/x"),
    "a scheme without authority": get(target="mailto:x"),
    "a dot segment": get(target="/a/../x"),
    "an encoded slash": get(target="/a%2fx"),
    "a fragment": get(target="/x#y"),
    "obs-text in the target": get(target="/\xe9"),
    "an unknown expectation": get("Expect: tea"),
    "two expectations": post("Expect: 100-continue, tea", "Content-Length: 1", body=b"a"),
    "chunks on 1.0": head("POST /echo HTTP/1.0", CHUNKED) + b"0\r\n\r\n",
    "a chunk size that is no number": post(CHUNKED, body=b"zz\r\n"),
    "a signed chunk size": post(CHUNKED, body=b"+1\r\na\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n"),
    "a bare line feed after a chunk size": post(CHUNKED, body=b"1\na\r\n0\r\n\r\n"),
    "a line feed in a chunk extension": post(CHUNKED, body=b"1;a\nb\r\na\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
async def test_bytes_that_are_no_request_get_one_answer_and_a_closed_connection(bench: WireBench, data: bytes) -> None:
    async with wire(bench) as line:
        await line.send(data.replace(b"/x", b"/sesame").replace(b"X-Note", b"X-Sesame"))
        answer = await line.answer()
        assert answer.status == 400
        assert json.loads(answer.body)["resourceType"] == "OperationOutcome"
        assert answer.headers["content-type"] == "application/fhir+json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["connection"] == "close"
        assert "server" not in answer.headers
        assert b"sesame" not in answer.body.lower()
        line.writer.write_eof()
        assert await line.closed()
    ((reason, request_id, peer),) = bench.malformed
    assert reason.endswith(".")
    assert (request_id, peer) == (answer.headers["x-request-id"], "127.0.0.1")
    assert (bench.handled, bench.faults) == ([], [])


SERVED = {
    "HTTP/1.1": get(),
    "HTTP/1.0 with a host": get(version="HTTP/1.0"),
    "absolute form naming the host": get(target="http://gateway/x"),
    "absolute form in capitals with the usual port": get(target="HTTP://GATEWAY:80/x"),
    "a host with a port": get(host="Host: gateway:8080"),
    "a host of IPv6": get(host="Host: [::1]:8080"),
    "100 headers": get(*[f"X-{n}: 1" for n in range(99)]),
    "a header of 8000 bytes": get("X-Note: " + "a" * 8_000),
    "blank lines before the request": b"\r\n\r\n" + get(),
    "obs-text in a header that decides nothing": get("X-Note: \xe9"),
    "a query": get(target="/x?date=ge2026-01-01&date=le2026-02-01"),
    "an empty body": post("Content-Length: 0"),
    "a body in chunks": post(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n"),
    "a chunk extension": post(CHUNKED, body=b"2;a=b\r\nab\r\n0\r\n\r\n"),
    "chunked in capitals": post("Transfer-Encoding: CHUNKED", body=b"2\r\nab\r\n0\r\n\r\n"),
    "an offer of HTTP/2 as Java makes it": post(
        "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEA", "Content-Length: 2", body=b"ab"
    ),
    "an offer of a websocket": get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
}


@pytest.mark.parametrize("data", SERVED.values(), ids=SERVED.keys())
async def test_good_requests_are_served_with_the_headers_of_every_answer(bench: WireBench, data: bytes) -> None:
    async with wire(bench) as line:
        await line.send(data)
        answer = await line.answer()
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == "new-1"
    assert "server" not in answer.headers
    assert bench.malformed == []


async def test_an_uuid_of_the_caller_names_the_request(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(f"X-Request-Id: {A_UUID}", f"X-Correlation-Id: {A_UUID.upper()}"))
        answer = await line.answer()
    assert answer.headers["x-request-id"] == A_UUID
    assert answer.headers["x-correlation-id"] == A_UUID.upper()
    assert json.loads(answer.body) == {"peer": "127.0.0.1", "id": A_UUID}


async def test_a_refused_request_keeps_the_callers_id(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(f"X-Request-Id: {A_UUID}", target="/a//b"))
        assert (await line.answer()).headers["x-request-id"] == A_UUID
    assert bench.malformed[0][1:] == (A_UUID, "127.0.0.1")


async def test_a_refused_head_request_gets_no_body(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(head("HEAD /a//b HTTP/1.1"))
        status, _ = await line._head()
        assert status == 400
        line.writer.write_eof()
        assert await line.closed()


async def test_answers_keep_the_connection_for_the_next_request(bench: WireBench) -> None:
    async with wire(bench) as line:
        for number in range(1, 4):
            await line.send(post("Content-Length: 2", body=b"ab"))
            answer = await line.answer()
            assert (answer.body, answer.headers["x-request-id"]) == (b"ab", f"new-{number}")


async def test_trailers_become_headers_neither_of_this_request_nor_of_the_next(bench: WireBench) -> None:
    async with wire(bench) as line:
        trailers = b"X-Note: a\r\nAuthorization: Bearer x\r\n"
        await line.send(post(CHUNKED, body=b"1\r\na\r\n0\r\n" + trailers + b"\r\n") + get(target="/next"))
        answer = await line.answer()
        assert (answer.body, answer.headers["connection"]) == (b"a", "close")
        assert await line.closed()
    assert bench.handled == ["/echo"]
    assert [seen.get("authorization") for seen in bench.seen] == [None]


async def test_ten_thousand_trailers_are_refused(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post(CHUNKED, body=b"1\r\na\r\n0\r\n" + b"A: b\r\n" * 10_000 + b"\r\n"))
        assert (await line.answer()).status == 400


async def test_a_body_that_breaks_half_way_is_malformed_at_once(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post(CHUNKED, body=b"2\r\nab\r\n"))
        await asyncio.sleep(0.05)
        await line.send(b"zz\r\n")
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert isinstance(bench.bodies[0], Malformed)


async def test_a_compressed_body_is_handed_on_as_it_came(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(post("Content-Encoding: gzip", "Content-Length: 4", body=b"junk"))
        answer = await line.answer()
    assert (answer.status, answer.body) == (200, b"junk")


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


async def test_a_peer_of_both_families_has_one_name(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/mapped"))
        assert (await line.answer()).body == b"10.0.0.1 2001:db8::1 ''"


async def test_a_caller_that_shuts_its_sending_side_still_gets_its_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/slow") + get(target="/next"))
        line.writer.write_eof()
        assert (await line.answer()).status == 200
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await line.closed()


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
        await asyncio.sleep(QUICK.write * 1.5)
        line.writer.transport.resume_reading()  # type: ignore[attr-defined]  # the same
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await line.answer()


async def test_a_caller_that_reads_gets_all_of_a_long_answer(bench: WireBench) -> None:
    async with wire(bench) as line:
        await line.send(get(target="/big"))
        assert len((await line.answer()).body) == 16_000_000


@pytest.mark.parametrize("target", ["/boom", "/late", "/nothing", "/thrown"])
async def test_what_gets_out_of_a_handler_is_one_fault_that_tells_nothing(bench: WireBench, target: str) -> None:
    async with wire(bench) as line:
        await line.send(get(target=target))
        answer = await line.answer()
    assert (answer.status, answer.headers["content-type"]) == (500, "application/fhir+json")
    assert json.loads(answer.body) == {"resourceType": "OperationOutcome", "id": "new-1", "peer": "127.0.0.1"}
    assert len(bench.faults) == 1


async def test_stopping_the_gateway_lets_a_request_end() -> None:
    async with serving() as bench, wire(bench) as line:
        await line.send(get(target="/slow"))
        await asyncio.sleep(0.05)
    assert bench.handled == ["/slow", "slow is done"]


TOLD_APART_BY_THE_PARSER = (
    "no_request or good_requests or trailers or half_way or compressed or segment or continue or cut_short"
)


@pytest.mark.skipif(HttpRequestParser is HttpRequestParserPy, reason="runs once, around the parser in Python")
def test_the_parser_in_python_passes_the_same_tests() -> None:
    here = Path(__file__)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-k",
            TOLD_APART_BY_THE_PARSER,
            str(here),
        ],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout[-3_000:]
