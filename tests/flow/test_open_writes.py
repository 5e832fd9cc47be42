"""Writes in doubt are followed until they end; outcomes that are owed are paid before anything new begins."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.flow.open_writes import FIRST_LOOK, LONGEST_PAUSE, PAY_PAUSE
from gateway.flow.ports import JournalUnavailable
from gateway.flow.request import Refused, Shown
from tests.flow.fakes import ROUTE, SILENCE, UNRESOLVED, Bench, done, spin
from tests.flow.shelf import Shelf
from tests.makers import appointment, cancel

KEY = (ROUTE, "a-1")
BUG = ZeroDivisionError("a bug")
SAME = (
    "request_id",
    "correlation_id",
    "partner",
    "customer",
    "appointment",
    "task",
    "intent",
    "grant",
    "grants_digest",
    "operation",
    "patient",
    "facts",
    "reason",
    "now",
)


async def in_doubt(bench: Bench) -> None:
    """Leave a cancel in doubt that PKB has not applied yet."""
    bench.doubt(applies=False)
    assert await bench.run() == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    assert bench.paper.outcomes == [("unknown", False, False)]


async def test_a_write_in_doubt_is_followed_until_it_is_seen(bench: Bench) -> None:
    await in_doubt(bench)
    await bench.later(seconds=1)
    assert bench.paper.outcomes[1:] == []

    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    await bench.later(seconds=1)

    assert bench.paper.outcomes[1:] == [("applied", True, True)]
    assert bench.paper.of("outcome")[1]["upstream"]["version_after"] == "8"
    assert bench.shelf.statuses == ["requested", "in-progress", "in-progress", "completed"]
    ended = bench.shelf.kept[-1]
    assert (ended.outcome, ended.code, ended.version) == ("applied", None, "8")
    assert bench.hospital.sent == [cancel()]
    assert not bench.holds(KEY)


async def test_a_write_in_doubt_that_never_took_effect_is_rejected_once_writes_have_settled(bench: Bench) -> None:
    await in_doubt(bench)
    await bench.later(seconds=29)
    assert bench.holds(KEY)

    await bench.later(seconds=1)

    assert bench.paper.outcomes[1:] == [("rejected", True, True)]
    assert bench.paper.of("outcome")[1]["code"] == "upstream-refused"
    assert bench.shelf.statuses[-1] == "rejected"
    assert len(bench.open_writes) == 0


@pytest.mark.parametrize("jump", [timedelta(hours=3), timedelta(hours=-3)], ids=["ahead", "back"])
async def test_a_clock_that_jumps_makes_writes_settle_neither_sooner_nor_later(bench: Bench, jump: timedelta) -> None:
    await in_doubt(bench)
    bench.clock.now += jump

    await bench.later(seconds=29)
    assert bench.paper.outcomes[1:] == []
    await bench.later(seconds=1)

    assert bench.paper.outcomes[1:] == [("rejected", True, True)]


async def test_a_clock_that_jumps_under_the_read_back_settles_nothing(bench: Bench) -> None:
    bench.hospital.on_read = lambda: setattr(bench.clock, "now", bench.clock.now + timedelta(hours=3))

    await in_doubt(bench)
    await bench.open_writes.close()


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(days=-3)], ids=["ahead", "back"])
async def test_a_clock_that_jumps_gives_nothing_up_sooner_or_later(bench: Bench, jump: timedelta) -> None:
    await in_doubt(bench)
    bench.hospital.down = SILENCE
    bench.clock.now += jump

    await bench.later(seconds=UNRESOLVED.total_seconds() - 1)
    assert bench.paper.outcomes[1:] == []
    await bench.later(seconds=1)

    assert bench.paper.outcomes[1:] == [("unknown", True, True)]


async def test_the_last_record_repeats_what_the_first_said_of_the_request(bench: Bench) -> None:
    await in_doubt(bench)
    await bench.later(seconds=30)

    intent, unknown, last = bench.paper.written
    assert [last[name] for name in SAME] == [unknown[name] for name in SAME]
    assert last["intent"] == 1
    assert [last[name] for name in SAME if name != "intent"] == [intent[name] for name in SAME if name != "intent"]
    assert bench.paper.essential == [False, True, True]


@pytest.mark.parametrize(
    "fault",
    [pytest.param(SILENCE, id="silent"), pytest.param(BUG, id="broken by a bug")],
)
async def test_a_pkb_that_shows_nothing_leaves_the_write_open(bench: Bench, fault: BaseException) -> None:
    await in_doubt(bench)
    bench.hospital.down = fault

    await bench.later(hours=1)
    await bench.later(hours=1)

    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.holds(KEY)
    bench.hospital.down = None
    await bench.later(hours=1)
    assert bench.paper.outcomes[1:] == [("rejected", True, True)]


async def test_a_look_that_breaks_is_reported(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.down = BUG

    await bench.later(seconds=30)

    assert bench.faults == [BUG]


async def test_an_appointment_that_is_gone_stays_unknown_until_the_time_is_up(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.copies.clear()
    await bench.later(hours=23)
    assert bench.holds(KEY)

    await bench.later(hours=1)

    assert bench.paper.outcomes[1:] == [("unknown", True, True)]


async def test_what_stays_unresolved_is_closed_as_unknown_and_its_task_failed(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.down = SILENCE
    await bench.later(seconds=UNRESOLVED.total_seconds() - 1)
    assert bench.paper.outcomes[1:] == []

    await bench.later(seconds=1)

    assert bench.paper.outcomes[1:] == [("unknown", True, True)]
    assert bench.paper.of("outcome")[1]["code"] == "outcome-unknown"
    assert bench.shelf.statuses[-1] == "failed"
    assert not bench.shelf.kept[-1].open
    assert not bench.holds(KEY)
    await bench.later(hours=1)
    assert len(bench.paper.outcomes) == 2


async def test_one_that_is_seen_at_the_last_moment_is_not_closed_as_unknown(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())

    await bench.later(seconds=UNRESOLVED.total_seconds())

    assert bench.paper.outcomes[1:] == [("applied", True, True)]
    assert bench.shelf.statuses[-1] == "completed"


async def test_looks_come_ever_more_seldom_up_to_once_a_minute(bench: Bench) -> None:
    await in_doubt(bench)
    bench.hospital.down = SILENCE

    for _ in range(10):
        await bench.later(minutes=1)

    looks = bench.nap.asked
    assert looks[:4] == [FIRST_LOOK, 2 * FIRST_LOOK, 4 * FIRST_LOOK, 8 * FIRST_LOOK]
    assert max(looks) == looks[-1] == LONGEST_PAUSE


async def test_a_look_reads_the_patient_afresh_and_has_ten_seconds(bench: Bench) -> None:
    await in_doubt(bench)
    asked: list[float] = []
    read = bench.hospital.read

    async def timed(customer: Any, appointment: str, deadline: float, *, fresh: bool) -> Any:
        asked.append(deadline - asyncio.get_running_loop().time())
        return await read(customer, appointment, deadline, fresh=fresh)

    bench.hospital.read = timed  # type: ignore[method-assign] # the same fake with a stopwatch
    await bench.later(seconds=30)

    assert bench.hospital.fresh[-1] is True
    assert asked == [pytest.approx(10.0, abs=0.5)]


async def test_a_write_whose_outcome_could_not_be_recorded_is_told_truly_and_owed(bench: Bench) -> None:
    bench.paper.full_for = frozenset({"outcome"})

    answer = await bench.run()

    assert isinstance(answer, Shown)
    assert bench.shelf.statuses[-1] == "completed"
    assert bench.open_writes.owed == 1
    assert bench.paper.outcomes == []


@pytest.mark.parametrize("silent", [False, True])
async def test_what_is_owed_to_the_audit_stream_is_made_to_last_in_the_store(bench: Bench, *, silent: bool) -> None:
    bench.paper.full_for = frozenset({"outcome"})
    bench.shelf.deaf_to = {"secure"} if silent else set()
    assert isinstance(await bench.run(), Shown)
    assert bench.shelf.calls[-2:] == ["end", "secure"]
    assert bench.faults == []


async def test_a_store_that_breaks_its_promises_while_a_record_is_owed_is_heard_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    bench.paper.full_for = frozenset({"outcome"})
    monkeypatch.setattr(Shelf, "secure", lambda _: broken())
    assert isinstance(await bench.run(), Shown)
    assert [str(fault) for fault in bench.faults] == ["broken"]


async def test_no_new_intent_is_made_while_an_outcome_is_owed(bench: Bench) -> None:
    bench.hospital.copies["a-2"] = appointment(id="a-2")
    bench.paper.full_for = frozenset({"outcome"})
    await bench.run()
    bench.paper.full_for = frozenset()

    with pytest.raises(JournalUnavailable):
        await bench.run(appointment="a-2", task="t-2")

    assert bench.paper.events == ["intent"]
    assert len(bench.hospital.sent) == 1


async def test_an_outcome_is_owed_from_when_it_was_refused_not_from_when_the_store_has_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def slow(_: Shelf) -> None:
        await answered.wait()

    monkeypatch.setattr(Shelf, "secure", slow)
    bench.hospital.copies["a-2"] = appointment(id="a-2")
    bench.paper.full_for = frozenset({"outcome"})
    first = asyncio.create_task(bench.run())
    await spin()
    bench.paper.full_for = frozenset()
    assert bench.open_writes.owed == 1

    with pytest.raises(JournalUnavailable):
        await bench.run(appointment="a-2", task="t-2")

    answered.set()
    assert isinstance(await first, Shown)
    assert len(bench.hospital.sent) == 1


async def test_an_owed_outcome_is_paid_as_recovered_when_the_audit_stream_is_back(bench: Bench) -> None:
    bench.hospital.copies["a-2"] = appointment(id="a-2")
    bench.paper.full_for = frozenset({"outcome"})
    await bench.run()
    await bench.nap.over()
    await bench.nap.over()
    assert bench.open_writes.owed == 1

    bench.paper.full_for = frozenset()
    await bench.nap.over()

    assert bench.paper.outcomes == [("applied", True, True)]
    assert bench.paper.essential == [False, True]
    assert bench.open_writes.owed == 0
    assert set(bench.nap.asked) == {PAY_PAUSE}
    assert isinstance(await bench.run(appointment="a-2", task="t-2"), Shown)


async def test_the_end_of_a_write_is_not_recorded_before_the_doubt_it_ends(bench: Bench) -> None:
    bench.doubt(applies=False)
    bench.paper.full_for = frozenset({"outcome"})
    assert await bench.run() == Refused(Code.OUTCOME_UNKNOWN, task="t-1")
    await bench.later(hours=1)
    assert len(bench.hospital.reads) == 2

    bench.paper.full_for = frozenset()
    await bench.later(seconds=2)
    await bench.later(seconds=2)

    assert bench.paper.outcomes == [("unknown", False, True), ("rejected", True, True)]


async def test_an_end_that_could_not_be_recorded_is_owed_and_written_once(bench: Bench) -> None:
    await in_doubt(bench)
    bench.paper.full_for = frozenset({"outcome"})
    await bench.later(seconds=30)
    assert bench.open_writes.owed == 1
    assert bench.shelf.cupboard.filed["t-1"].owed == "chain-1"

    bench.paper.full_for = frozenset()
    await bench.nap.over()
    await bench.nap.over()

    assert bench.paper.outcomes[1:] == [("rejected", True, True)]
    assert bench.open_writes.owed == 0


async def test_an_outcome_that_no_chain_can_hold_is_owed_and_reported(bench: Bench) -> None:
    bench.paper.torn = ValueError("no such field")

    assert isinstance(await bench.run(), Shown)

    assert bench.open_writes.owed == 1
    assert bench.faults == [bench.paper.torn]
    bench.paper.torn = None
    await bench.nap.over()
    assert bench.paper.outcomes == [("applied", True, True)]


async def test_closing_stops_every_look_and_leaves_what_is_open_open(bench: Bench) -> None:
    await in_doubt(bench)

    await bench.open_writes.close()
    await bench.later(hours=48)

    assert bench.paper.outcomes == [("unknown", False, False)]
    assert bench.open_writes._running == set()


async def test_closing_in_the_middle_of_a_look_stops_it(bench: Bench) -> None:
    await in_doubt(bench)
    await spin()
    sleeping = bench.nap._sleepers.pop()
    sleeping.set_result(None)
    for _ in range(2):
        await asyncio.sleep(0)

    await bench.open_writes.close()

    assert bench.faults == []
    assert bench.paper.outcomes == [("unknown", False, False)]


async def test_what_has_ended_leaves_nothing_behind(bench: Bench) -> None:
    for n in range(20):
        bench.hospital.copies["a-1"] = appointment()
        bench.doubt(applies=False)
        await bench.run(task=f"t-{n}")
        await bench.later(seconds=30)

    assert len(bench.open_writes) == 0
    assert bench.open_writes._running == set()
    assert bench.writes.places.turns._turns == {}
    assert len([final for _, final, _ in bench.paper.outcomes if final]) == 20
