"""What a dead process left behind comes to one end, on record once, whoever sees to it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import Acknowledged, NotSent, StateUnavailable, Turned, WriteAnswer
from gateway.flow.request import Refused, Replayed, Shown
from gateway.flow.store import Filed, Phase
from tests.flow.deaths import ONCE, finals, killed_at, killed_follower, killed_while_sent, successor
from tests.flow.fakes import SETTLES, SILENCE, UNRESOLVED, Bench, done
from tests.makers import appointment, cancel


async def test_a_write_that_never_came_to_an_intent_is_forgotten(bench: Bench) -> None:
    await killed_at(bench, "hold", after=True)
    assert bench.shelf.held == {"t-1"}

    other = await successor(bench)

    assert (other.shelf.held, other.shelf.cupboard.keys) == (set(), {})
    assert finals(bench, other) == []
    assert isinstance(await other.run(once=ONCE, task="t-2"), Shown)


@pytest.mark.parametrize("silent", [False, True], ids=["before the store permitted it", "the chain is elsewhere"])
async def test_an_intent_that_was_not_sent_is_rejected(bench: Bench, *, silent: bool) -> None:
    await killed_at(bench, "send")
    assert bench.paper.events == ["intent"]
    if silent:
        bench.folder.papers.clear()

    other = await successor(bench)

    assert other.shelf.held == set()
    if silent:
        # Only who sees that chain can tell whether there is an intent to end.
        assert finals(bench, other) == []
        bench.folder.papers[bench.paper.chain] = bench.paper
        await other.caretaker._round()
    assert finals(bench, other) == [("rejected", True)]
    (record,) = other.paper.of("outcome")
    assert (record["code"], record["intent"], record["task"]) == ("state-unavailable", 1, "t-1")
    assert record["request_id"] == "r-1"
    assert isinstance(await other.run(once=ONCE, task="t-2"), Shown)
    assert len(other.hospital.sent) == 1


async def test_a_chain_that_turns_up_without_the_intent_owes_nothing(bench: Bench) -> None:
    await killed_at(bench, "hold", after=True)
    bench.folder.papers.clear()
    other = await successor(bench)
    assert [filed.task.id for filed in other.shelf.cupboard.filed.values() if filed.owed] == ["t-1"]

    bench.folder.papers[bench.paper.chain] = bench.paper
    await other.caretaker._round()

    assert [filed for filed in other.shelf.cupboard.filed.values() if filed.owed] == []
    assert finals(bench, other) == []


async def test_a_write_on_the_wire_that_was_applied_is_found_out(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)

    other = await successor(bench)
    busy = await other.run(task="t-2")
    await other.later(seconds=1)

    assert busy == Refused(Code.APPOINTMENT_BUSY, task="t-1")
    assert finals(bench, other) == [("applied", True)]
    again = await other.run(once=ONCE, task="t-3")
    assert isinstance(again, Replayed)
    assert isinstance(again.answer, Shown)
    assert len(other.hospital.sent) == 1


async def test_a_write_on_the_wire_that_never_arrived_is_rejected_once_writes_have_settled(bench: Bench) -> None:
    await killed_while_sent(bench, applied=False)
    other = await successor(bench)

    await other.later(seconds=1)
    assert finals(bench, other) == []
    await other.later(seconds=SETTLES.total_seconds())

    assert finals(bench, other) == [("rejected", True)]


async def test_what_is_taken_up_settles_anew_but_is_given_up_in_all_its_time(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    await bench.die()
    bench.clock.passes(UNRESOLVED)
    # By that node's own clock; whether it went as ours does nobody knows.
    bench.hospital.down = SILENCE
    other = await successor(bench)

    await other.later(seconds=1)

    assert finals(bench, other) == [("unknown", True)]


async def test_what_was_sent_by_a_clock_that_was_behind_settles_by_our_own_count(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    await bench.die()
    bench.clock.now += timedelta(hours=3)
    other = await successor(bench)

    await other.later(seconds=SETTLES.total_seconds() - 1)
    assert finals(bench, other) == []
    await other.later(seconds=1)

    assert finals(bench, other) == [("rejected", True)]


async def test_an_end_that_was_promised_and_not_recorded_is_recorded(bench: Bench) -> None:
    await killed_at(bench, "end", after=True)
    assert bench.paper.events == ["intent"]

    other = await successor(bench)

    assert finals(bench, other) == [("applied", True)]
    await other.caretaker._round()
    assert [filed for filed in other.shelf.cupboard.filed.values() if filed.owed] == []


async def test_an_end_that_is_on_record_is_not_recorded_again(bench: Bench) -> None:
    await bench.run()
    await bench.die()
    assert bench.shelf.cupboard.filed["t-1"].owed == "chain-1"

    other = await successor(bench)

    assert finals(bench, other) == [("applied", False)]
    assert other.shelf.cupboard.filed["t-1"].owed is None


async def test_what_is_owed_elsewhere_is_left_to_who_sees_that_chain(bench: Bench) -> None:
    await killed_at(bench, "end", after=True)
    bench.folder.papers.clear()

    other = await successor(bench)

    assert finals(bench, other) == []
    assert other.shelf.cupboard.filed["t-1"].owed == "chain-1"


async def test_what_a_living_process_owes_is_its_own_business(bench: Bench) -> None:
    bench.paper.full_for = frozenset({"outcome"})
    await bench.run()

    other = await successor(bench)
    bench.paper.full_for = frozenset()
    await bench.later(seconds=1)
    await other.caretaker._round()

    assert finals(bench, other) == [("applied", True)]


async def test_of_a_living_process_a_round_looks_at_its_lock_once_whatever_it_owes(bench: Bench) -> None:
    await bench.run()
    filed = bench.shelf.cupboard.filed
    for name in ("t-2", "t-3"):
        filed[name] = replace(filed["t-1"], task=replace(filed["t-1"].task, id=name))
    assert [each.owed for each in filed.values()] == ["chain-1"] * 3
    other = await successor(bench)
    bench.folder.looks.clear()

    await other.caretaker._round()

    assert bench.folder.looks == ["chain-1"]


async def test_a_process_that_lives_and_lost_its_lease_still_records_what_it_owes_itself(bench: Bench) -> None:
    bench.paper.full_for = frozenset({"outcome"})
    await bench.run()
    other = await successor(bench)
    bench.shelf.cupboard.nodes.pop(bench.shelf.node)

    await other.caretaker._round()

    assert finals(bench, other) == []
    assert bench.shelf.cupboard.filed["t-1"].owed == "chain-1"


async def test_of_two_successors_one_sees_to_it(bench: Bench) -> None:
    await killed_at(bench, "end", after=True)
    second, third = bench.beside("chain-2"), bench.beside("chain-3")

    await asyncio.gather(second.caretaker.begin(), third.caretaker.begin())

    assert finals(bench, second, third) == [("applied", True)]


async def test_a_successor_that_dies_too_has_one(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    second = await successor(bench)
    await killed_follower(second)
    third = bench.beside("chain-3")

    await third.caretaker.begin()
    await third.later(seconds=1)

    assert finals(bench, second, third) == [("applied", True)]


async def test_unknown_is_followed_by_the_next(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    await bench.die()
    bench.hospital.copies["a-1"] = done(cancel(), appointment())

    other = await successor(bench)
    await other.later(seconds=1)

    assert bench.paper.outcomes == [("unknown", False, False)]
    assert other.paper.outcomes == [("applied", True, True)]
    first, last = bench.paper.of("outcome")[0], other.paper.of("outcome")[0]
    for name in ("request_id", "correlation_id", "partner", "customer", "appointment", "task", "intent", "patient"):
        assert last[name] == first[name]


async def test_accepted_on_record_is_waited_for_as_accepted(bench: Bench) -> None:
    bench.hospital.answer, bench.hospital.applies = Acknowledged("AA", "m-1"), False
    original = bench.shelf.open

    async def lost(*_: Any) -> None:
        raise StateUnavailable("down")

    bench.shelf.open = lost  # type: ignore[method-assign, assignment] # the same fake, silent for once
    await bench.run()
    await bench.die()
    bench.shelf.open = original  # type: ignore[method-assign] # and as it was

    other = await successor(bench)

    assert other.shelf.kept[-1].status is TaskStatus.ACCEPTED
    assert other.shelf.kept[-1].trace["accepted"]
    await other.open_writes.close()


async def test_a_write_that_only_the_chain_remembers_is_followed(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    bench.shelf.cupboard.__init__()  # type: ignore[misc] # the store was lost

    other = await successor(bench)
    assert other.shelf.held == {"t-1"}
    await other.later(seconds=1)

    assert finals(bench, other) == [("applied", True)]
    assert [event for event, _ in other.notices] == ["write only on record"]
    (record,) = other.paper.of("outcome")
    assert (record["intent"], record["request_id"], record["recovered"]) == (1, "r-1", True)


async def test_what_ended_in_the_chain_has_ended_whatever_the_store_says(bench: Bench) -> None:
    """The store was brought back from an old copy."""
    await bench.run()
    filed = bench.shelf.cupboard.filed["t-1"]
    bench.shelf.cupboard.filed["t-1"] = replace(filed, phase=type(filed.phase)("sent"), owed=None)
    await bench.die()

    other = await successor(bench)
    await other.later(hours=48)

    assert finals(bench, other) == [("applied", False)]
    assert other.shelf.cupboard.filed["t-1"].task.status is TaskStatus.COMPLETED


@pytest.mark.parametrize(
    ("answer", "code", "again"),
    [
        (None, None, False),
        (Turned(Code.VERSION_CONFLICT, 412), Code.VERSION_CONFLICT, False),
        (NotSent("no connection"), Code.UPSTREAM_UNAVAILABLE, True),
    ],
)
async def test_an_end_that_a_power_cut_took_from_the_store_is_filed_again_as_it_is_on_record(
    bench: Bench, answer: WriteAnswer | None, code: Code | None, *, again: bool
) -> None:
    bench.hospital.answer, bench.hospital.applies = answer, answer is None
    await bench.run(once=ONCE)
    task = bench.shelf.cupboard.filed["t-1"].task
    _cut_power(bench)
    await bench.die()
    reads = len(bench.hospital.reads)

    other = await successor(bench)

    filed = other.shelf.cupboard.filed["t-1"]
    assert (filed.phase.value, filed.owed, filed.task.code) == ("ended", None, code)
    assert replace(filed.task, updated=task.updated, trace=task.trace) == task
    assert other.shelf.held == set()
    assert (other.shelf.cupboard.keys == {}) is again
    assert len(bench.hospital.reads) == reads
    assert len(finals(bench, other)) == 1


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("accepted", TaskStatus.COMPLETED, None),
        ("unknown", TaskStatus.FAILED, Code.OUTCOME_UNKNOWN),
    ],
)
async def test_an_end_of_which_pkb_shows_nothing_is_filed_again_as_it_is_on_record(
    bench: Bench, outcome: str, status: TaskStatus, code: Code | None
) -> None:
    await bench.run(once=ONCE)
    _cut_power(bench)
    await bench.die()
    told = bench.paper.written[-1]
    told |= {"outcome": outcome, "upstream": {**told["upstream"], "version_after": None}}

    other = await successor(bench)

    task = other.shelf.cupboard.filed["t-1"].task
    assert (task.status, task.outcome, task.code, task.version) == (status, outcome, code, None)
    assert len(finals(bench, other)) == 1


def _cut_power(bench: Bench) -> None:
    """Take the end of a write from the store, as if that had not lasted."""
    cupboard = bench.shelf.cupboard
    filed = cupboard.filed["t-1"]
    sent = replace(filed.task, status=TaskStatus.IN_PROGRESS, code=None, outcome=None, version=None)
    cupboard.filed["t-1"] = Filed(sent, Phase.SENT, filed.chain)
    cupboard.holders["box", "a-1"] = "t-1"
    cupboard.keys["swiftbook", ONCE.key] = (ONCE.fingerprint, "t-1", bench.shelf.node)
