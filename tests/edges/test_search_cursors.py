"""Cursors: sealed, bound to one holder, good for ten minutes, and silent about what they hold."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.appointment import NHS_NUMBER_SYSTEM, Status
from gateway.domain.grant import Coding
from gateway.domain.search import Hit, Query
from gateway.flow.search import Found, Place
from gateway.partner.cursors import LIFETIME, Bound, Cursor, Cursors
from gateway.partner.searchset import searchset
from tests.makers import appointment

NOW = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
NHS_NUMBER = "9990000018"
MINE = Bound("swiftbook", "airedale", "d1")
CURSORS = Cursors.of(b"sixteen bytes of key")
CURSOR = Cursor(Query(Coding(NHS_NUMBER_SYSTEM, NHS_NUMBER)), Place(2, 7))
SEALED = CURSORS.seal(CURSOR, MINE, NOW)

CODINGS = st.builds(Coding, st.text(max_size=60), st.text(max_size=60))
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
QUERIES = st.builds(
    Query,
    CODINGS,
    st.none() | CODINGS,
    MOMENTS,
    MOMENTS,
    st.frozensets(st.sampled_from(list(Status))),
    st.integers(1, 100),
)


@given(QUERIES, st.integers(1, 400), st.integers(0, 100))
def test_what_was_sealed_is_read(query: Query, page: int, offset: int) -> None:
    cursor = Cursor(query, Place(page, offset))
    assert CURSORS.open(CURSORS.seal(cursor, MINE, NOW), MINE, NOW) == cursor


def test_every_node_with_the_key_reads_it_and_no_other() -> None:
    assert Cursors.of(b"sixteen bytes of key").open(SEALED, MINE, NOW) == CURSOR
    assert Cursors.of(b"sixteen bytes of Key").open(SEALED, MINE, NOW) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(MINE, partner="cardiolink"), id="another partner"),
        pytest.param(replace(MINE, customer="leeds"), id="another customer"),
        pytest.param(replace(MINE, digest="d2"), id="other grants"),
        pytest.param(Bound("swiftbookairedale", "", "d1"), id="the same letters elsewhere"),
    ],
)
def test_it_is_nobody_elses(other: Bound) -> None:
    assert CURSORS.open(SEALED, other, NOW) is None


def test_it_is_good_for_ten_minutes() -> None:
    assert timedelta(minutes=10) == LIFETIME
    assert CURSORS.open(SEALED, MINE, NOW + LIFETIME - timedelta(milliseconds=1)) == CURSOR
    assert CURSORS.open(SEALED, MINE, NOW + LIFETIME) is None


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_no_character_of_it_can_be_changed(place: int) -> None:
    for character in "A_9":
        changed = SEALED[:place] + character + SEALED[place + 1 :]
        if changed != SEALED:
            assert CURSORS.open(changed, MINE, NOW) is None


FOREIGN = {
    "nothing": "",
    "one letter": "A",
    "cut": SEALED[:-1],
    "cut to the nonce": SEALED[:16],
    "longer": SEALED + "A",
    "padded": SEALED + "=",
    "twice": SEALED + SEALED,
    "another alphabet": SEALED.replace("-", "+").replace("_", "/") + "+",
    "not ASCII": "é" * 40,
    "very long": "A" * 100_000,
    "plain": base64.urlsafe_b64encode(json.dumps([1.0, 1, 0]).encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_what_was_not_sealed_here_is_none(text: str) -> None:
    assert CURSORS.open(text, MINE, NOW) is None


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert CURSORS.open(text, MINE, NOW) is None


def test_it_says_nothing() -> None:
    sealed = base64.urlsafe_b64decode(SEALED + "=" * (-len(SEALED) % 4))
    assert NHS_NUMBER.encode() not in sealed
    assert b"nhs" not in sealed
    assert CURSORS.seal(CURSOR, MINE, NOW) != SEALED, "two of one place look alike"


def test_its_length_does_not_tell_how_far_pkbs_list_was_read() -> None:
    lengths = {
        len(CURSORS.seal(replace(CURSOR, place=Place(page, offset)), MINE, NOW))
        for page in (1, 9, 10, 400)
        for offset in (0, 9, 10, 99)
    }
    assert len(lengths) == 1


def test_a_key_is_not_shown() -> None:
    assert "AESGCM" not in repr(CURSORS)


# The Bundle around them

BASE = "https://gateway.example/airedale/fhir"


def test_a_page_is_a_searchset_with_the_resources_as_written() -> None:
    body = b'{"resourceType":"Appointment","id":"a-1","priority":1.10}'
    told = searchset(BASE, Found((Hit(appointment(), frozenset(), body),), Place(2), "d1"), "here", "there")
    assert json.loads(told) == {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [
            {"relation": "self", "url": f"{BASE}/Appointment?_cursor=here"},
            {"relation": "next", "url": f"{BASE}/Appointment?_cursor=there"},
        ],
        "entry": [{"fullUrl": f"{BASE}/Appointment/a-1", "resource": json.loads(body), "search": {"mode": "match"}}],
    }
    assert body in told


def test_a_page_of_nothing_has_no_entries_no_total_and_no_next() -> None:
    told = json.loads(searchset(BASE, Found((), None, "d1"), "here", None))
    assert set(told) == {"resourceType", "type", "link"}
    assert [link["relation"] for link in told["link"]] == ["self"]
