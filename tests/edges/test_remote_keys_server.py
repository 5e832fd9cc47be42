"""Fetching a key set from real servers: good ones, slow ones, broken ones, and those that want more."""

import asyncio
import gzip
import ssl
import time
from pathlib import Path

import pytest

from gateway.partner.key_servers import Fetched, FetchFailed, KeyClient
from tests.edges.key_server import KeyServer, certificate_for
from tests.edges.tokens import jwk, jwks, private_key

GOOD = jwks(jwk(private_key()))
SECONDS = 2.0


async def fetch(server: KeyServer, seconds: float = SECONDS, trust: ssl.SSLContext | None = None) -> Fetched:
    async with KeyClient("pkb-gateway/test", ssl_context=trust) as client:
        return await client.fetch(server.url, seconds)


async def why_not(server: KeyServer, seconds: float = SECONDS, trust: ssl.SSLContext | None = None) -> str:
    with pytest.raises(FetchFailed) as caught:
        await fetch(server, seconds, trust)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind", ["application/json", "application/jwk-set+json; charset=utf-8", "text/plain", "application/octet-stream"]
)
async def test_a_key_set_is_taken_whatever_its_server_calls_it(kind: str) -> None:
    async with KeyServer(GOOD, headers={"Content-Type": kind}) as server:
        assert (await fetch(server)).body == GOOD


@pytest.mark.parametrize(
    ("said", "max_age"),
    [
        pytest.param("max-age=120", 120.0, id="max-age"),
        pytest.param('public, MAX-AGE="90", immutable', 90.0, id="quoted among others"),
        pytest.param("no-cache", 0.0, id="no-cache"),
        pytest.param("no-store, max-age=60", 0.0, id="no-store wins"),
        pytest.param("s-maxage=7", None, id="of shared caches"),
        pytest.param("max-age=-1", None, id="negative"),
        pytest.param("max-age=soon", None, id="no number"),
        pytest.param("public", None, id="nothing of the kind"),
    ],
)
async def test_it_is_told_how_long_the_server_calls_it_fresh(said: str, max_age: float | None) -> None:
    async with KeyServer(GOOD, headers={"Cache-Control": said}) as server:
        assert (await fetch(server)).max_age == max_age


async def test_a_redirect_is_not_followed() -> None:
    async with KeyServer(GOOD) as other:
        async with KeyServer(b"", 302, {"Location": other.url}) as server:
            assert "302" in await why_not(server)
        assert other.asked == []


@pytest.mark.parametrize("status", [201, 204, 304, 404, 500, 503])
async def test_an_answer_other_than_200_is_none(status: int) -> None:
    async with KeyServer(GOOD, status) as server:
        assert str(status) in await why_not(server)


async def test_an_answer_without_end_is_cut_off() -> None:
    async with KeyServer(b" " * 5_000_000) as server:
        assert "64 KiB" in await why_not(server)


async def test_a_packed_answer_is_not_unpacked() -> None:
    async with KeyServer(gzip.compress(b" " * 5_000_000), headers={"Content-Encoding": "gzip"}) as server:
        assert "compressed" in await why_not(server)
        assert server.sent[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "slow", [pytest.param({"delay": 9.0}, id="no answer"), pytest.param({"drip": 0.02}, id="byte by byte")]
)
async def test_a_slow_server_is_given_up_in_time(slow: dict[str, float]) -> None:
    async with KeyServer(GOOD) as server:
        server.delay, server.drip = slow.get("delay", 0.0), slow.get("drip", 0.0)
        begun = time.monotonic()
        assert "in time" in await why_not(server, 0.3)
        assert time.monotonic() - begun < 1.0


async def test_a_server_that_hangs_up_or_is_not_there_is_a_failure() -> None:
    async with KeyServer(GOOD, hang_up=True) as server:
        assert "no HTTP" in await why_not(server)
    assert "not reached" in await why_not(server)


async def test_a_server_that_speaks_something_else_is_a_failure_and_is_not_quoted() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-secret\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(speak, "127.0.0.1", 0)
    reason = await why_not(KeyServer(port=other.sockets[0].getsockname()[1]))
    other.close()
    await other.wait_closed()
    assert "no HTTP" in reason
    assert "secret" not in reason


async def test_cookies_are_not_kept_and_nothing_tells_who_is_asked_for() -> None:
    async with KeyServer(GOOD, headers={"Set-Cookie": "session=1"}) as server, KeyClient("pkb-gateway/test") as client:
        for _ in range(2):
            await client.fetch(server.url, SECONDS)
        assert [set(each) for each in server.sent] == [
            {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
        ] * 2


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with KeyServer(GOOD) as server, KeyServer(b"{}") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await fetch(server)).body == GOOD
        assert proxy.asked == []


async def test_over_https_the_servers_certificate_is_checked(tmp_path: Path) -> None:
    shown, trust = certificate_for("127.0.0.1", tmp_path)
    async with KeyServer(GOOD, certificate=shown) as server:
        assert (await fetch(server, trust=trust)).body == GOOD
        assert "Certificate" in await why_not(server)


async def test_a_certificate_for_another_name_is_none(tmp_path: Path) -> None:
    shown, trust = certificate_for("elsewhere.example", tmp_path)
    async with KeyServer(GOOD, certificate=shown) as server:
        assert "Certificate" in await why_not(server, trust=trust)
        assert server.asked == []


def test_a_client_that_does_not_check_names_is_not_made() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="verifies names"):
        KeyClient("x", ssl_context=context)
