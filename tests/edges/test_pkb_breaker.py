import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.appointment import Appointment, Cancel, Provenance, Status, Write
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Customer, CustomerKind, Ownership, Route, RouteKind
from gateway.domain.search import Query, Reach
from gateway.flow.ports import Doubt, NotSent, Sender, Sighting, Turned, Upstream, UpstreamFault, WriteAnswer
from gateway.flow.search import Page, Place
from gateway.pkb.breaker import Breaker, BreakerOpen, BreakerState, Bulkhead, Overloaded
from gateway.pkb.upstreams import Upstreams
from tests.edges.pkb_bench import SENDER


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def once(breaker: Breaker, *, failed: bool | None) -> None:
    with breaker.attempt() as attempt:
        attempt.failed = failed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


@pytest.fixture
def opened(breaker: Breaker) -> Breaker:
    for _ in range(20):
        once(breaker, failed=True)
    return breaker


def test_the_breaker_opens_at_the_twentieth_failure_in_a_row(breaker: Breaker) -> None:
    for _ in range(19):
        once(breaker, failed=True)
    assert state(breaker) is BreakerState.CLOSED

    once(breaker, failed=True)

    assert state(breaker) is BreakerState.OPEN
    with pytest.raises(BreakerOpen):
        once(breaker, failed=False)


def test_one_success_begins_the_row_again(breaker: Breaker) -> None:
    for _ in range(19):
        once(breaker, failed=True)
    once(breaker, failed=False)
    for _ in range(19):
        once(breaker, failed=True)

    assert state(breaker) is BreakerState.CLOSED


def test_what_proves_nothing_does_not_count(breaker: Breaker) -> None:
    for _ in range(19):
        once(breaker, failed=True)
    once(breaker, failed=None)
    once(breaker, failed=True)

    assert state(breaker) is BreakerState.OPEN


def test_two_seconds_later_a_single_trial_is_let_through(opened: Breaker, clock: Clock) -> None:
    clock.now += 1.99
    with pytest.raises(BreakerOpen):
        once(opened, failed=False)
    clock.now += 0.01

    with opened.attempt() as trial:
        assert state(opened) is BreakerState.TRIAL
        with pytest.raises(BreakerOpen):
            once(opened, failed=False)
        trial.failed = False

    assert state(opened) is BreakerState.CLOSED
    once(opened, failed=True)
    assert state(opened) is BreakerState.CLOSED


def test_a_failed_trial_opens_for_another_pause(opened: Breaker, clock: Clock) -> None:
    clock.now += 2
    once(opened, failed=True)
    clock.now += 1.9

    with pytest.raises(BreakerOpen):
        once(opened, failed=False)


def test_a_trial_that_was_given_up_leaves_room_for_the_next(opened: Breaker, clock: Clock) -> None:
    clock.now += 2
    with pytest.raises(asyncio.CancelledError), opened.attempt():
        raise asyncio.CancelledError

    once(opened, failed=False)

    assert state(opened) is BreakerState.CLOSED


def test_a_request_from_before_says_nothing_about_an_open_breaker(breaker: Breaker, clock: Clock) -> None:
    with breaker.attempt() as early:
        for _ in range(20):
            once(breaker, failed=True)
        early.failed = False

    assert state(breaker) is BreakerState.OPEN


async def test_a_customer_has_its_own_places() -> None:
    bulkhead = Bulkhead(2, patience=0.0)
    async with bulkhead.place("a"), bulkhead.place("a"):
        assert bulkhead.under_way == {"a": 2}
        with pytest.raises(Overloaded):
            async with bulkhead.place("a"):
                pass
        async with bulkhead.place("b"):
            pass
    assert bulkhead.under_way == {}


async def test_a_burst_waits_for_its_places() -> None:
    bulkhead, most = Bulkhead(2, patience=5.0), 0

    async def visit() -> None:
        nonlocal most
        async with bulkhead.place("a"):
            most = max(most, bulkhead.under_way["a"])
            await asyncio.sleep(0)

    await asyncio.gather(*(visit() for _ in range(6)))

    assert most == 2
    assert bulkhead._customers == {}


async def test_only_so_many_may_wait() -> None:
    bulkhead = Bulkhead(1, patience=5.0)

    async def visit() -> str:
        try:
            async with bulkhead.place("a"):
                await asyncio.sleep(0.01)
        except Overloaded:
            return "turned away"
        return "served"

    assert sorted(await asyncio.gather(*(visit() for _ in range(5)))) == ["served"] * 3 + ["turned away"] * 2


async def test_nobody_waits_for_ever() -> None:
    bulkhead = Bulkhead(1, patience=0.02)
    async with bulkhead.place("a"):
        with pytest.raises(Overloaded):
            async with bulkhead.place("a"):
                pass
        assert bulkhead.under_way == {"a": 1}


def customer(route: str) -> Customer:
    return Customer(
        "airedale",
        "Airedale",
        CustomerKind.ORGANISATION,
        "Organization/airedale",
        Route(route, RouteKind.CUSTOMER_FHIR, Ownership.MANAGING_ORGANISATION),
        ZoneInfo("Europe/London"),
        frozenset({"GENERAL_HEALTH"}),
    )


NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGHTING = Sighting(Appointment("1", "1", Status.BOOKED, NOW, NOW, Provenance(0), None), b"{}", None)
CANCEL = Cancel(())
QUERY = Query(identifier=Coding("urn:pas", "1"))


@dataclass
class Box:
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)
    closed: bool = False
    state: BreakerState = BreakerState.CLOSED

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        self.calls.append(f"read {appointment}")
        await self.gate.wait()
        return SIGHTING

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        self.calls.append(f"write {sighting.appointment.id} as {sender.partner}")
        return Turned(Code.VERSION_CONFLICT, 412)

    async def search(self, customer: Customer, query: Query, reach: Reach, place: Place, deadline: float) -> Page:
        self.calls.append(f"search page {place.page}")
        await self.gate.wait()
        return Page((), more=False)

    async def close(self) -> None:
        self.closed = True


async def test_the_customers_route_chooses_the_upstream() -> None:
    first, second = Box(), Box(state=BreakerState.OPEN)
    second.gate.set()
    upstreams = Upstreams({"first": first, "second": second}, 4)
    port: Upstream = upstreams

    assert await port.read(customer("second"), "1", 0.0, fresh=True) is SIGHTING
    assert await upstreams.search(customer("second"), QUERY, Reach(), Place(3), 0.0) == Page((), more=False)
    assert await port.write(customer("second"), CANCEL, SIGHTING, 0.0, sender=SENDER) == Turned(
        Code.VERSION_CONFLICT, 412
    )

    assert (first.calls, second.calls) == ([], ["read 1", "search page 3", "write 1 as swiftbook"])
    assert upstreams.states == {"first": BreakerState.CLOSED, "second": BreakerState.OPEN}
    await upstreams.close()
    assert first.closed
    assert second.closed


async def test_a_customer_over_its_limit_is_not_served() -> None:
    box = Box()
    shed: list[None] = []
    upstreams = Upstreams({"box": box}, 1, patience=0.0, shed=lambda: shed.append(None))
    under_way = asyncio.create_task(upstreams.read(customer("box"), "1", 0.0, fresh=True))
    await asyncio.sleep(0)
    assert upstreams.under_way == {"airedale": 1}

    with pytest.raises(UpstreamFault) as caught:
        await upstreams.read(customer("box"), "2", 0.0, fresh=True)
    with pytest.raises(UpstreamFault) as caught_searching:
        await upstreams.search(customer("box"), QUERY, Reach(), Place(), 0.0)
    answer = await upstreams.write(customer("box"), CANCEL, SIGHTING, 0.0, sender=SENDER)

    assert (caught.value.code, caught_searching.value.code) == (Code.OVERLOADED, Code.OVERLOADED)
    assert isinstance(answer, NotSent)
    assert box.calls == ["read 1"]
    assert len(shed) == 3
    box.gate.set()
    await under_way
    assert upstreams.under_way == {}


async def test_a_route_that_does_not_exist_is_unavailable() -> None:
    upstreams = Upstreams({}, 1)

    with pytest.raises(UpstreamFault) as caught:
        await upstreams.read(customer("box"), "2", 0.0, fresh=True)

    assert caught.value.code is Code.UPSTREAM_UNAVAILABLE
    with pytest.raises(UpstreamFault):
        await upstreams.search(customer("box"), QUERY, Reach(), Place(), 0.0)
    assert isinstance(await upstreams.write(customer("box"), CANCEL, SIGHTING, 0.0, sender=SENDER), NotSent)


@dataclass
class Told:
    """Hears of trouble, and fails at it where it is told to."""

    heard: list[tuple[str, str, str, object]] = field(default_factory=list)
    fails: bool = False

    def __call__(self, what: str, /, *, route: str, reason: str, status: int | str | None) -> None:
        self.heard.append((what, route, reason, status))
        if self.fails:
            raise OSError("no log")


@dataclass
class Troubled(Box):
    """A route where nothing works."""

    answer: WriteAnswer = field(default_factory=lambda: NotSent("breaker open"))

    async def read(self, customer: Customer, appointment: str, deadline: float, *, fresh: bool) -> Sighting | None:
        raise UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "answered with an error", 503)

    async def write(
        self, customer: Customer, command: Write, sighting: Sighting, deadline: float, *, sender: Sender
    ) -> WriteAnswer:
        return self.answer


@pytest.mark.parametrize("fails", [False, True], ids=["a log that works", "a log that fails"])
async def test_trouble_is_told_with_its_reason_and_the_answer_stays_what_it_is(fails: bool) -> None:
    told, box = Told(fails=fails), Troubled()
    upstreams = Upstreams({"box": box}, 1, tell=told)

    with pytest.raises(UpstreamFault):
        await upstreams.read(customer("box"), "1", 0.0, fresh=True)
    assert await upstreams.write(customer("box"), CANCEL, SIGHTING, 0.0, sender=SENDER) == box.answer
    box.answer = Doubt("no answer in time")
    assert await upstreams.write(customer("box"), CANCEL, SIGHTING, 0.0, sender=SENDER) == box.answer
    box.answer = Turned(Code.VERSION_CONFLICT, 412)
    assert await upstreams.write(customer("box"), CANCEL, SIGHTING, 0.0, sender=SENDER) == box.answer

    assert told.heard == [
        ("not read", "box", "answered with an error", 503),
        ("not sent", "box", "breaker open", None),
        ("in doubt", "box", "no answer in time", None),
    ]
