"""What breaks, hangs up or stops in the middle of a write, and what must hold all the same."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.codes import Code
from gateway.flow.ports import Acknowledged, Doubt, JournalUnavailable, NotSent, Turned
from gateway.flow.request import Refused, Shown, Taken
from tests.flow.fakes import SILENCE, Bench, order, spin
from tests.makers import cancel

BUG = ZeroDivisionError("a bug")


async def test_a_partner_that_hangs_up_stops_neither_the_write_nor_its_outcome(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    partner = asyncio.create_task(bench.run())
    await spin()

    partner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await partner
    bench.hospital.hold.set()
    await spin()

    assert bench.paper.outcomes == [("applied", True, False)]
    assert bench.shelf.statuses[-1] == "completed"
    assert bench.writes.running == set()


@pytest.mark.parametrize("steps", range(12))
async def test_whenever_a_partner_hangs_up_every_intent_gets_its_outcome(bench: Bench, steps: int) -> None:
    partner = asyncio.create_task(bench.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    partner.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await partner
    await bench.writes.drain()

    assert len(bench.hospital.sent) == len(bench.paper.of("intent")) == len(bench.paper.of("outcome"))
    assert bench.writes.places.turns._turns == {}


async def test_draining_waits_for_every_write_that_was_begun(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()
    draining = asyncio.create_task(bench.writes.drain())
    late = asyncio.create_task(bench.run(appointment="a-9", task="t-2"))
    await spin()
    assert not draining.done()

    bench.hospital.hold.set()
    await draining

    assert bench.paper.outcomes == [("applied", True, False)]
    assert bench.writes.running == set()
    assert isinstance(await running, Shown)
    assert await late == Refused(Code.NOT_FOUND)


async def test_draining_outlives_a_write_that_fails(bench: Bench) -> None:
    bench.paper.full = True
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(0)

    await bench.writes.drain()

    with pytest.raises(JournalUnavailable):
        await running


async def test_draining_with_nothing_begun_is_over_at_once(bench: Bench) -> None:
    await bench.writes.drain()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(BUG, id="a bug of the edge"),
        pytest.param(asyncio.CancelledError(), id="a cancelled task inside the edge"),
        pytest.param(TimeoutError(), id="a timeout that the edge let through"),
    ],
)
async def test_an_edge_that_breaks_after_the_intent_leaves_an_unknown_outcome(
    bench: Bench, fault: BaseException
) -> None:
    bench.hospital.answer, bench.hospital.applies = fault, False

    answer = await bench.run()

    assert answer == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.holds(("airedale-box", "a-1"))
    assert bench.shelf.statuses[-1] == "in-progress"
    assert bench.faults == [fault]

    await bench.later(seconds=30)
    assert bench.paper.outcomes[1:] == [("rejected", True, True)]


async def test_a_read_back_that_breaks_leaves_an_unknown_outcome(bench: Bench) -> None:
    bench.doubt(applies=True)
    bench.hospital.faults = [None, BUG]

    assert await bench.run() == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.faults == [BUG]


async def test_a_process_that_stops_hard_still_records_the_write_on_the_wire(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    partner = asyncio.create_task(bench.run())
    await spin()
    (story,) = bench.writes.running

    story.cancel()

    assert await partner == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    assert bench.paper.outcomes == [("unknown", False, False)]


async def test_a_store_that_breaks_off_permits_nothing(bench: Bench) -> None:
    bench.shelf.torn = BUG

    assert await bench.run() == Refused(Code.STATE_UNAVAILABLE)

    assert bench.hospital.sent == []
    assert bench.paper.events == ["intent"]
    assert bench.open_writes.owed == 1
    bench.shelf.torn = None
    await bench.nap.over()
    assert bench.paper.outcomes == [("rejected", True, True)]
    assert bench.faults == [BUG, BUG]


async def test_a_fault_before_the_intent_sends_nothing(bench: Bench) -> None:
    bench.hospital.faults = [BUG]

    with pytest.raises(ZeroDivisionError):
        await bench.run()

    assert bench.hospital.sent == []
    assert bench.paper.written == []


ANSWERS: Any = st.sampled_from(
    [None, Doubt("d", 500), Turned(Code.VERSION_CONFLICT, 412), NotSent("n"), Acknowledged("AA", "m-1"), BUG]
)
FAULTS: Any = st.lists(st.sampled_from([None, None, SILENCE, BUG]), max_size=4)


@settings(max_examples=150)
@given(
    answer=ANSWERS,
    applies=st.booleans(),
    faults=FAULTS,
    full_for=st.sampled_from([(), (), ("intent",), ("outcome",), ("refused",)]),
    mended=st.booleans(),
)
def test_whatever_happens_an_intent_is_sent_once_and_ends_once(
    answer: Any, faults: Any, full_for: tuple[str, ...], *, applies: bool, mended: bool
) -> None:
    asyncio.run(_whatever_happens(answer, faults, full_for, applies=applies, mended=mended))


async def _whatever_happens(
    answer: Any, faults: Any, full_for: tuple[str, ...], *, applies: bool, mended: bool
) -> None:
    bench = Bench()
    bench.hospital.answer = answer
    bench.hospital.applies = answer is None or (applies and not isinstance(answer, (Turned, NotSent)))
    bench.hospital.faults = list(faults)
    bench.paper.full_for = frozenset(full_for)
    told: Any = None
    with contextlib.suppress(JournalUnavailable, ZeroDivisionError):
        told = await bench.writes.run(order())
    if mended:
        bench.paper.full_for = frozenset()

    intents, sent = bench.paper.of("intent"), bench.hospital.sent
    assert len(sent) == len(intents) <= 1
    for _ in range(3):
        await bench.later(days=7)
    endings = [record for record in bench.paper.of("outcome") if record["final"]]
    assert len(endings) + (bench.open_writes.owed > 0) == len(intents)
    assert {record["intent"] for record in endings} <= {1}
    assert len(bench.open_writes) == 0 or bench.open_writes.owed
    if isinstance(told, Shown | Taken):
        assert sent == [cancel()]
    if isinstance(told, Shown):
        assert bench.hospital.copies["a-1"].status.value == "cancelled"
    await bench.open_writes.close()
