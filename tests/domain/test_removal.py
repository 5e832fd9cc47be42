"""What may be gone from the audit stream, and what may not."""

import pytest

from gateway.domain.chain import FIRST_PREV, What, seal
from gateway.domain.chain_check import Bad, Link, Named, Removed, Sound, Stretch, follow, joined, removals
from gateway.domain.removal import upheld


def stretch(
    begin: int = 1, end: int = 10, *, removed: tuple[Removed, ...] = (), checkpoint: int | None = None
) -> Stretch:
    prev = FIRST_PREV if begin == 1 else f"hash {begin - 1}"
    return Stretch(Link(begin, prev), Link(end, f"hash {end - 1}"), checkpoint, 0, "file", end, removed)


def gone(chain: str, last: int, *, seq: int = 5, ends: bool = False) -> Removed:
    return Removed(chain, 1, last, f"hash {last}", ends, seq)


def test_a_chain_may_begin_where_a_whole_chain_says_that_the_rest_was_removed() -> None:
    chains = {"a": [stretch(4)], "b": [stretch(removed=(gone("a", 3),))]}
    found, unfounded = upheld(chains, signed=False)
    assert (unfounded, found.covers("a", 3, "hash 3")) == (frozenset(), True)
    assert not found.covers("a", 3, "another hash")
    assert not found.covers("a", 2, "hash 2")
    assert not found.covers("b", 3, "hash 3")


@pytest.mark.parametrize(
    "removed",
    [(), (gone("a", 2),), (gone("b", 3),), (Removed("a", 1, 3, "another", False, 5),)],
    ids=["nothing", "less", "of another chain", "another record"],
)
def test_a_chain_may_begin_nowhere_else(removed: tuple[Removed, ...]) -> None:
    _, unfounded = upheld({"a": [stretch(4)], "b": [stretch(removed=removed)]}, signed=False)
    assert unfounded == {"a"}


def test_a_chain_may_tell_of_its_own_beginning() -> None:
    assert upheld({"a": [stretch(4, removed=(gone("a", 3),))]}, signed=False)[1] == frozenset()


def test_what_a_chain_says_that_may_not_begin_there_does_not_count() -> None:
    chains = {"a": [stretch(4)], "b": [stretch(7, removed=(gone("a", 3),))]}
    found, unfounded = upheld(chains, signed=False)
    assert unfounded == {"a", "b"}
    assert not found.covers("a", 3, "hash 3")


@pytest.mark.parametrize(("checkpoint", "counts"), [(None, False), (4, False), (5, False), (6, True)])
def test_where_signatures_are_looked_at_a_statement_counts_once_it_is_signed(
    checkpoint: int | None, counts: bool
) -> None:
    chains = {"a": [stretch(4)], "b": [stretch(removed=(gone("a", 3, seq=5),)), stretch(10, 20, checkpoint=checkpoint)]}
    assert upheld(chains, signed=True)[0].covers("a", 3, "hash 3") == counts
    assert upheld(chains, signed=False)[0].covers("a", 3, "hash 3")


def test_a_chain_that_is_gone_was_removed_up_to_its_end() -> None:
    found, _ = upheld({"b": [stretch(removed=(gone("a", 3), gone("a", 9, ends=True)))]}, signed=False)
    named = [Named(9, "b", "hash 9"), Named(4, "b", "whatever"), Named(9, "the checkpoint")]
    assert found.whole("a", named) == Sound("a", 0, "hash 9", removed=9)
    assert found.whole("a", []) == Sound("a", 0, "hash 9", removed=9)


def test_a_chain_that_is_gone_and_was_longer_is_missing() -> None:
    found, _ = upheld({"b": [stretch(removed=(gone("a", 9, ends=True), gone("c", 3)))]}, signed=False)
    assert found.whole("a", [Named(10, "b")]) == Bad("a", 1, What.MISSING_CHAIN, "", 0, "b")
    assert found.whole("c", []) == Bad("c", 1, What.MISSING_CHAIN, "", 0, "a record of removed files")
    assert found.whole("d", [Named(1, "b")]) == Bad("d", 1, What.MISSING_CHAIN, "", 0, "b")


def test_the_record_removed_last_is_the_one_that_was_named() -> None:
    found, _ = upheld({"b": [stretch(removed=(gone("a", 9, ends=True),))]}, signed=False)
    assert found.whole("a", [Named(9, "b", "other")]) == Bad("a", 9, What.REPLACED, "", 0, "b", 9)
    named = [Named(3, "b", "other")]
    assert joined("a", [stretch(4)], named) == Bad("a", 3, What.REPLACED, "", 0, "b", 3)
    assert joined("a", [stretch(4)], [Named(3, "b", "hash 3"), Named(2, "b", "other")]) == Sound(
        "a", 6, "hash 9", removed=3
    )


def test_records_of_a_chain_that_begins_later_are_counted_from_there() -> None:
    bad = joined("a", [stretch(4)], [Named(12, "b")])
    assert bad == Bad("a", 10, What.CUT_TAIL, "file", 10, "b", 4)
    assert bad.records == 6


@pytest.mark.parametrize(
    "stated", [None, "a", [1], [{"chain": "a", "first": 1, "last": 3, "hash": "h"}], [{"chain": "a", "ends": True}]]
)
def test_what_is_not_said_in_full_says_nothing(stated: object) -> None:
    assert list(removals({"seq": 5, "removed": stated})) == []


def test_what_is_said_in_full_is_taken() -> None:
    stated = {"file": "f", "chain": "a", "first": 1, "last": 3, "hash": "hash 3", "ends": False}
    assert list(removals({"seq": 5, "removed": [stated]})) == [gone("a", 3)]


def test_what_is_said_of_removals_is_gathered_as_a_chain_is_followed() -> None:
    stated = {"file": "f", "chain": "a", "first": 1, "last": 3, "hash": "hash 3", "ends": False}
    record = {"chain": "b", "seq": 1, "event": "segments-removed", "removed": [stated]}
    found = follow("b", [("f", 1, seal(record, FIRST_PREV).line)], Link())
    assert isinstance(found, Stretch)
    assert found.removed == (gone("a", 3, seq=1),)
