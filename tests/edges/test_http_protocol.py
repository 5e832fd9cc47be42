"""The HTTP edge over raw sockets: what is let through, and what is refused."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from gateway.partner.target import Malformed
from tests.edges.raw_requests import CHUNKED, get, head, post
from tests.edges.wire_bench import WireBench, serving, wire

A_UUID = "0b3f4a52-93a8-4d7e-8f60-0a4c9d1f2b77"


@pytest.fixture
async def bench() -> AsyncIterator[WireBench]:
    async with serving() as bench:
        yield bench


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


@pytest.mark.parametrize("target", ["/boom", "/late", "/nothing", "/thrown"])
async def test_what_gets_out_of_a_handler_is_one_fault_that_tells_nothing(bench: WireBench, target: str) -> None:
    async with wire(bench) as line:
        await line.send(get(target=target))
        answer = await line.answer()
    assert (answer.status, answer.headers["content-type"]) == (500, "application/fhir+json")
    assert json.loads(answer.body) == {"resourceType": "OperationOutcome", "id": "new-1", "peer": "127.0.0.1"}
    assert len(bench.faults) == 1


TOLD_APART_BY_THE_PARSER = (
    "no_request or good_requests or trailers or half_way or compressed or segment or continue or cut_short"
)


@pytest.mark.skipif(HttpRequestParser is HttpRequestParserPy, reason="runs once, around the parser in Python")
def test_the_parser_in_python_passes_the_same_tests() -> None:
    here = Path(__file__)
    connections = here.with_name("test_http_connections.py")
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
            here,
            connections,
        ],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout[-3_000:]
