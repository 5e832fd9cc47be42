"""What the flow may rely on, the same on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.domain.outcome import TaskStatus
from gateway.flow.ports import StateUnavailable
from gateway.flow.store import Filed, KeyIsKnown, KeyIsNew, KeyIsOthers, Phase, Turn
from gateway.flow.store import Store as Port
from gateway.storage.store import Store, open_store, visit_store
from tests.edges.store_bench import KEEP, PLACER, RECORD, A, Open, a_task, held, opened, sent


@pytest.fixture
async def store(open_node: Open) -> Store:
    return await open_node()


@pytest.fixture
async def other(open_node: Open, store: Store) -> Store:
    return await open_node("chain-2")


async def test_it_is_what_the_flow_asks_for(store: Store) -> None:
    port: Port = store
    assert await port.owing() == []


# Keys


async def test_a_key_is_new_once_on_all_nodes(store: Store, other: Store) -> None:
    assert await store.claim_key("swiftbook", "k", "f", "t-1") == KeyIsNew()
    assert await store.claim_key("swiftbook", "k", "f", "t-2") == KeyIsKnown(None)
    assert await other.claim_key("swiftbook", "k", "f", "t-3") == KeyIsKnown(None)
    assert await other.claim_key("swiftbook", "k", "g", "t-4") == KeyIsOthers()


async def test_each_partner_has_keys_of_its_own(store: Store) -> None:
    for partner in ("swiftbook", "viewonly"):
        for key in ("k", "K", "'; DROP TABLE request_key; --", "$1", "\\"):
            assert await store.claim_key(partner, key, "f", f"{partner} {key}") == KeyIsNew()


async def test_who_claimed_a_key_and_was_not_told_may_claim_it_again(store: Store) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    assert await store.claim_key("swiftbook", "k", "f", "t-1") == KeyIsNew()


async def test_a_key_that_was_given_back_is_new(store: Store, other: Store) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await store.free_key("t-1")
    assert await other.claim_key("swiftbook", "k", "g", "t-2") == KeyIsNew()


async def test_a_write_that_is_only_held_is_not_told_of_by_its_key(store: Store) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await held(store)
    assert await store.claim_key("swiftbook", "k", "f", "t-2") == KeyIsKnown(None)


async def test_a_key_tells_what_became_of_its_write(store: Store, other: Store) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    task = await sent(store)
    assert await other.claim_key("swiftbook", "k", "f", "t-2") == KeyIsKnown(Filed(task, Phase.SENT, "chain-1"))
    ended = replace(task, status=TaskStatus.COMPLETED, outcome="applied", version="8")
    await store.end(ended, RECORD, "chain-1")
    known = await other.claim_key("swiftbook", "k", "f", "t-2")
    assert known == KeyIsKnown(Filed(ended, Phase.ENDED, "chain-1", "chain-1", RECORD))


@pytest.mark.parametrize("reach", [sent, opened])
async def test_the_key_of_a_write_that_may_have_been_sent_is_not_given_back(store: Store, reach: object) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await reach(store)  # type: ignore[operator] # one of the bench's
    await store.free_key("t-1")
    assert isinstance(await store.claim_key("swiftbook", "k", "f", "t-2"), KeyIsKnown)


# Turns


async def test_names_that_nobody_took_are_free(store: Store) -> None:
    assert await store.look([A, PLACER]) == [Turn(), Turn()]
    assert await store.look([]) == []


async def test_a_write_holds_all_its_names(store: Store, other: Store) -> None:
    task = await held(store, "t-1", A, PLACER)
    turn = Turn(1, Filed(task, Phase.HELD, "chain-1"))
    assert await other.look([PLACER, ("box", "a-2"), A]) == [turn, Turn(), turn]
    assert await store.find("t-1") == turn.holder
    assert await store.find("t-2") is None


async def test_a_name_that_is_held_is_held_by_nobody_else(store: Store, other: Store) -> None:
    await held(store)
    for epoch in (0, 1, 2):
        assert not await other.hold(a_task("t-2"), {("box", "a-2"): 0, A: epoch}, "chain-2")
    assert await other.find("t-2") is None
    assert await other.look([("box", "a-2")]) == [Turn()]


@pytest.mark.parametrize("stale", [0, 1, 3])
async def test_who_saw_another_epoch_gets_no_turn(store: Store, other: Store, stale: int) -> None:
    for name in ("t-1", "t-2"):
        await held(store, name)
        await store.drop(name)
    assert await other.look([A]) == [Turn(2)]
    assert not await other.hold(a_task("t-3"), {A: stale}, "chain-2")
    assert await other.hold(a_task("t-3"), {A: 2}, "chain-2")


async def test_an_epoch_that_was_forgotten_is_not_the_one_that_was_seen(store: Store) -> None:
    assert not await store.hold(a_task(), {A: 1}, "chain-1")
    assert await store.look([A]) == [Turn()]


async def test_names_are_told_apart_whatever_pkb_writes_into_them(store: Store) -> None:
    names = [
        ("box", f"placer/{text}") for text in ("", " ", "\x00", "\\x00", "x00", "\\", "\\\\", "é", "e\u0301", "\ud800")
    ]
    for number, name in enumerate(names):
        await held(store, f"t-{number}", name)
    holders = [turn.holder.task.id for turn in await store.look(names) if turn.holder]
    assert holders == [f"t-{number}" for number in range(len(names))]


async def test_what_was_filed_is_found_as_it_was(store: Store) -> None:
    ended = a_task(
        updated=datetime(2026, 11, 23, tzinfo=UTC),
        code="outcome-unknown",
        outcome="unknown",
        version='W/"8"',
        repeated={"intent": 7, "upstream": {"status": None, "ratio": 0.1, "label": "\x00\ud800 ü"}},
    )
    record = {"now": "x", "facts": {"hours": 47.5, "text": "\x00"}, "list": [1, [], None, True]}
    await sent(store)
    await store.end(ended, record, "chain-9")
    assert await store.find("t-1") == Filed(ended, Phase.ENDED, "chain-1", "chain-9", record)


# The life of a write


async def test_a_held_write_is_sent_once(store: Store) -> None:
    task = await held(store)
    changed = replace(task, status=TaskStatus.IN_PROGRESS)
    assert await store.send(changed)
    assert await store.find("t-1") == Filed(changed, Phase.SENT, "chain-1")
    assert not await store.send(changed)


async def test_nobody_but_its_node_sends_a_write(store: Store, other: Store) -> None:
    task = await held(store)
    assert not await other.send(task)
    assert not await other.send(a_task("t-2"))
    assert await store.send(task)


async def test_a_sent_write_is_opened_and_kept_open(store: Store) -> None:
    task = await opened(store)
    assert await store.find("t-1") == Filed(task, Phase.OPEN, "chain-1")
    later = replace(task, outcome="unknown")
    await store.open(later)
    assert await store.find("t-1") == Filed(later, Phase.OPEN, "chain-1")


async def test_what_has_ended_stays_as_it_ended(store: Store, other: Store) -> None:
    task = await sent(store)
    ended = replace(task, outcome="applied")
    assert await store.end(ended, RECORD, "chain-1")
    await other.open(task)
    assert not await other.send(task)
    assert not await other.end(task, {}, "chain-2", free_key=True)
    await other.drop("t-1")
    assert await store.find("t-1") == Filed(ended, Phase.ENDED, "chain-1", "chain-1", RECORD)


async def test_a_held_write_is_not_opened(store: Store) -> None:
    task = await held(store)
    await store.open(task)
    await store.open(a_task("t-2"))
    assert await store.find("t-1") == Filed(task, Phase.HELD, "chain-1")
    assert await store.find("t-2") is None


@pytest.mark.parametrize("reach", [held, sent, opened])
async def test_an_end_lets_go_of_the_appointment(store: Store, other: Store, reach: object) -> None:
    task = await reach(store, "t-1", A, PLACER)  # type: ignore[operator] # one of the bench's
    assert await other.end(task, RECORD, "chain-2")
    assert await store.look([A, PLACER]) == [Turn(1), Turn(1)]


@pytest.mark.parametrize(("frees", "then"), [(True, KeyIsNew), (False, KeyIsKnown)])
async def test_an_end_gives_the_key_back_if_asked_to(store: Store, frees: bool, then: type) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await store.end(await sent(store), RECORD, "chain-1", free_key=frees)
    assert isinstance(await store.claim_key("swiftbook", "k", "f", "t-2"), then)


async def test_an_end_of_what_the_store_lost_is_filed_once(store: Store, other: Store) -> None:
    assert await store.end(a_task(), RECORD, "chain-1")
    assert not await other.end(a_task(), RECORD, "chain-2")
    assert await other.owing() == [Filed(a_task(), Phase.ENDED, "chain-1", "chain-1", RECORD)]


async def test_a_dropped_write_leaves_its_appointment_and_its_key_free(store: Store, other: Store) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await held(store, "t-1", A, PLACER)
    await store.drop("t-1")
    assert await other.look([A, PLACER]) == [Turn(1), Turn(1)]
    assert await other.find("t-1") is None
    assert await other.claim_key("swiftbook", "k", "f", "t-2") == KeyIsNew()


@pytest.mark.parametrize("reach", [sent, opened])
async def test_a_write_that_may_have_been_sent_is_not_dropped(store: Store, reach: object) -> None:
    task = await reach(store)  # type: ignore[operator] # one of the bench's
    await store.drop("t-1")
    (turn,) = await store.look([A])
    assert turn.holder is not None
    assert turn.holder.task == task


async def test_the_writes_of_all_nodes_are_listed(store: Store, other: Store) -> None:
    await held(store, "t-1", ("box", "1"))
    await sent(other, "t-2", ("box", "2"))
    await opened(store, "t-3", ("box", "3"))
    await store.end(await sent(store, "t-4", ("box", "4")), RECORD, "chain-1")
    assert [filed.task.id for filed in await other.open_writes()] == ["t-1", "t-2", "t-3"]
    assert [filed.task.id for filed in await other.all_writes()] == ["t-1", "t-2", "t-3", "t-4"]


# Records that are owed


async def test_the_record_of_an_end_is_owed_until_it_is_known_to_be_there(store: Store, other: Store) -> None:
    tasks = [f"t-{number}" for number in range(3)]
    for name in tasks:
        await store.end(await sent(store, name), {"task": name}, "chain-1")
    assert [filed.record for filed in await other.owing()] == [{"task": name} for name in tasks]
    await other.recorded(["t-0", "t-2", "unknown"])
    assert [(filed.task.id, filed.owed) for filed in await store.owing()] == [("t-1", "chain-1")]
    await store.recorded([])
    assert len(await store.owing()) == 1
    done = await store.find("t-0")
    assert done is not None
    assert (done.phase, done.owed, done.record) == (Phase.ENDED, None, None)


async def test_what_some_chains_owe_is_left_out_if_asked_to(store: Store, other: Store) -> None:
    for number in range(1, 4):
        await store.end(await sent(store, f"t-{number}"), RECORD, f"chain-{number}")
    assert [filed.owed for filed in await other.owing(["chain-1", "chain-3", "unknown"])] == ["chain-2"]
    assert len(await other.owing([])) == 3


async def test_more_records_than_one_statement_names_are_told_of_at_once(store: Store) -> None:
    await store.end(await sent(store), RECORD, "chain-1")
    await store.recorded(["t-1", *(f"u-{number}" for number in range(1200))])
    assert await store.owing() == []


async def test_one_inherits_a_debt(store: Store, other: Store) -> None:
    await store.end(await sent(store), RECORD, "chain-1")
    told = await asyncio.gather(*(each.inherit("t-1", "chain-1", "chain-2") for each in (store, other) * 3))
    assert sum(told) == 1
    assert [filed.owed for filed in await store.owing()] == ["chain-2"]
    assert not await other.inherit("unknown", "chain-1", "chain-2")


# Writes that only the audit stream remembers


async def test_a_restored_write_is_open_and_its_nodes(store: Store, other: Store) -> None:
    filed = Filed(a_task(), Phase.SENT, "chain-0")
    assert await store.restore(filed, [A, PLACER])
    kept = replace(filed, phase=Phase.OPEN)
    assert await store.open_writes() == [kept]
    assert await other.look([A, PLACER]) == [Turn(1, kept), Turn(1, kept)]
    assert not await other.restore(filed, [A])


async def test_a_restored_write_takes_no_name_from_another(store: Store) -> None:
    holder = await held(store, "t-1", A)
    assert await store.restore(Filed(a_task("t-2"), Phase.OPEN, "chain-0"), [A, PLACER])
    turns = await store.look([A, PLACER])
    assert [turn.holder.task.id if turn.holder else None for turn in turns] == ["t-1", "t-2"]
    await store.end(holder, RECORD, "chain-1")
    assert [turn.holder is None for turn in await store.look([A, PLACER])] == [True, False]


async def test_who_read_before_a_write_was_restored_gets_no_turn(store: Store) -> None:
    await held(store)
    await store.drop("t-1")
    assert await store.restore(Filed(a_task("t-2"), Phase.OPEN, "chain-0"), [A])
    await store.end(a_task("t-2"), RECORD, "chain-1")
    assert not await store.hold(a_task("t-3"), {A: 1}, "chain-1")
    assert await store.hold(a_task("t-3"), {A: 2}, "chain-1")


# The store itself


async def test_everything_outlives_the_process(url: str) -> None:
    first = await open_store(url, "chain-1", KEEP)
    await first.claim_key("swiftbook", "k", "f", "t-1")
    task = await sent(first)
    await first.close()
    second = await visit_store(url, "chain-2", KEEP)
    assert await second.look([A]) == [Turn(1, Filed(task, Phase.SENT, "chain-1"))]
    await second.close()


async def test_a_closed_store_cannot_answer(url: str) -> None:
    store = await open_store(url, "chain-1", KEEP)
    await store.close()
    with pytest.raises(StateUnavailable):
        await store.look([A])
    with pytest.raises(StateUnavailable):
        await store.hold(a_task(), {A: 0}, "chain-1")
    assert not await store.is_usable()


async def test_a_visitor_has_no_lease_and_begins_no_write(url: str, store: Store) -> None:
    visitor = await visit_store(url, "chain-2", KEEP)
    try:
        with pytest.raises(StateUnavailable):
            await visitor.hold(a_task(), {A: 0}, "chain-2")
        with pytest.raises(StateUnavailable):
            await visitor.claim_key("swiftbook", "k", "f", "t-1")
        with pytest.raises(StateUnavailable):
            await visitor.restore(Filed(a_task(), Phase.OPEN, "chain-0"), [A])
        assert await store.peers() == []
        assert await visitor.peers() == ["chain-1"]
    finally:
        await visitor.close()
