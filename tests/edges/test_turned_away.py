"""Who is turned away for want of room gets the same answer by the short way as by the long one; nobody else does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.domain.grant import Policy
from gateway.partner.answers import Answers
from gateway.partner.desk import Desk, EdgeLimits
from gateway.partner.http_edge import HttpEdge
from gateway.partner.protocol import partner_runner
from gateway.partner.routes import Api, Seen
from gateway.partner.shedding import CALM, PLACES, Turnstile
from tests.edges.raw_requests import get, post
from tests.edges.wire_bench import QUICK, Answer, Wire, WireBench, wire

ID = "5ab5fbd9-1c2d-4a5e-8f00-000000000001"
OTHER = "5ab5fbd9-1c2d-4a5e-8f00-000000000002"
IDS = (f"X-Request-Id: {ID}", f"X-Correlation-Id: {OTHER}")
READ = "/airedale/fhir/Appointment/a-1"


def _never(*_: object) -> None:
    """Let no round end."""


@dataclass
class Crowd:
    """An API behind a turnstile at which as many wait as may, for as long as a test wants."""

    now: float = 100.0
    seen: list[Seen] = field(default_factory=list)
    shed: list[str] = field(default_factory=list)
    records: list[Mapping[str, object]] = field(default_factory=list)
    waiting: list[asyncio.Task[bool]] = field(default_factory=list)
    limits = EdgeLimits(body=100, deadline=5.0, in_flight=1000, not_found_step=0.0)

    def __post_init__(self) -> None:
        self.turnstile = Turnstile(lambda: self.now, _never, _never, few=1, many=1)
        self.answers = Answers("https://codes.example", "https://gateway.example", timedelta(hours=1))
        self.ledger = self
        unused = cast("Any", None)
        desk = cast("Desk", self)
        self.api = Api(desk, unused, unused, unused, self.seen.append, shed=self.shed.append, turnstile=self.turnstile)

    def clock(self) -> datetime:
        return datetime(2026, 11, 28, tzinfo=UTC)

    def policy(self) -> Policy:
        return Policy("", {}, {}, ())

    def refused_unauthenticated(self, record: Mapping[str, object], _address: str) -> None:
        self.records.append(record)

    async def fill(self, places: int = PLACES) -> None:
        """Let so many wait, in an overload."""
        self.turnstile.turn_away()
        while len(self.turnstile) < places:
            self.waiting.append(asyncio.create_task(self.turnstile.enter()))
            await asyncio.sleep(0)
        assert self.turnstile.is_full() is (places == PLACES)

    async def empty(self) -> None:
        for task in self.waiting:
            task.cancel()
        await asyncio.gather(*self.waiting, return_exceptions=True)


@asynccontextmanager
async def crowd(*, short: bool = True, places: int = PLACES) -> AsyncIterator[tuple[Crowd, WireBench]]:
    here, bench = Crowd(), WireBench()
    handled = bench.handled

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        handled.append(request.path)
        return await here.api.handle(request)

    ways = {"is_full": here.api.is_full, "turn_away": here.api.turn_away} if short else {}
    edge = HttpEdge(bench.on_malformed, bench.on_fault, lambda: "new", QUICK, **cast("Any", ways))
    runner = partner_runner(handle, edge)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.port = runner.addresses[0][1]
    await here.fill(places)
    try:
        yield here, bench
    finally:
        await here.empty()
        await runner.cleanup()


async def ask(bench: WireBench, *requests: bytes) -> list[Answer]:
    async with wire(bench) as opened:
        return [await answer_of(opened, each) for each in requests]


async def answer_of(opened: Wire, request: bytes) -> Answer:
    await opened.send(request)
    return await opened.answer()


WHOLE = [
    pytest.param(get(*IDS, target=READ), id="a read"),
    pytest.param(get(target=READ), id="a read without ids"),
    pytest.param(post(*IDS, "Content-Length: 2", body=b"{}", target=READ + "/$cancel"), id="a cancel"),
    pytest.param(post(*IDS, "Content-Length: 3", body=b"a=b", target="/oauth2/token"), id="a token"),
    pytest.param(get(target="/docs"), id="a document"),
]


@pytest.mark.parametrize("request_bytes", WHOLE)
async def test_the_short_way_answers_records_and_counts_what_the_long_way_does(request_bytes: bytes) -> None:
    told = []
    for short in (True, False):
        async with crowd(short=short) as (here, bench):
            (answer,) = await ask(bench, request_bytes)
            answer.headers.pop("date")
            (seen,) = here.seen
            told.append((answer, here.records, here.shed, seen.route, seen.status, seen.code, seen.request_id))
            assert (bench.handled == []) is short
    assert told[0] == told[1]
    answer = told[0][0]
    assert (answer.status, answer.headers["retry-after"], "server" in answer.headers) == (503, "1", False)


async def test_the_answer_has_the_ids_and_the_time() -> None:
    async with crowd() as (_, bench):
        (answer,) = await ask(bench, get(*IDS, target=READ))
    assert (answer.headers["x-request-id"], answer.headers["x-correlation-id"]) == (ID, OTHER)
    assert answer.headers["date"].endswith("GMT")


async def test_the_connection_carries_the_next_request_whichever_way_that_goes() -> None:
    async with crowd() as (here, bench), wire(bench) as opened:
        for _ in range(3):
            assert (await answer_of(opened, get(target=READ))).status == 503
        assert bench.handled == []
        here.now += CALM + 1.0
        await here.empty()
        assert (await answer_of(opened, get(target="/nowhere"))).status == 404
        assert bench.handled == ["/nowhere"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(get(target="/nowhere"), 404, id="no such path"),
        pytest.param(post("Content-Length: 0", target=READ), 405, id="no such method"),
        pytest.param(get("Host: other", target=READ), 400, id="two hosts"),
        pytest.param(get(target="/a//b"), 400, id="no target"),
        pytest.param(b"GET\r\n\r\n", 400, id="no request"),
        pytest.param(
            post("Content-Length: 2", "Idempotency-Key: a b", body=b"{}", target=READ + "/$cancel"), 400, id="no key"
        ),
    ],
)
async def test_what_is_wrong_at_an_earlier_step_is_told_although_there_is_no_room(
    request_bytes: bytes, status: int
) -> None:
    async with crowd() as (here, bench):
        (answer,) = await ask(bench, request_bytes)
    assert (answer.status, here.shed) == (status, [])


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(get("Connection: close", target=READ), id="the last of its connection"),
        pytest.param(get(target=READ, version="HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(post("Content-Length: 9", body=b"{}", target=READ + "/$cancel"), id="half a body"),
        pytest.param(
            post("Transfer-Encoding: chunked", body=b"0\r\n\r\n", target=READ + "/$cancel"), id="a chunked body"
        ),
    ],
)
async def test_what_leaves_the_connection_unusable_is_turned_away_by_the_long_way_and_closed(
    request_bytes: bytes,
) -> None:
    async with crowd() as (here, bench), wire(bench) as opened:
        assert (await answer_of(opened, request_bytes)).status == 503
        assert await opened.closed()
        assert (len(bench.handled), here.shed) == (1, ["turnstile"])


async def test_requests_that_came_together_are_all_answered_in_their_order() -> None:
    async with crowd() as (here, bench), wire(bench) as opened:
        await opened.send(get(*IDS, target=READ) + get(f"X-Request-Id: {OTHER}", target=READ))
        first, second = await opened.answer(), await opened.answer()
        assert (first.status, second.status, here.shed) == (503, 503, ["turnstile"] * 2)
        assert [first.headers["x-request-id"], second.headers["x-request-id"]] == [ID, OTHER]


async def test_a_head_that_comes_in_pieces_is_waited_for() -> None:
    async with crowd() as (here, bench), wire(bench) as opened:
        request = get(*IDS, target=READ)
        await opened.send(request[:20])
        await asyncio.sleep(0.05)
        assert here.shed == []
        assert (await answer_of(opened, request[20:])).status == 503


async def test_while_the_gateway_drains_nobody_is_told_that_it_is_overloaded() -> None:
    async with crowd() as (here, bench):
        here.api.draining = True
        (answer,) = await ask(bench, get(target=READ))
    assert b"draining" in answer.body
    assert here.shed == []


async def test_beyond_the_hard_cap_it_is_full_without_an_overload() -> None:
    async with crowd() as (here, bench):
        here.now += CALM + 1.0
        await here.empty()
        here.api.in_flight = here.limits.in_flight
        (answer,) = await ask(bench, get(target=READ))
    assert (answer.status, here.shed, bench.handled) == (503, ["in-flight"], [])


async def test_an_idle_connection_that_was_only_turned_away_is_closed_in_time() -> None:
    async with crowd() as (_, bench), wire(bench) as opened:
        assert (await answer_of(opened, get(target=READ))).status == 503
        assert await opened.closed(within=QUICK.keep_alive + 2)


async def test_requests_on_their_way_take_the_places_of_those_who_come_behind_them() -> None:
    """Those that one round of the event loop brings are let through before any of them is at the turnstile."""
    async with AsyncExitStack() as stack, crowd(places=PLACES - 1) as (_, bench):
        wires = [await stack.enter_async_context(wire(bench)) for _ in range(6)]
        await asyncio.sleep(0.05)
        for each in wires:
            each.writer.write(get(target=READ))
        answers = [asyncio.create_task(each.answer()) for each in wires]
        told, waiting = await asyncio.wait(answers, timeout=1)
        for late in waiting:
            late.cancel()
        assert ([each.result().status for each in told], len(waiting)) == ([503] * 5, 1), "one place was free"
        assert len(bench.handled) == 1


@pytest.mark.parametrize("first", ["/slow", "/big"], ids=["handled", "answered to nobody who reads"])
async def test_a_request_behind_one_that_is_not_answered_yet_is_not_on_its_way(first: str) -> None:
    """Or a few callers who take no answer would hold all places, and keep up an overload for everybody."""
    bench, told = WireBench(), list[int]()

    def is_full(coming: int) -> bool:
        told.append(coming)
        return False

    runner = partner_runner(
        bench.handle, HttpEdge(bench.on_malformed, bench.on_fault, lambda: "new", QUICK, is_full=is_full)
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.port = runner.addresses[0][1]
    try:
        async with wire(bench) as opened, wire(bench) as other:
            opened.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket reads too
            await opened.send(get(target=first))
            await asyncio.sleep(0.05)
            await opened.send(get(target="/next"))
            await asyncio.sleep(0.05)
            assert (await answer_of(other, get())).status == 200
        assert (bench.handled[:2], told[-1]) == ([first, "/x"], 0)
    finally:
        await runner.cleanup()


async def test_requests_on_their_way_do_not_count_towards_the_hard_cap() -> None:
    """Many of them are answered before the next one is looked at."""
    async with crowd() as (here, _):
        here.now += CALM + 1.0
        here.api.in_flight = here.limits.in_flight - 1
        assert not here.api.is_full(5)
        here.api.in_flight += 1
        assert here.api.is_full(0)
