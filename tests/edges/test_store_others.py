"""What else lies in the request store: assertions that were used, blocks, shared rates; and what is removed when."""

import asyncio
from datetime import timedelta

import pytest

from gateway.flow.store import KeyIsKnown, KeyIsNew, Turn
from gateway.storage.blocks import Block, Blocks
from gateway.storage.shared_rates import Buckets
from gateway.storage.store import Store
from tests.edges.store_bench import NOW, PLACER, RECORD, A, Monotonic, Open, held, opened, sent

SECONDS = int(NOW.timestamp())
END = SECONDS + 300


@pytest.fixture
async def store(open_node: Open) -> Store:
    return await open_node()


@pytest.fixture
async def other(open_node: Open, store: Store) -> Store:
    return await open_node("chain-2")


# Assertions


async def test_a_jti_is_new_once(store: Store) -> None:
    assert await store.remember_jti("swiftbook", "j", END, NOW)
    assert not await store.remember_jti("swiftbook", "j", END, NOW)
    assert not await store.remember_jti("swiftbook", "j", END + 100, NOW)


async def test_each_issuer_has_jtis_of_its_own(store: Store) -> None:
    assert await store.remember_jti("swiftbook", "j", END, NOW)
    assert await store.remember_jti("viewonly", "j", END, NOW)


async def test_letters_and_spaces_count(store: Store) -> None:
    for jti in ("j", "J", "j ", "'; DROP TABLE seen_jti; --", "ñ"):
        assert await store.remember_jti("swiftbook", jti, END, NOW)


async def test_of_many_at_once_one_is_told_that_it_was_new(store: Store, other: Store) -> None:
    tries = [each.remember_jti("swiftbook", "j", END, NOW) for each in (store, other) for _ in range(25)]
    assert sum(await asyncio.gather(*tries)) == 1


async def _jtis(store: Store) -> set[str]:
    return {jti for (jti,) in await store.database.rows("SELECT jti FROM seen_jti")}


async def test_what_ended_more_than_a_day_ago_is_forgotten(store: Store) -> None:
    await store.remember_jti("swiftbook", "old", END, NOW)
    await store.remember_jti("swiftbook", "later", END + 60, NOW)
    await store.remember_jti("swiftbook", "new", END + 90_000, NOW + timedelta(days=1, seconds=300 + 1))
    assert await _jtis(store) == {"later", "new"}


async def test_a_clock_set_back_by_a_day_lets_nothing_in_again(store: Store) -> None:
    await store.remember_jti("swiftbook", "j", END, NOW)
    await store.remember_jti("swiftbook", "other", END + 86_400, NOW + timedelta(days=1))
    assert not await store.remember_jti("swiftbook", "j", END, NOW)


async def test_forgetting_is_not_done_on_every_call(store: Store) -> None:
    await store.remember_jti("swiftbook", "first", END, NOW)
    await store.remember_jti("swiftbook", "ended", SECONDS - 86_800, NOW)
    await store.remember_jti("swiftbook", "soon", END, NOW + timedelta(seconds=59))
    assert "ended" in await _jtis(store)
    await store.remember_jti("swiftbook", "minute", END, NOW + timedelta(seconds=60))
    assert "ended" not in await _jtis(store)


async def test_a_store_is_usable_while_it_has_its_tables(store: Store) -> None:
    assert await store.is_usable()
    await store.database.change("ALTER TABLE seen_jti RENAME TO away")
    assert not await store.is_usable()
    await store.database.change("ALTER TABLE away RENAME TO seen_jti")
    assert await store.is_usable()


# Blocks


async def test_a_block_is_set_and_lifted_on_all_nodes(store: Store, other: Store) -> None:
    one, two = Blocks(store.database), Blocks(other.database)
    assert await one.block("swiftbook", None, "A Person", NOW)
    assert await two.block("swiftbook", "airedale", "B Person", NOW + timedelta(hours=1))
    assert not await two.block("swiftbook", None, "B Person", NOW)
    assert set(await two.blocks()) == {("swiftbook", None), ("swiftbook", "airedale")}
    assert await one.listing() == [
        Block("swiftbook", None, "A Person", NOW),
        Block("swiftbook", "airedale", "B Person", NOW + timedelta(hours=1)),
    ]
    assert not await two.unblock("swiftbook", "leeds")
    assert await two.unblock("swiftbook", None)
    assert not await one.unblock("swiftbook", None)
    assert set(await one.blocks()) == {("swiftbook", "airedale")}


async def test_of_many_who_block_one_is_told_that_it_was_new(store: Store, other: Store) -> None:
    tries = [Blocks(each.database).block("swiftbook", None, "A", NOW) for each in (store, other) * 8]
    assert sum(await asyncio.gather(*tries)) == 1


# Rates


async def test_a_bucket_is_full_at_first_and_then_empty(store: Store, other: Store) -> None:
    buckets = [Buckets(store.database), Buckets(other.database)]
    taken = [await buckets[number % 2].take("partner:swiftbook", 3, 86400) for number in range(5)]
    assert [granted for granted, _ in taken] == [True, True, True, False, False]
    assert [level for _, level in taken] == pytest.approx([2, 1, 0, 0, 0], abs=0.01)
    assert (await buckets[0].take("partner:viewonly", 3, 86400))[0]


async def test_all_nodes_together_get_no_more_than_the_bucket_holds(store: Store, other: Store) -> None:
    buckets = [Buckets(store.database), Buckets(other.database)]
    taken = await asyncio.gather(*(each.take("k", 20, 86400) for each in buckets * 20))
    assert sum(granted for granted, _ in taken) == 20


async def _level(buckets: Buckets, key: str, requests: int, seconds: int) -> float:
    granted, level = await buckets.take(key, requests, seconds)
    assert granted
    return level


async def _age(store: Store, seconds: float) -> None:
    await store.database.change("UPDATE bucket SET at = at - $1", seconds)


async def test_a_bucket_is_refilled_evenly_up_to_its_brim(store: Store) -> None:
    buckets = Buckets(store.database)
    for _ in range(6):
        await buckets.take("k", 6, 60_000)
    await _age(store, 20_000)
    assert await _level(buckets, "k", 6, 60_000) == pytest.approx(1, abs=0.01)
    await _age(store, 900_000)
    assert await _level(buckets, "k", 6, 60_000) == pytest.approx(5, abs=0.01)


async def test_a_clock_set_back_refills_nothing_and_takes_nothing(store: Store) -> None:
    buckets = Buckets(store.database)
    await buckets.take("k", 6, 60_000)
    await _age(store, -900_000)
    assert await _level(buckets, "k", 6, 60_000) == pytest.approx(4, abs=0.01)
    assert await _level(buckets, "k", 6, 60_000) == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("rate", [(7, 60_000), (6, 50_000)])
async def test_a_rate_that_was_changed_starts_full(store: Store, rate: tuple[int, int]) -> None:
    buckets = Buckets(store.database)
    for _ in range(7):
        await buckets.take("k", 6, 60_000)
    assert await _level(buckets, "k", *rate) == pytest.approx(rate[0] - 1, abs=0.01)


# What is removed


async def _older(store: Store, age: timedelta) -> None:
    """Let time pass for everything that is filed."""
    for table, column in (("task", "touched"), ("turn", "touched"), ("request_key", "touched"), ("bucket", "at")):
        await store.database.change(f"UPDATE {table} SET {column} = {column} - $1", age.total_seconds())


@pytest.fixture
def clock(store: Store) -> Monotonic:
    """Stands in for the hour between two removals."""
    made = Monotonic()
    store.retention._monotonic = made
    return made


async def _cleaned(store: Store, clock: Monotonic) -> None:
    clock.seconds = store.retention._next + 1
    assert await store.renew()


async def _ended(store: Store, name: str = "t-1") -> None:
    await store.claim_key("swiftbook", name, "f", name)
    await store.end(await sent(store, name, ("box", name)), RECORD, "chain-1")
    await store.recorded([name])


async def test_an_ended_write_and_its_key_are_kept_as_long_as_was_said(store: Store, clock: Monotonic) -> None:
    await _ended(store)
    await _older(store, timedelta(days=30, seconds=-5))
    await _cleaned(store, clock)
    assert isinstance(await store.claim_key("swiftbook", "t-1", "f", "t-2"), KeyIsKnown)
    await _older(store, timedelta(seconds=10))
    await _cleaned(store, clock)
    assert await store.find("t-1") is None
    assert await store.claim_key("swiftbook", "t-1", "f", "t-2") == KeyIsNew()


async def test_no_key_is_kept_less_than_a_day(open_node: Open, clock: Monotonic) -> None:
    store = await open_node("chain-3", keep=timedelta(hours=1))
    store.retention._monotonic = clock
    await _ended(store)
    await _older(store, timedelta(hours=24, seconds=-5))
    await _cleaned(store, clock)
    assert isinstance(await store.claim_key("swiftbook", "t-1", "f", "t-2"), KeyIsKnown)
    await _older(store, timedelta(seconds=10))
    await _cleaned(store, clock)
    assert await store.claim_key("swiftbook", "t-1", "f", "t-2") == KeyIsNew()


async def test_nothing_is_removed_that_somebody_waits_for(store: Store, clock: Monotonic) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await opened(store, "t-1", A, PLACER)
    await held(store, "t-2", ("box", "2"))
    await store.end(await sent(store, "t-3", ("box", "3")), RECORD, "chain-1")
    await _older(store, timedelta(days=400))
    await _cleaned(store, clock)
    assert {filed.task.id for filed in await store.all_writes()} == {"t-1", "t-2", "t-3"}
    assert all(turn.holder is not None for turn in await store.look([A, PLACER, ("box", "2")]))
    assert isinstance(await store.claim_key("swiftbook", "k", "f", "t-4"), KeyIsKnown)


async def test_the_names_of_an_appointment_are_forgotten_together_after_a_day(store: Store, clock: Monotonic) -> None:
    await held(store, "t-1", A, PLACER)
    await store.drop("t-1")
    ages = await store.database.rows("SELECT DISTINCT touched FROM turn")
    assert len(ages) == 1
    await _older(store, timedelta(hours=24, seconds=-5))
    await _cleaned(store, clock)
    assert await store.look([A, PLACER]) == [Turn(1), Turn(1)]
    await _older(store, timedelta(seconds=10))
    await _cleaned(store, clock)
    assert await store.look([A, PLACER]) == [Turn(), Turn()]


async def test_a_key_that_could_not_be_given_back_is_free_after_a_day(store: Store, clock: Monotonic) -> None:
    await store.claim_key("swiftbook", "k", "f", "t-1")
    await _older(store, timedelta(hours=24, seconds=-5))
    await _cleaned(store, clock)
    assert await store.claim_key("swiftbook", "k", "f", "t-2") == KeyIsKnown(None)
    await _older(store, timedelta(seconds=10))
    await _cleaned(store, clock)
    assert await store.claim_key("swiftbook", "k", "f", "t-2") == KeyIsNew()


async def test_it_is_cleaned_once_an_hour(store: Store, clock: Monotonic) -> None:
    await _cleaned(store, clock)
    await _ended(store)
    await _older(store, timedelta(days=31))
    for seconds, kept in ((3599, True), (3601, False)):
        clock.seconds = store.retention._next - 3600 + seconds
        await store.renew()
        assert (await store.find("t-1") is not None) is kept


async def test_many_old_writes_are_removed_in_pieces(store: Store, clock: Monotonic) -> None:
    body = (await store.database.rows("SELECT 'x'"))[0][0]
    for start in range(0, 1100, 50):
        rows = ", ".join(f"('t-{start + n}', 'ended', 'c', 'c', 0, '{body}')" for n in range(50))
        await store.database.change(f"INSERT INTO task (id, phase, node, chain, touched, body) VALUES {rows}")
    await _cleaned(store, clock)
    assert await store.database.rows("SELECT id FROM task") == []
