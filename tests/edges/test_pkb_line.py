import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from yarl import URL

from gateway.flow.ports import Message
from gateway.pkb.credentials import TokenSettings
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import HttpClient, HttpFault, Reuse
from gateway.pkb.line import Line
from tests.edges.pkb_bench import CANCEL, CUSTOMER, GET, PATIENT, PUT, SENDER, TOKEN, cancelled, granted, soon
from tests.edges.pkb_documents import appointment, patient
from tests.edges.raw_upstream import HANG_UP, RawUpstream, Reply, raw_upstream, reply


@dataclass
class Heard:
    """An observer that notes what it was told."""

    exchanges: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, route: str, message: str, result: str, seconds: float) -> None:
        self.exchanges.append((route, str(message), str(result)))
        self.seconds.append(seconds)


def failing(route: str, message: str, result: str, seconds: float) -> None:
    raise RuntimeError(route, message, result, seconds)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, held so that nobody else gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_every_exchange_of_a_cancel_is_told_to_every_observer_even_beside_one_that_fails() -> None:
    first, second = Heard(), Heard()
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        upstream.on(TOKEN, granted("t1"), granted("t2"))
        upstream.on(GET, reply(401), reply(200, appointment(), {"ETag": 'W/"17"'}))
        upstream.on(PATIENT, reply(200, patient()))
        upstream.on(PUT, reply(200, cancelled()))
        line = Line(http, "airedale-box", (first, failing, second))
        settings = BoxSettings(f"{upstream.url}/fhir", TokenSettings(f"{upstream.url}/token", "gateway", "secret"))
        box = CustomerFhir(settings, line, lambda: 0.0, lambda _event, /, **_facts: None)

        sighting = await box.read(CUSTOMER, "a1", soon(), fresh=True)
        assert sighting is not None
        await box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)
        await box.close()

    assert first.exchanges == second.exchanges
    assert first.exchanges == [
        ("airedale-box", message, result)
        for message, result in (
            ("token", "ok"),
            ("read", "refused"),
            ("token", "ok"),
            ("read", "ok"),
            ("patient", "ok"),
            ("write", "ok"),
        )
    ]


async def result_of(upstream: RawUpstream, seconds: float = 5.0, fence: Callable[[], bool] = lambda: True) -> str:
    """Send one message down a line, and give the one result that its observer heard."""
    heard = Heard()
    async with HttpClient("gateway/test") as http:
        line = Line(http, "airedale-box", (heard,))
        url = URL(f"{upstream.url}/thing", encoded=True)
        with contextlib.suppress(HttpFault):
            await line.send(Message.WRITE, "PUT", url, {}, soon(seconds), body=b"{}", reuse=Reuse.NEVER, fence=fence)
    ((_, _, result),) = heard.exchanges
    return result


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (reply(200, b"{}"), "ok"),
        (reply(201), "ok"),
        (reply(404), "absent"),
        (reply(410), "absent"),
        (reply(400), "refused"),
        (reply(401), "refused"),
        (reply(412), "refused"),
        (reply(302, headers={"Location": "/elsewhere"}), "failed"),
        (reply(500), "failed"),
        (reply(503), "failed"),
        (Reply(b"no http\r\n\r\n", close=True), "unreadable"),
        (reply(200, b"{}", {"Content-Encoding": "gzip"}), "unreadable"),
        (HANG_UP, "broken"),
        (reply(200, b"{}", length=10, close=True), "broken"),
        (reply(200, b"{}", wait=5.0), "timeout"),
    ],
)
async def test_a_result_says_how_an_exchange_ended(answer: Reply, result: str) -> None:
    async with raw_upstream() as upstream:
        upstream.on("PUT /thing", answer)

        assert await result_of(upstream, 0.3) == result


async def test_a_message_without_connection_and_one_kept_back_are_told_as_such(closed_port: int) -> None:
    assert await result_of(RawUpstream(closed_port)) == "not-connected"
    async with raw_upstream() as upstream:
        assert await result_of(upstream, fence=lambda: False) == "withheld"


async def test_an_exchange_that_nobody_waits_for_any_more_is_told_with_its_time() -> None:
    heard = Heard()
    async with raw_upstream() as upstream, HttpClient("gateway/test") as http:
        upstream.on("GET /thing", reply(200, b"{}", wait=5.0))
        url = URL(f"{upstream.url}/thing", encoded=True)
        asked = asyncio.create_task(Line(http, "b", (heard,)).send(Message.READ, "GET", url, {}, soon()))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    assert heard.exchanges == [("b", "read", "abandoned")]
    assert 0.05 < heard.seconds[0] < 5.0
