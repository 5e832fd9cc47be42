"""Blocks: how a node follows the store, and in which order a person's wish is stored and recorded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from gateway.app.blocks import LOOK_EVERY, Blocks, Chain, NotDone, Wish, lift, put
from gateway.domain.grant import Block
from gateway.flow.ports import JournalUnavailable, StateUnavailable
from tests.makers import NOW, policy

PARTNER: Block = ("swiftbook", None)
PAIR: Block = ("swiftbook", "airedale")
WISH = Wish("swiftbook", None, "A Operator", NOW)


@dataclass
class Place:
    """A store and a journal in one, which fail when told to and remember in which order they were used."""

    kept: set[Block] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    records: list[Mapping[str, object]] = field(default_factory=list)
    fault: Exception = field(default_factory=lambda: StateUnavailable("the state file cannot answer"))

    def _step(self, name: str) -> None:
        if name in self.failing:
            raise self.fault
        self.done.append(name)

    async def block(self, partner: str, customer: str | None, by: str, at: datetime) -> bool:
        self._step("block")
        assert (by, at) == ("A Operator", NOW)
        new = (partner, customer) not in self.kept
        self.kept.add((partner, customer))
        return new

    async def unblock(self, partner: str, customer: str | None) -> bool:
        self._step("unblock")
        found = (partner, customer) in self.kept
        self.kept.discard((partner, customer))
        return found

    async def blocks(self) -> Collection[Block]:
        self._step("blocks")
        return list(self.kept)

    @contextlib.asynccontextmanager
    async def journal(self) -> AsyncIterator[Chain]:
        yield self

    async def write(self, record: Mapping[str, object], *, essential: bool = False) -> int:
        if "journal" in self.failing:
            raise JournalUnavailable("no space left on device")
        assert essential, "the reserve of the disk is there for this"
        self._step("record")
        self.records.append(record)
        return 2


async def test_the_policy_in_force_carries_the_blocks() -> None:
    place = Place({PAIR})
    blocks, plain = Blocks(place.blocks), policy()
    assert blocks.on(plain).blocks == frozenset()

    await blocks.look()

    carried = blocks.on(plain)
    assert carried.blocks == {PAIR}
    assert blocks.on(plain) is carried
    other = policy(digest="d2")
    assert blocks.on(other).blocks == {PAIR}
    assert blocks.on(other).digest == "d2"


async def test_a_look_that_fails_leaves_the_blocks_in_force() -> None:
    place = Place({PARTNER})
    blocks = Blocks(place.blocks)
    await blocks.look()
    place.failing, place.kept = {"blocks"}, set()

    with pytest.raises(StateUnavailable):
        await blocks.look()

    assert blocks.on(policy()).blocks == {PARTNER}


@contextlib.asynccontextmanager
async def followed(place: Place) -> AsyncIterator[Blocks]:
    blocks = Blocks(place.blocks, look_every=0.01)
    task = asyncio.create_task(blocks.run())
    try:
        yield blocks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if good():
                return
            await asyncio.sleep(0.005)


async def test_blocks_are_followed_as_they_come_and_go() -> None:
    place = Place()
    async with followed(place) as blocks:
        place.kept.add(PARTNER)
        await until(lambda: blocks.current == {PARTNER})
        place.kept = {PAIR}
        await until(lambda: blocks.current == {PAIR})


@pytest.mark.parametrize("fault", [StateUnavailable("away"), KeyError("a mistake")], ids=["the store", "a bug"])
async def test_following_outlives_a_fault_with_the_last_known_blocks_in_force(fault: Exception) -> None:
    place = Place({PARTNER}, fault=fault)
    async with followed(place) as blocks:
        await until(lambda: blocks.current == {PARTNER})
        place.failing, place.kept = {"blocks"}, {PAIR}
        before = len(place.done)
        await asyncio.sleep(0.05)
        assert blocks.current == {PARTNER}
        assert len(place.done) == before
        place.failing = set()
        await until(lambda: blocks.current == {PAIR})


def test_two_looks_fit_into_the_second_that_a_block_may_take() -> None:
    assert 2 * LOOK_EVERY < 1


@pytest.mark.parametrize(
    ("customer", "code"), [(None, "partner-suspended"), ("airedale", "no-grant")], ids=["everywhere", "at a customer"]
)
async def test_a_block_is_in_force_before_it_is_on_record(customer: str | None, code: str) -> None:
    place = Place()
    wish = Wish("swiftbook", customer, "A Operator", NOW)

    assert await put(wish, place, place.journal)

    assert place.done == ["block", "record"]
    assert place.kept == {("swiftbook", customer)}
    assert place.records == [
        {
            "event": "blocked",
            "partner": "swiftbook",
            "customer": customer,
            "decision": "refuse",
            "code": code,
            "operator": "A Operator",
            "now": "2026-06-01T09:00:00.000000Z",
        }
    ]


async def test_a_second_block_changes_nothing_and_is_on_record_too() -> None:
    place = Place({PARTNER})

    assert not await put(WISH, place, place.journal)

    assert (place.kept, len(place.records)) == ({PARTNER}, 1)


async def test_the_end_of_a_block_is_on_record_before_it_counts() -> None:
    place = Place({PARTNER, PAIR})

    assert await lift(WISH, place, place.journal)

    assert place.done == ["blocks", "record", "unblock"]
    assert place.kept == {PAIR}
    (record,) = place.records
    assert (record["event"], record["decision"], record["code"]) == ("blocked", "permit", None)


async def test_what_is_not_blocked_leaves_no_record_of_its_end() -> None:
    place = Place({PAIR})

    assert not await lift(WISH, place, place.journal)

    assert (place.records, place.kept) == ([], {PAIR})


Act = Callable[[Wish, Place, Callable[[], contextlib.AbstractAsyncContextManager[Chain]]], Awaitable[bool]]
HALVES = [
    pytest.param(put, "block", set(), 0, "may not be in force, and nothing is on record", id="no store to block in"),
    pytest.param(put, "journal", {PARTNER}, 0, "is in force, but it is not on record", id="no record of a block"),
    pytest.param(lift, "blocks", {PARTNER}, 0, "nothing was changed", id="no store to look in"),
    pytest.param(lift, "journal", {PARTNER}, 0, "nothing was changed", id="no record of its end"),
    pytest.param(
        lift, "unblock", {PARTNER}, 1, "on record as lifted, but the block may still", id="no store to lift in"
    ),
]


@pytest.mark.parametrize(("act", "failing", "kept", "recorded", "message"), HALVES)
async def test_what_is_half_done_is_said(act: Act, failing: str, kept: set[Block], recorded: int, message: str) -> None:
    place = Place(set() if act is put else {PARTNER}, failing={failing})

    with pytest.raises(NotDone, match=message):
        await act(WISH, place, place.journal)

    assert (place.kept, len(place.records)) == (kept, recorded)
