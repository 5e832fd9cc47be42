"""Nodes that were taken for dead and are not, several that see to the same, and rounds that fail."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.codes import Code
from gateway.domain.outcome import TaskStatus
from gateway.flow.caretaker import ROUND_SECONDS
from gateway.flow.ports import JournalUnavailable, StateUnavailable
from gateway.flow.request import Refused, Shown
from gateway.flow.store import LEASE_SECONDS, Phase
from tests.flow.deaths import ONCE, finals, killed_at, killed_while_sent, successor
from tests.flow.fakes import SETTLES, Bench, done, spin
from tests.makers import appointment, cancel


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
    # This node goes on saying that it lives, whatever keeps the round.
    assert bench.nap.asked == [ROUND_SECONDS] * 10


async def test_a_long_round_does_not_keep_a_node_from_saying_that_it_lives(bench: Bench) -> None:
    async def endless(*_: object) -> Any:
        await asyncio.Event().wait()

    bench.shelf.adopt = endless  # type: ignore[method-assign, assignment] # a chain of gigabytes
    caring = asyncio.create_task(bench.caretaker.run())
    for _ in range(5):
        await bench.later(seconds=2)
    caring.cancel()

    assert bench.shelf.calls.count("renew") == 5


async def test_of_two_that_end_a_write_in_one_process_one_records_it_and_the_caretaker_does_not(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    bench.paper.full_for = frozenset({"outcome"})

    await asyncio.gather(bench.run(once=ONCE, task="t-2"), bench.run(once=ONCE, task="t-3"))
    await bench.caretaker._round()
    bench.paper.full_for = frozenset()
    for _ in range(4):
        await bench.later(seconds=2)

    assert finals(bench) == [("applied", True)]
    assert bench.open_writes.owed == 0


async def test_a_doubt_that_could_not_be_recorded_is_not_recorded_after_the_end(bench: Bench) -> None:
    bench.doubt(applies=False)
    bench.paper.full_for = frozenset({"outcome"})
    await bench.run(once=ONCE)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    await bench.run(once=ONCE, task="t-2")
    bench.paper.full_for = frozenset()
    for _ in range(3):
        await bench.later(seconds=2)

    assert bench.paper.outcomes == [("applied", True, True)]
    assert bench.open_writes.owed == 0


async def test_an_end_that_a_silent_store_is_asked_about_again_and_again_is_asked_about_by_one(bench: Bench) -> None:
    bench.doubt(applies=False)
    await bench.run(once=ONCE)
    bench.hospital.copies["a-1"] = done(cancel(), appointment())
    bench.shelf.deaf_to = {"end"}
    for number in range(5):
        assert await bench.run(once=ONCE, task=f"t-{number + 2}") == Refused(Code.STATE_UNAVAILABLE)

    assert bench.open_writes.owed == 1
    bench.shelf.deaf_to = set()
    await bench.later(seconds=1)
    assert finals(bench) == [("applied", True)]


async def test_a_task_of_the_first_releases_waits_for_a_person_and_keeps_nobody_waiting(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    old = bench.shelf.cupboard.filed["t-1"]
    bench.shelf.cupboard.filed["t-1"] = replace(old, phase=Phase.OPEN, task=replace(old.task, trace={}))

    other = await successor(bench)
    await other.later(hours=48)

    assert finals(bench, other) == []
    assert other.shelf.phase() == "open"
    task = bench.shelf.cupboard.filed["t-1"].task
    assert await other.open_writes.find_out(task, 1e9) == task


async def test_one_of_which_nothing_can_be_made_keeps_no_other_waiting(bench: Bench) -> None:
    await killed_while_sent(bench, applied=True)
    other = bench.beside()

    async def broken(*_: object) -> Any:
        raise ZeroDivisionError

    other.folder.told = broken  # type: ignore[method-assign, assignment] # a file like no other
    await other.caretaker.begin()

    assert isinstance(bench.faults[-1], ZeroDivisionError)


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
