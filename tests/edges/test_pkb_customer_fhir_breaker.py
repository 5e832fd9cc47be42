"""What opens the breaker of a box, and what never does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.domain.codes import Code
from gateway.flow.ports import NotSent
from gateway.pkb.breaker import BreakerState
from tests.edges.pkb_bench import (
    CANCEL,
    CUSTOMER,
    GET,
    HTML,
    HUGE,
    PUT,
    SENDER,
    Bench,
    box,
    cancelled,
    soon,
)
from tests.edges.pkb_documents import appointment
from tests.edges.raw_upstream import HANG_UP, Reply, reply


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with box() as bench:
        yield bench


def state(bench: Bench) -> BreakerState:
    return bench.box.state


async def test_twenty_failed_requests_open_the_breaker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.answers.SHORTEST_PAUSE", 0.001)
    sighting = await bench.sighting()
    bench.upstream.on(GET, reply(503))
    for _ in range(20):
        assert bench.box.state is BreakerState.CLOSED
        await bench.fault()
    asked = bench.upstream.count(GET)

    fault = await bench.fault()
    answer = await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert state(bench) is BreakerState.OPEN
    assert fault.code is Code.UPSTREAM_UNAVAILABLE
    assert isinstance(answer, NotSent)
    assert asked == bench.upstream.count(GET) == 61
    assert bench.upstream.count(PUT) == 0


async def test_failed_writes_open_the_breaker(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(PUT, *([HANG_UP, reply(500)] * 10), reply(200, cancelled()))

    for _ in range(20):
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert state(bench) is BreakerState.OPEN


@pytest.mark.parametrize(
    "answer",
    [reply(404), reply(403), reply(422), reply(429), HTML, HUGE, reply(302)],
    ids=["404", "403", "422", "429", "HTML", "huge", "302"],
)
async def test_an_answer_on_purpose_never_opens_the_breaker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, answer: Reply
) -> None:
    monkeypatch.setattr("gateway.pkb.answers.SHORTEST_PAUSE", 0.001)
    sighting = await bench.sighting()
    bench.upstream.on(GET, answer)
    bench.upstream.on(PUT, answer)
    for _ in range(11):
        await asyncio.gather(bench.read(), return_exceptions=True)
        await bench.box.write(CUSTOMER, CANCEL, sighting, soon(), sender=SENDER)

    assert state(bench) is BreakerState.CLOSED


async def test_requests_that_came_with_too_little_time_never_open_the_breaker(bench: Bench) -> None:
    sighting = await bench.sighting()
    bench.upstream.on(GET, reply(200, appointment(), wait=1))
    bench.upstream.on(PUT, reply(200, cancelled(), wait=1))

    await asyncio.gather(*(bench.read(0.05) for _ in range(15)), return_exceptions=True)
    await asyncio.gather(*(bench.box.write(CUSTOMER, CANCEL, sighting, soon(0.05), sender=SENDER) for _ in range(15)))

    assert state(bench) is BreakerState.CLOSED


async def test_timeouts_with_enough_time_open_the_breaker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pkb.customer_fhir.FAIR_SECONDS", -60.0)
    bench.upstream.on(GET, reply(200, appointment(), wait=1))
    await asyncio.gather(*(bench.read(0.05) for _ in range(20)), return_exceptions=True)

    assert state(bench) is BreakerState.OPEN
