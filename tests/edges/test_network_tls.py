"""Connections to PKB that never come about: TLS of every bad kind, refusal, silence. Nothing is ever sent."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from gateway.pkb import http as module
from gateway.pkb.http import HttpClient, NotConnected, Reuse
from tests.edges.pkb_bench import soon
from tests.edges.raw_network import Authority, authority, black_hole, listening, refused_port, resetting
from tests.edges.raw_upstream import raw_upstream, reply

LONG_AGO = (timedelta(days=-30), timedelta(days=-1))
LATER = (timedelta(days=1), timedelta(days=30))

BAD: dict[str, Callable[[Authority], ssl.SSLContext]] = {
    "expired": lambda ca: ca.server(valid=LONG_AGO),
    "not yet valid": lambda ca: ca.server(valid=LATER),
    "of another name": lambda ca: ca.server("other.example"),
    "signed by itself": lambda ca: ca.server(self_signed=True),
    "too old a TLS": lambda ca: ca.server(newest=ssl.TLSVersion.TLSv1_1),
}


@pytest.mark.parametrize(("method", "reuse"), [("PUT", Reuse.NEVER), ("PUT", Reuse.RECENT), ("GET", Reuse.ANY)])
@pytest.mark.parametrize("bad", BAD)
async def test_nothing_is_sent_over_tls_that_is_not_good(bad: str, method: str, reuse: Reuse, tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with listening(BAD[bad](ca)) as server, HttpClient("gateway/test", ssl_context=ca.trust()) as http:
        with pytest.raises(NotConnected) as caught:
            await http.send(method, URL(f"{server.url}/thing"), {}, soon(), reuse=reuse)
        assert not caught.value.late
        assert bytes(server.received) == b""


async def test_the_same_authority_with_a_good_certificate_is_spoken_to(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with raw_upstream(ca.server()) as server, HttpClient("gateway/test", ssl_context=ca.trust()) as http:
        server.on("PUT /thing", reply(200, b"{}"))
        answer = await http.send("PUT", URL(f"{server.url}/thing"), {}, soon(), body=b"{}", reuse=Reuse.NEVER)
    assert answer.status == 200


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    async with listening() as server:
        yield server.port


@asynccontextmanager
async def refused() -> AsyncIterator[int]:
    with refused_port() as port:
        yield port


@asynccontextmanager
async def swallowed() -> AsyncIterator[int]:
    with black_hole() as port:
        yield port


NOBODY: dict[str, tuple[Callable[[], AbstractAsyncContextManager[int]], str]] = {
    "refuses": (refused, "https"),
    "swallows what knocks": (swallowed, "http"),
    "accepts and never shakes hands": (silent, "https"),
    "resets in the middle of the handshake": (resetting, "https"),
}


@pytest.mark.parametrize("late", [True, False], ids=["until the deadline", "until the connect timeout"])
@pytest.mark.parametrize("server", NOBODY)
async def test_a_connection_that_never_comes_about_sends_nothing_and_takes_bounded_time(
    server: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, scheme = NOBODY[server]
    hangs = start in {silent, swallowed}
    monkeypatch.setattr(module, "CONNECT_SECONDS", 5.0 if late else 0.2)
    async with start() as port, HttpClient("gateway/test") as http:
        began = soon(0)
        url = URL(f"{scheme}://127.0.0.1:{port}/thing")
        with pytest.raises(NotConnected) as caught:
            await http.send("PUT", url, {}, soon(0.3 if late else 5), body=b"{}", reuse=Reuse.NEVER)
        assert caught.value.late == (late and hangs)
        assert soon(0) - began < 1.5
