"""Leases: who lives, who may be taken over, and what a node that was robbed may still do."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Filed, KeyIsKnown, KeyIsNew, Phase, Turn
from gateway.storage.nodes import Nodes
from gateway.storage.store import Store, open_store, visit_store
from tests.edges.store_bench import KEEP, RECORD, Monotonic, Open, a_task, held, opened, sent

LEASE = 0.3


async def lapse(store: Store, *chains: str) -> None:
    """Let leases run out, as if their nodes had said nothing for long."""
    for chain in chains:
        await store.database.change("UPDATE node SET expires = 0 WHERE chain = $1", chain)


@pytest.fixture
def clock() -> Monotonic:
    return Monotonic()


@pytest.fixture
async def judge(open_node: Open, clock: Monotonic) -> Store:
    """A node whose own lease has been good for long enough to judge others'."""
    store = await open_node("judge")
    store.nodes = Nodes(store.database, "judge's", monotonic=clock)
    await store.database.change("DELETE FROM node WHERE name = $1", "judge")
    await store.nodes.register()
    clock.seconds += 4
    assert await store.renew()
    clock.seconds += 4
    assert await store.renew()
    return store


async def test_nodes_are_named_after_their_chains(open_node: Open) -> None:
    first, second = await open_node("chain-1"), await open_node("chain-2")
    assert (first.nodes.name, second.nodes.name) == ("chain-1", "chain-2")
    assert await first.peers() == ["chain-2"]
    assert await second.peers() == ["chain-1"]


async def test_a_node_whose_journal_goes_on_in_another_chain_is_known_by_that(open_node: Open) -> None:
    """The old one looks dead to whoever sees its file."""
    first, second = await open_node("chain-1"), await open_node("chain-2")

    assert await first.renew("chain-1-again")

    assert await second.peers() == ["chain-1-again"]
    assert await first.peers() == ["chain-2"]
    assert await second.adopt(["chain-1"]) == []
    assert await first.renew("chain-1-again")


async def test_a_node_whose_lease_ran_out_is_taken_over(open_node: Open, judge: Store) -> None:
    died = await open_node("died")
    tasks = [
        await held(died, "t-1", ("box", "1")),
        await sent(died, "t-2", ("box", "2")),
        await opened(died, "t-3", ("box", "3")),
    ]
    await died.end(await sent(died, "t-4", ("box", "4")), RECORD, "died")
    await lapse(judge, "died")
    left = await judge.adopt([])
    phases = (Phase.HELD, Phase.SENT, Phase.OPEN)
    assert left == [Filed(task, phase, "died") for task, phase in zip(tasks, phases, strict=True)]
    assert await judge.adopt([]) == []
    assert await judge.peers() == []
    assert await judge.look([("box", "1")]) == [Turn(1, left[0])]


async def test_what_was_adopted_is_adopted_again_where_the_adopter_dies(open_node: Open, judge: Store) -> None:
    second = await open_node("second")
    await sent(await open_node("first"))
    assert len(await second.adopt(["first"])) == 1
    assert [filed.chain for filed in await judge.adopt(["second"])] == ["first"]


async def test_a_node_known_to_be_dead_is_taken_over_at_once(open_node: Open) -> None:
    died, fresh = await open_node("died"), await open_node("fresh")
    task = await sent(died)
    assert await fresh.adopt(["unknown"]) == []
    assert await fresh.adopt(["died", "unknown", "fresh"]) == [Filed(task, Phase.SENT, "died")]


async def test_nobody_takes_itself_over(judge: Store) -> None:
    await sent(judge)
    await lapse(judge, "judge's")
    assert await judge.adopt(["judge's"]) == []


async def test_of_many_who_would_take_over_one_does(open_node: Open, judge: Store) -> None:
    await sent(await open_node("died"))
    adopters = [judge, *[await open_node(f"adopter-{number}") for number in range(3)]]
    found = await asyncio.gather(*(each.adopt(["died"]) for each in adopters * 3))
    assert sorted(map(len, found)) == [0] * 11 + [1]


async def test_two_that_take_each_other_for_dead_do_not_both_lose_their_writes(open_node: Open) -> None:
    first, second = await open_node("first"), await open_node("second")
    await sent(first, "t-1", ("box", "1"))
    await sent(second, "t-2", ("box", "2"))
    one, other = await asyncio.gather(first.adopt(["second"]), second.adopt(["first"]))
    assert sorted([len(one), len(other)]) == [0, 1]


async def test_the_robbed_one_learns_of_it_and_goes_on_under_another_name(open_node: Open) -> None:
    robbed, adopter = await open_node("robbed"), await open_node("adopter")
    task = await held(robbed)
    await adopter.adopt(["robbed"])
    assert not await robbed.renew()
    assert robbed.nodes.name == "robbed/2"
    assert await robbed.renew()
    assert await adopter.peers() == ["robbed"]
    assert not await robbed.send(task)
    assert await adopter.send(task)
    assert await robbed.send(await held(robbed, "t-2", ("box", "2")))


async def test_it_sends_nothing_even_before_it_learns_of_it(open_node: Open) -> None:
    robbed, adopter = await open_node("robbed"), await open_node("adopter")
    task = await held(robbed)
    await adopter.adopt(["robbed"])
    assert not await robbed.send(task)
    for begin in (
        lambda: robbed.hold(a_task("t-2"), {("box", "2"): 0}, "robbed"),
        lambda: robbed.claim_key("swiftbook", "k", "f", "t-2"),
        lambda: robbed.restore(Filed(a_task("t-2"), Phase.OPEN, "c"), []),
    ):
        with pytest.raises(StateUnavailable):
            await begin()
    assert await robbed.adopt(["adopter"]) == []


async def test_it_and_its_adopter_end_a_write_once(open_node: Open) -> None:
    robbed, adopter = await open_node("robbed"), await open_node("adopter")
    task = await sent(robbed)
    await adopter.adopt(["robbed"])
    await robbed.open(replace(task, outcome="unknown"))
    told = await asyncio.gather(*(each.end(task, RECORD, each.nodes.name) for each in (robbed, adopter) * 3))
    assert sum(told) == 1


async def test_keys_of_the_dead_are_freed_where_nothing_was_filed(open_node: Open) -> None:
    died, adopter = await open_node("died"), await open_node("adopter")
    for task in ("bare", "held", "sent"):
        await died.claim_key("swiftbook", task, "f", task)
    await held(died, "held", ("box", "1"))
    await sent(died, "sent", ("box", "2"))
    await adopter.adopt(["died"])
    assert await adopter.claim_key("swiftbook", "bare", "g", "t-1") == KeyIsNew()
    for key in ("held", "sent"):
        assert isinstance(await adopter.claim_key("swiftbook", key, "f", "t-2"), KeyIsKnown)
    await adopter.drop("held")
    assert await adopter.claim_key("swiftbook", "held", "g", "t-3") == KeyIsNew()


async def test_keys_of_the_adopted_are_freed_with_their_adopter(open_node: Open) -> None:
    died, adopter, third = await open_node("died"), await open_node("adopter"), await open_node("third")
    await died.claim_key("swiftbook", "k", "f", "t-1")
    task = await held(died)
    await adopter.adopt(["died"])
    await adopter.database.change("DELETE FROM task WHERE id = $1", task.id)
    await third.adopt(["adopter"])
    assert await third.claim_key("swiftbook", "k", "g", "t-2") == KeyIsNew()


# Who may judge


async def test_a_lease_is_prolonged(open_node: Open, judge: Store) -> None:
    node = await open_node("node", LEASE)
    for _ in range(4):
        await asyncio.sleep(LEASE / 2)
        assert await node.renew()
        assert await judge.adopt([]) == []
        assert await judge.peers() == ["node"]


async def test_a_lease_that_ran_out_unseen_is_prolonged(open_node: Open, judge: Store) -> None:
    node = await open_node("node")
    await lapse(judge, "node")
    assert await node.renew()
    assert await judge.adopt([]) == []
    assert await judge.peers() == ["node"]


async def test_who_has_just_come_judges_nobody_by_a_lease(open_node: Open, url: str) -> None:
    await sent(await open_node("died", LEASE))
    store = await open_store(url, "fresh", KEEP, LEASE)
    try:
        await lapse(store, "died")
        assert await store.adopt([]) == []
        await asyncio.sleep(LEASE / 2)
        assert await store.renew()
        assert await store.adopt([]) == []
        await asyncio.sleep(LEASE * 0.6)
        assert await store.renew()
        assert len(await store.adopt([])) == 1
    finally:
        await store.close()


async def test_a_visitor_judges_nobody(open_node: Open, url: str) -> None:
    await lapse(await open_node("node"), "node")
    visitor = await visit_store(url, "visitor", KEEP)
    assert await visitor.adopt([]) == []
    await visitor.close()


async def _was_away(store: Store, clock: Monotonic) -> None:
    """The node did not renew for more than a lease, though its own is good by the clock of the database."""
    clock.seconds += 7


async def _lapsed(store: Store, clock: Monotonic) -> None:
    """The database stood still, or its clock was set forward: everybody's lease ran out."""
    await lapse(store, "judge's")


async def _set_back(store: Store, clock: Monotonic) -> None:
    """The clock of the database was set back: everybody's lease is longer than one can be."""
    await store.database.change("UPDATE node SET expires = expires + 3600")


async def _unanswered(store: Store, clock: Monotonic) -> None:
    """The database did not answer once."""
    await store.database.change("ALTER TABLE node RENAME TO away")
    with pytest.raises(StateUnavailable):
        await store.renew()
    await store.database.change("ALTER TABLE away RENAME TO node")


@pytest.mark.parametrize("trouble", [_was_away, _lapsed, _set_back, _unanswered])
async def test_nobody_is_robbed_for_what_befell_all(
    open_node: Open, judge: Store, clock: Monotonic, trouble: Callable[[Store, Monotonic], object]
) -> None:
    await sent(await open_node("other"))
    await lapse(judge, "other")
    await trouble(judge, clock)  # type: ignore[misc] # one of the above
    if trouble is not _was_away:
        assert await judge.adopt([]) == []
    for _ in range(2):
        assert await judge.renew()
        assert await judge.adopt([]) == []
        clock.seconds += 3.1
    assert len(await judge.adopt([])) == 1


async def test_a_lease_that_a_clock_set_back_made_endless_runs_out(open_node: Open, judge: Store) -> None:
    await sent(await open_node("died"))
    await judge.database.change("UPDATE node SET expires = expires + 3600 WHERE name = $1", "died")
    assert len(await judge.adopt([])) == 1


async def test_of_an_end_that_it_was_not_told_of_its_last_word_counts(
    open_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await open_node("chain-1")
    task = await opened(node, "t-1", ("box", "1"))
    transact = node.database.transact

    async def deaf(work: Callable[..., Any], **how: Any) -> Any:
        await transact(work, **how)
        raise StateUnavailable("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(node.database, "transact", deaf)
        with pytest.raises(StateUnavailable):
            await node.end(replace(task, outcome="unknown"), {"outcome": "unknown"}, "chain-1")
    assert await node.end(replace(task, outcome="applied"), {"outcome": "applied"}, "chain-1")

    (filed,) = await node.owing()
    assert (filed.task.outcome, filed.record) == ("applied", {"outcome": "applied"})
    assert not await node.end(replace(task, outcome="rejected"), {"outcome": "rejected"}, "chain-1")
