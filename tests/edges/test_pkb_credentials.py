import asyncio
import base64
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import pytest

from gateway.domain.codes import Code
from gateway.flow.ports import UpstreamFault
from gateway.pkb.credentials import Credentials, TokenSettings, TokenStyle
from gateway.pkb.http import HttpClient
from gateway.pkb.line import Line
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, raw_upstream, reply


def granted(token: str, **members: object) -> Reply:
    return reply(200, {"access_token": token, "token_type": "Bearer", "expires_in": 100} | members)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[RawUpstream]:
    async with raw_upstream() as upstream:
        yield upstream


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def credentials(server: RawUpstream, clock: Clock) -> AsyncIterator[Credentials]:
    async with HttpClient("gateway/test") as http:
        held = Credentials(TokenSettings(f"{server.url}/token", "id", "s&cret"), Line(http), clock)
        yield held
        await held.close()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def settled(credentials: Credentials) -> None:
    if credentials._fetching is not None:
        await asyncio.wait({credentials._fetching})


async def test_the_token_is_asked_for_in_the_body(credentials: Credentials, server: RawUpstream) -> None:
    server.on("POST /token", granted("t1"))

    assert await credentials.token(soon()) == "t1"

    asked = server.heard[0]
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["id"],
        "client_secret": ["s&cret"],
    }
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in asked.headers


async def test_the_token_is_asked_for_with_basic(server: RawUpstream, clock: Clock) -> None:
    server.on("POST /token", granted("t1"))
    async with HttpClient("gateway/test") as http:
        settings = TokenSettings(f"{server.url}/token", "i:d", "s cret", TokenStyle.BASIC)
        await Credentials(settings, Line(http), clock).token(soon())

    asked = server.heard[0]
    scheme, _, pair = asked.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(pair) == b"i%3Ad:s+cret"
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"]}
    assert "s cret" not in repr(settings)


async def test_many_callers_share_one_request(credentials: Credentials, server: RawUpstream) -> None:
    server.on("POST /token", granted("t1"), granted("t2"))

    tokens = await asyncio.gather(*(credentials.token(soon()) for _ in range(50)))

    assert set(tokens) == {"t1"}
    assert server.count("POST /token") == 1


async def test_a_token_is_replaced_ahead_of_its_end_while_it_is_used(
    credentials: Credentials, server: RawUpstream, clock: Clock
) -> None:
    server.on("POST /token", granted("t1"), granted("t2"))
    await credentials.token(soon())
    clock.now = 79.9
    assert await credentials.token(soon()) == "t1"
    await settled(credentials)
    assert server.count("POST /token") == 1

    clock.now = 80.0
    assert await credentials.token(soon()) == "t1"
    await settled(credentials)

    assert await credentials.token(soon()) == "t2"
    assert server.count("POST /token") == 2


async def test_a_replacement_that_fails_is_tried_again_a_second_later(
    credentials: Credentials, server: RawUpstream, clock: Clock
) -> None:
    server.on("POST /token", granted("t1"), reply(503), granted("t2"))
    await credentials.token(soon())
    clock.now = 85.0
    for _ in range(3):
        assert await credentials.token(soon()) == "t1"
        await settled(credentials)
    assert server.count("POST /token") == 2

    clock.now = 86.0
    assert await credentials.token(soon()) == "t1"
    await settled(credentials)

    assert await credentials.token(soon()) == "t2"


async def test_an_ended_token_is_waited_for(credentials: Credentials, server: RawUpstream, clock: Clock) -> None:
    server.on("POST /token", granted("t1"), granted("t2"))
    await credentials.token(soon())
    clock.now = 100.0

    assert await credentials.token(soon()) == "t2"


async def test_a_refused_token_is_dropped_once(credentials: Credentials, server: RawUpstream) -> None:
    server.on("POST /token", granted("t1"), granted("t2"), granted("t3"))
    await credentials.token(soon())

    for _ in range(5):
        credentials.drop("t1")
        assert await credentials.token(soon()) == "t2"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(reply(400, {"error": "invalid_client"}), Code.UPSTREAM_REFUSED, id="400"),
        pytest.param(reply(401), Code.UPSTREAM_REFUSED, id="401"),
        pytest.param(reply(403), Code.UPSTREAM_REFUSED, id="403"),
        pytest.param(reply(408), Code.UPSTREAM_UNAVAILABLE, id="408"),
        pytest.param(reply(429), Code.UPSTREAM_UNAVAILABLE, id="429"),
        pytest.param(reply(500), Code.UPSTREAM_UNAVAILABLE, id="500"),
        pytest.param(HANG_UP, Code.UPSTREAM_UNAVAILABLE, id="dropped"),
        pytest.param(reply(302, headers={"Location": "/x"}), Code.UPSTREAM_INVALID, id="a redirect"),
        pytest.param(reply(201), Code.UPSTREAM_INVALID, id="201"),
        pytest.param(reply(200, b"<html>"), Code.UPSTREAM_INVALID, id="HTML"),
        pytest.param(reply(200, b"[]"), Code.UPSTREAM_INVALID, id="no object"),
        pytest.param(granted("a b"), Code.UPSTREAM_INVALID, id="a token with a space"),
        pytest.param(granted("a\r\nX: b"), Code.UPSTREAM_INVALID, id="a token with a line break"),
        pytest.param(granted(""), Code.UPSTREAM_INVALID, id="an empty token"),
        pytest.param(granted("t", token_type="mac"), Code.UPSTREAM_INVALID, id="another kind of token"),
        pytest.param(granted("t", expires_in="soon"), Code.UPSTREAM_INVALID, id="a lifetime in words"),
        pytest.param(granted("t", expires_in=0), Code.UPSTREAM_INVALID, id="no lifetime"),
        pytest.param(granted("t", expires_in=1.5), Code.UPSTREAM_INVALID, id="a broken lifetime"),
    ],
)
async def test_no_token_is_told_as_its_kind(
    credentials: Credentials, server: RawUpstream, answer: Reply, code: Code
) -> None:
    server.on("POST /token", answer)

    with pytest.raises(UpstreamFault) as caught:
        await credentials.token(soon())

    assert caught.value.code is code


@pytest.mark.parametrize(("lifetime", "lasts"), [(None, 60), (10**17, 86_400)], ids=["not said", "far too long"])
async def test_a_lifetime_is_bounded(
    credentials: Credentials, server: RawUpstream, clock: Clock, lifetime: int | None, lasts: int
) -> None:
    members = {} if lifetime is None else {"expires_in": lifetime}
    server.on("POST /token", reply(200, {"access_token": "t1", "token_type": "bearer"} | members), granted("t2"))
    await credentials.token(soon())
    clock.now = float(lasts)

    assert await credentials.token(soon()) == "t2"


async def test_one_caller_without_time_does_not_stop_the_others(credentials: Credentials, server: RawUpstream) -> None:
    slow = granted("t1")
    server.on("POST /token", Reply(slow.raw, wait=0.2))
    patient = asyncio.create_task(credentials.token(soon()))

    with pytest.raises(UpstreamFault) as caught:
        await credentials.token(soon(0.05))

    assert caught.value.code is Code.UPSTREAM_TIMEOUT
    assert await patient == "t1"
    assert server.count("POST /token") == 1


async def test_a_slow_token_server_is_unavailable(
    credentials: Credentials, server: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pkb.credentials.FETCH_SECONDS", 0.05)
    server.on("POST /token", Reply(b"", wait=5))

    with pytest.raises(UpstreamFault) as caught:
        await credentials.token(soon())

    assert caught.value.code is Code.UPSTREAM_UNAVAILABLE


async def test_closing_stops_a_request_under_way(credentials: Credentials, server: RawUpstream) -> None:
    server.on("POST /token", Reply(b"", wait=5))
    waiting = asyncio.create_task(credentials.token(soon()))
    await asyncio.sleep(0.05)

    await credentials.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("url", ["ftp://x.example/token", "https://x.example/token?a=b"])
async def test_a_bad_token_address_is_refused(url: str, clock: Clock) -> None:
    with pytest.raises(ValueError, match="address"):
        Credentials(TokenSettings(url, "id", "secret"), Line(HttpClient("gateway/test")), clock)
