"""What a dead process left behind comes to one end, on record once, whoever sees to it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.domain.outcome import TaskStatus
from gateway.flow.caretaker import ROUND_SECONDS
from gateway.flow.orders import Once
from gateway.flow.ports import Acknowledged, JournalUnavailable, StateUnavailable
from gateway.flow.request import Refused, Replayed, Shown
from gateway.flow.store import LEASE_SECONDS
from tests.flow.fakes import SETTLES, SILENCE, UNRESOLVED, Bench, done, spin
from tests.makers import appointment, cancel

ONCE = Once("key-1", "print-1")


def finals(*benches: Bench) -> list[tuple[str, bool]]:
    """Every final outcome on record: the word, and whether recovered."""
    told = [outcome for bench in benches for outcome in bench.paper.outcomes]
    return [(word, recovered) for word, final, recovered in told if final]


async def killed_at(bench: Bench, method: str, *, after: bool = False) -> None:
    """Run a cancel and kill its process as it calls the store, or once the store has answered."""
    target: Any = bench.shelf
    original = getattr(target, method)
    reached = asyncio.Event()

    async def stuck(*args: Any, **named: Any) -> Any:
        if after:
            await original(*args, **named)
        reached.set()
        await asyncio.Event().wait()

    setattr(target, method, stuck)
    running = asyncio.create_task(bench.run(once=ONCE))
    await reached.wait()
    await bench.die()
    running.cancel()
    await spin()
    setattr(target, method, original)


async def killed_while_sent(bench: Bench, *, applied: bool) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run(once=ONCE))
    await spin()
    assert bench.hospital.under_way == 1
    await bench.die()
    running.cancel()
    await spin()
    bench.hospital.hold = None
    if applied:
        bench.hospital.copies["a-1"] = done(cancel(), appointment())


async def successor(bench: Bench) -> Bench:
    other = bench.beside()
    await other.caretaker.begin()
    return other


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


async def killed_follower(bench: Bench) -> None:
    """Kill a process that has just been promised the end of a write it follows."""
    original = bench.shelf.end
    reached = asyncio.Event()

    async def stuck(*args: Any, **named: Any) -> bool:
        await original(*args, **named)
        reached.set()
        await asyncio.Event().wait()
        return True

    bench.shelf.end = stuck  # type: ignore[method-assign] # the same fake, up to a point
    await bench.later(seconds=1)
    assert reached.is_set()
    await bench.die()


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


async def test_a_node_without_a_lease_is_taken_over(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    bench.folder.dead.clear()
    other = await successor(bench)
    assert finals(bench, other) == []

    bench.shelf.cupboard.nodes["chain-1"] = False
    await other.caretaker._round()
    await other.later(seconds=1)

    assert finals(bench, other) == [("applied", True)]


async def test_a_stalled_node_that_was_taken_over_may_not_send(bench: Bench) -> None:
    held = asyncio.Event()
    original = bench.paper.write

    async def stalled(record: Any, *, essential: bool = False) -> int:
        seq = await original(record, essential=essential)
        if record["event"] == "intent":
            await held.wait()
        return seq

    bench.paper.write = stalled  # type: ignore[method-assign] # the same fake, stopped in its tracks
    running = asyncio.create_task(bench.run(once=ONCE))
    await spin()
    bench.shelf.cupboard.nodes["chain-1"] = False
    other = await successor(bench)
    held.set()

    assert await running == Refused(Code.STATE_UNAVAILABLE)
    assert bench.hospital.sent == []
    await bench.caretaker._round()
    assert finals(bench, other) == [("rejected", True)]


async def test_a_stalled_node_that_had_sent_ends_its_write_if_nobody_has(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()
    bench.shelf.cupboard.nodes["chain-1"] = False
    other = await successor(bench)
    bench.hospital.hold.set()

    assert isinstance(await running, Shown)
    await other.later(seconds=1)

    assert finals(bench, other) == [("applied", False)]


async def test_a_stalled_node_whose_write_was_ended_tells_its_partner_the_truth(bench: Bench) -> None:
    bench.hospital.hold = asyncio.Event()
    running = asyncio.create_task(bench.run())
    await spin()
    bench.shelf.cupboard.nodes["chain-1"] = False
    other = await successor(bench)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    await other.later(seconds=1)
    bench.hospital.hold.set()

    assert isinstance(await running, Shown)
    assert finals(bench, other) == [("applied", True)]


async def test_a_pass_is_good_for_as_long_as_the_lease_and_no_longer(bench: Bench) -> None:
    assert not bench.caretaker.pass_for_now()()
    await bench.caretaker.begin()
    mine = bench.caretaker.pass_for_now()
    assert mine()

    bench.caretaker._leased_until -= LEASE_SECONDS
    assert not mine()
    await bench.caretaker._renew()
    assert mine()

    del bench.shelf.cupboard.nodes["chain-1"]
    await bench.caretaker._renew()
    assert not mine()
    assert bench.caretaker.pass_for_now()()
    assert bench.notices == [("taken for dead", {"chain": "chain-1"})]


async def test_it_goes_round_until_it_is_stopped(bench: Bench) -> None:
    caring = asyncio.create_task(bench.caretaker.run())
    await bench.later(seconds=2)
    bench.shelf.down = True
    await bench.later(seconds=2)
    bench.shelf.down = False

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    adopt, bench.shelf.adopt = bench.shelf.adopt, broken  # type: ignore[method-assign, assignment] # for one round
    await bench.later(seconds=2)
    bench.shelf.adopt = adopt  # type: ignore[method-assign] # and as it was
    await bench.later(seconds=2)
    caring.cancel()

    assert [type(fault) for fault in bench.faults] == [ZeroDivisionError]
    assert bench.shelf.calls.count("renew") == 4
    assert bench.nap.asked == [ROUND_SECONDS] * 5


async def test_it_begins_only_where_store_and_folder_can_be_read(bench: Bench) -> None:
    bench.shelf.down = True
    with pytest.raises(StateUnavailable):
        await bench.caretaker.begin()
    bench.shelf.down = False

    async def unreadable() -> Any:
        raise JournalUnavailable("unreadable")

    bench.folder.open_intents = unreadable  # type: ignore[method-assign] # a folder that cannot be read
    with pytest.raises(JournalUnavailable):
        await bench.caretaker.begin()


async def test_an_adopted_write_is_not_forgotten_when_its_chain_cannot_be_read(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    other = bench.beside()
    told = other.folder.told

    async def unreadable(chain: str, task: str) -> Any:
        raise JournalUnavailable("unreadable")

    other.folder.told = unreadable  # type: ignore[method-assign] # a disk that comes back
    with pytest.raises(JournalUnavailable):
        await other.caretaker.begin()
    other.folder.told = told  # type: ignore[method-assign] # and is back

    await other.caretaker._round()
    await other.later(seconds=1)

    assert finals(bench, other) == [("applied", True)]


async def test_what_two_nodes_inherit_one_records(bench: Bench) -> None:
    await killed_at(bench, "end", after=True)
    other = bench.beside()

    async def taken(*_: object) -> bool:
        return False

    other.shelf.inherit = taken  # type: ignore[method-assign, assignment] # somebody else was first
    await other.caretaker.begin()

    assert finals(bench, other) == []


async def test_an_end_elsewhere_is_noticed_by_who_follows(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    other = bench.beside()
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    filed = bench.shelf.cupboard.filed["t-1"]
    assert (await other.open_writes.find_out(filed.task, 1e9)).status is TaskStatus.COMPLETED
    bench.hospital.copies["a-1"] = appointment()

    await bench.later(seconds=1)

    assert len(bench.open_writes) == 0
    assert finals(bench, other) == [("applied", True)]


async def test_a_silent_store_does_not_stop_who_follows(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    bench.shelf.down = True
    await bench.later(seconds=1)
    bench.shelf.down, bench.shelf.torn = False, ZeroDivisionError("a bug")
    await bench.later(seconds=1)
    bench.shelf.torn = None
    assert len(bench.open_writes) == 1

    await bench.later(seconds=SETTLES.total_seconds())

    assert finals(bench) == [("rejected", True)]


async def test_an_end_that_the_store_kept_to_itself_while_it_was_asked_for_is_recorded_once(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    bench.shelf.deaf_to = {"end"}

    assert await bench.run(once=ONCE, task="t-2") == Refused(Code.STATE_UNAVAILABLE)
    bench.shelf.deaf_to = set()
    await bench.caretaker._round()
    await bench.later(seconds=1)

    assert finals(bench) == [("applied", True)]


async def test_a_customer_that_is_gone_is_not_read_for(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()
    reads = len(bench.hospital.reads)
    bench.policy = replace(bench.policy, customers={})
    await bench.later(seconds=1)
    assert len(bench.hospital.reads) == reads

    await bench.later(hours=24)

    assert finals(bench) == [("unknown", True)]


async def test_a_node_that_was_taken_for_dead_before_its_intent_leaves_that_to_the_intent(bench: Bench) -> None:
    await killed_at(bench, "hold", after=True)
    bench.folder.dead.clear()
    bench.folder.papers.clear()
    bench.shelf.cupboard.nodes["chain-1"] = False
    other = await successor(bench)
    assert bench.shelf.cupboard.filed["t-1"].owed == "chain-1"
    bench.folder.papers["chain-1"] = bench.paper
    bench.shelf.down = bench.paper.full = False

    await bench.caretaker._round()
    assert finals(bench, other) == []
    await bench.paper.write({"event": "intent", "task": "t-1"})
    await bench.caretaker._round()

    assert finals(bench, other) == [("rejected", True)]


async def test_of_two_that_take_up_what_only_the_chain_remembers_one_follows_it(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    bench.shelf.cupboard.__init__()  # type: ignore[misc] # the store was lost
    second, third = bench.beside("chain-2"), bench.beside("chain-3")

    async def late(task: str) -> None:
        await spin()

    third.shelf.find = late  # type: ignore[method-assign] # it looked before the other filed it
    await asyncio.gather(second.caretaker.begin(), third.caretaker.begin())
    await second.later(seconds=1)

    assert finals(bench, second, third) == [("applied", True)]
    assert len(third.open_writes) == 0


async def test_one_that_is_followed_already_is_not_followed_twice(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run()

    await bench.open_writes.follow(bench.shelf.cupboard.filed["t-1"])

    await bench.later(seconds=SETTLES.total_seconds())
    assert finals(bench) == [("rejected", True)]


async def test_an_end_in_the_chain_that_the_store_learns_elsewhere_is_left_alone(bench: Bench) -> None:
    await bench.run()
    filed = bench.shelf.cupboard.filed["t-1"]
    bench.shelf.cupboard.filed["t-1"] = replace(filed, phase=type(filed.phase)("sent"), owed=None)
    await bench.die()
    other = bench.beside()

    async def ended(*_: object, **__: object) -> bool:
        return False

    other.shelf.end = ended  # type: ignore[method-assign] # a person was first
    await other.caretaker.begin()

    assert other.shelf.calls.count("recorded") == 0
