"""What comes of several who want the same thing of the store at the same moment, the same on both databases."""

import asyncio

import pytest

from gateway.flow.store import Filed, KeyIsKnown, KeyIsNew, Phase
from gateway.storage.store import Store
from tests.edges.store_bench import PLACER, A, Open, a_task, held, opened, sent


@pytest.fixture
async def store(open_node: Open) -> Store:
    return await open_node()


@pytest.fixture
async def other(open_node: Open, store: Store) -> Store:
    return await open_node("chain-2")


async def test_of_many_who_want_an_appointment_one_gets_it(store: Store, other: Store) -> None:
    tries = [
        each.hold(a_task(f"{n} {each.nodes.name}"), {A: 0, PLACER: 0}, "c")
        for n in range(15)
        for each in (store, other)
    ]
    assert sum(await asyncio.gather(*tries)) == 1
    assert len(await store.open_writes()) == 1


async def test_names_wanted_in_opposite_orders_are_given_without_a_deadlock(store: Store, other: Store) -> None:
    names = [("box", f"a-{number}") for number in range(5)]
    for _ in range(5):
        epochs = [turn.epoch for turn in await store.look(names)]
        seen = list(zip(names, epochs, strict=True))
        tries = [
            each.hold(a_task(f"{n} {each.nodes.name} {epochs}"), dict(wanted), "c")
            for n in range(4)
            for each, wanted in ((store, seen), (other, seen[::-1]))
        ]
        assert sum(await asyncio.gather(*tries)) == 1
        for filed in await store.open_writes():
            await store.drop(filed.task.id)


async def test_of_many_who_use_a_key_one_gets_it(store: Store, other: Store) -> None:
    tries = [
        each.claim_key("swiftbook", "k", "f", f"{n} {each.nodes.name}") for n in range(15) for each in (store, other)
    ]
    answers = await asyncio.gather(*tries)
    assert answers.count(KeyIsNew()) == 1
    assert answers.count(KeyIsKnown(None)) == 29


async def test_of_many_who_end_a_write_one_is_told_so(store: Store, other: Store) -> None:
    task = await opened(store)
    tries = [each.end(task, {"n": n}, each.nodes.name) for n in range(15) for each in (store, other)]
    assert sum(await asyncio.gather(*tries)) == 1


async def test_of_many_who_restore_a_write_one_is_told_so(store: Store, other: Store) -> None:
    filed = Filed(a_task(), Phase.OPEN, "chain-0")
    tries = [each.restore(filed, [PLACER, A]) for _ in range(10) for each in (store, other)]
    assert sum(await asyncio.gather(*tries)) == 1


async def test_many_appointments_are_written_at_once(store: Store, other: Store) -> None:
    async def write(each: Store, name: str) -> None:
        task = await sent(each, name, ("box", name), ("box", f"placer/{name}"))
        assert await each.end(task, {"task": name}, each.nodes.name)

    await asyncio.gather(*(write(each, f"{n} {each.nodes.name}") for n in range(25) for each in (store, other)))
    assert len(await store.owing()) == 50
    assert await store.open_writes() == []


async def test_a_caller_that_gives_up_leaves_the_store_usable_and_nothing_half_done(store: Store, other: Store) -> None:
    for pause in range(8):
        name = f"t-{pause}"
        task = asyncio.create_task(held(store, name, A, PLACER))
        for _ in range(pause):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # What was cancelled has come to its end, one way or the other, before its caller goes on.
        holders = {turn.holder.task.id if turn.holder else None for turn in await other.look([A, PLACER])}
        filed = await other.find(name)
        assert holders == {None if filed is None else name}
        await store.drop(name)
        assert [turn.holder for turn in await other.look([A, PLACER])] == [None, None]
