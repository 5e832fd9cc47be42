"""Whoever was let in through the turnstile gives the place back, however the request ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.domain.grant import Policy
from gateway.partner.desk import Desk, EdgeLimits
from gateway.partner.documents import Documents
from gateway.partner.http_edge import HttpEdge
from gateway.partner.protocol import partner_runner
from gateway.partner.routes import Api, Seen
from gateway.partner.shedding import Turnstile
from tests.edges.raw_requests import get
from tests.edges.wire_bench import QUICK, Wire, WireBench, wire


class Pages:
    """Answers every document, or fails to."""

    def __init__(self, *, broken: bool) -> None:
        self._broken = broken

    def answer(self, *_: object) -> web.Response:
        if self._broken:
            raise RuntimeError("no such document")
        return web.Response(text="here")


class FirstSteps:
    """Of the desk only what a request without a partner comes to."""

    limits = EdgeLimits(body=100, deadline=5.0, in_flight=10, not_found_step=0.0)

    def policy(self) -> Policy:
        return Policy("", {}, {}, ())


@asynccontextmanager
async def line(documents: Pages, turnstile: Turnstile, seen: list[Seen]) -> AsyncIterator[Wire]:
    unused = cast("Any", None)
    desk = cast("Desk", FirstSteps())
    api = Api(desk, unused, unused, cast("Documents", documents), seen.append, turnstile=turnstile)
    bench = WireBench()
    runner = partner_runner(api.handle, HttpEdge(bench.on_malformed, bench.on_fault, lambda: "new", QUICK))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.port = runner.addresses[0][1]
    try:
        async with wire(bench) as opened:
            yield opened
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("broken", "status"), [(False, 200), (True, 500)], ids=["an answer", "a fault"])
async def test_an_answered_request_gives_its_place_back(broken: bool, status: int) -> None:
    rounds: list[Callable[[], None]] = []
    turnstile = Turnstile(soon=rounds.append, few=1)
    for _ in range(3):
        async with line(Pages(broken=broken), turnstile, []) as opened:
            await opened.send(get(target="/_ping"))
            assert (await opened.answer()).status == status
    assert rounds == [], "each was the only one inside"
