"""One at a time, in the order they came, and nobody forgotten."""

import asyncio

import pytest

from gateway.flow.turns import Place, Turns
from tests.flow.fakes import spin

KEY = ("airedale-box", "a-1")


async def visit(turns: Turns, name: str, log: list[str], patience: float = 5.0) -> None:
    async with turns.take(KEY, patience) as got:
        log.append(f"{name} {'in' if got else 'not in'}")
        for _ in range(5):
            await asyncio.sleep(0)
        log.append(f"{name} out")


async def test_turns_are_taken_one_after_the_other_in_the_order_of_arrival() -> None:
    turns, log = Turns(), list[str]()

    await asyncio.gather(*(visit(turns, name, log) for name in "abc"))

    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_one_that_waited_long_enough_goes_on_without_its_turn() -> None:
    turns, log = Turns(), list[str]()
    async with turns.take(KEY, 1.0) as got:
        assert got

        await visit(turns, "b", log, patience=0.001)

        assert log == ["b not in", "b out"]
        await visit(turns, "c", log, patience=0.001)
        assert log[2:] == ["c not in", "c out"]


async def test_a_free_turn_is_got_without_any_patience() -> None:
    async with Turns().take(KEY, 0.0) as got:
        assert got


async def test_turns_of_different_appointments_do_not_wait_for_each_other() -> None:
    turns = Turns()

    async with turns.take(KEY, 0.0) as one, turns.take(("airedale-box", "a-2"), 0.0) as two:
        assert (one, two) == (Place.AT_ONCE, Place.AT_ONCE)


async def test_turns_are_forgotten_when_nobody_needs_them() -> None:
    turns, log = Turns(), list[str]()

    await asyncio.gather(*(visit(turns, str(n), log, patience=0.0) for n in range(20)))

    assert turns._turns == {}


async def test_one_that_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    turns, log = Turns(), list[str]()
    async with turns.take(KEY, 1.0):
        gone = asyncio.create_task(visit(turns, "b", log))
        next_one = asyncio.create_task(visit(turns, "c", log))
        await spin()
        gone.cancel()
        await spin()
    await next_one

    assert log == ["c in", "c out"]
    assert gone.cancelled()
    assert turns._turns == {}


async def test_one_cancelled_just_when_its_turn_comes_leaves_it_to_the_next() -> None:
    turns, log = Turns(), list[str]()
    async with turns.take(KEY, 1.0):
        gone = asyncio.create_task(visit(turns, "b", log))
        next_one = asyncio.create_task(visit(turns, "c", log))
        await spin()
    gone.cancel()
    await next_one

    assert log == ["c in", "c out"]
    assert turns._turns == {}


async def test_a_turn_ends_with_a_fault_too() -> None:
    turns = Turns()

    with pytest.raises(ZeroDivisionError):
        async with turns.take(KEY, 0.0):
            raise ZeroDivisionError

    async with turns.take(KEY, 0.0) as got:
        assert got


async def test_one_that_did_not_wait_is_told_so_and_so_is_one_that_did() -> None:
    turns, places = Turns(), list[Place]()

    async def pass_through(patience: float) -> None:
        async with turns.take(KEY, patience) as place:
            places.append(place)

    async with turns.take(KEY, 1.0) as first:
        waiting = asyncio.create_task(pass_through(1.0))
        await pass_through(0.001)
    await waiting

    assert (first, places) == (Place.AT_ONCE, [Place.NONE, Place.AFTER_WAITING])


async def test_one_that_comes_between_two_turns_has_waited_for_the_second() -> None:
    """The lock is open for a moment then, though somebody else is next."""
    turns, log = Turns(), list[str]()
    async with turns.take(KEY, 1.0):
        waiting = asyncio.create_task(visit(turns, "b", log))
        await spin()

    async with turns.take(KEY, 1.0) as place:
        assert log == ["b in", "b out"]
        assert place is Place.AFTER_WAITING
    await waiting
