"""Spoilt requests over a real socket: refused or served, never a fault, and never more answers than requests."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.partner.http_edge import HttpLimits
from gateway.selftest.sending import parse
from tests.edges.raw_requests import CHUNKED, get, post
from tests.edges.wire_bench import serving

GOOD = (
    get("Accept: application/json", target="/a/b?c=d"),
    post("Content-Length: 5", body=b"hello"),
    post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    post("Content-Length: 2", "Expect: 100-continue", body=b"{}"),
)
PIECES = (
    b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"/", b"..", b"%2e", b"#", b"?", b";", b"\xff", b"HTTP/1.1",
    b"HTTP/0.9", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"Host: y\r\n", b"Content-Length: 3\r\n", b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Authorization: Bearer x\r\n", b"Upgrade: h2c\r\n", b"-1", b"ffffffffffffffff",
)  # fmt: skip
LIMITS = HttpLimits(headers=0.3, keep_alive=0.3, write=1, discard=0.05, shutdown=0.3)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good request in which up to four places hold something else."""
    data = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 6))
        data = data[:at] + draw(st.sampled_from(PIECES)) + data[at + length :]
    return data


async def _send(data: bytes) -> tuple[bytes, list[BaseException | None]]:
    async with serving(LIMITS) as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        try:
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(5):
                return await reader.read(), bench.faults
        except ConnectionError:
            return b"", bench.faults
        finally:
            writer.transport.abort()


@settings(max_examples=120)
@given(spoilt())
def test_a_spoilt_request_is_refused_or_served_and_never_a_fault(data: bytes) -> None:
    raw, faults = asyncio.run(_send(data))
    answers, torn = parse(raw, "GET")
    assert faults == []
    assert not torn
    assert all(answer.status < 500 for answer in answers)
    assert len(answers) <= 1 + data.count(b"HTTP/")
