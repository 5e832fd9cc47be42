"""A line is made and opened fast or as the domain does it: both say the same."""

import hashlib
import json
import math
from collections.abc import Callable
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.chain import FIRST_PREV, HASH_MEMBER, NotCanonical, Record, Sealed, What, open_line, seal
from gateway.storage.fast_lines import open_fast, seal_fast
from tests.edges.journal_bench import NOON
from tests.edges.test_audit_export import KINDS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.text(max_size=6).filter(lambda name: name not in ("prev", "hash")), VALUES, max_size=6)


class Kind(StrEnum):
    BOX = "box"


class Number(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


def sealed_by(way: Callable[[Record, str], Sealed], record: Record) -> Sealed | str:
    try:
        return way(record, FIRST_PREV)
    except NotCanonical as error:
        return str(error)


ODD = st.sampled_from(
    [1.5, 1.0, 2**53, -(2**53), 10**400, b"b", {1}, {2: 3}, {None: 1}, "\ud800", {"\udfff": 1}, Kind.BOX, Number.ONE,
     Text("text"), {Text("name"): 1}, {Kind.BOX: 2}, ("a", ["b"]), NOON, "\x00\x1f\x7f\u2028/", math.nan]
)  # fmt: skip


@settings(max_examples=400)
@given(RECORDS, st.dictionaries(st.sampled_from(["a", "é", "\uffff", "😀"]), ODD, max_size=2))
def test_a_record_is_sealed_or_refused_alike(record: Record, odd: Record) -> None:
    whole = {**record, **odd, "in": [odd]}
    assert sealed_by(seal_fast, whole) == sealed_by(seal, whole)


def test_what_is_nested_too_deeply_is_refused_alike() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert sealed_by(seal_fast, {"a": deep}) == sealed_by(seal, {"a": deep}) == "nested too deeply"


@given(RECORDS)
def test_what_a_journal_writes_is_opened(record: Record) -> None:
    line = seal(record, FIRST_PREV).line
    opened = open_fast(line)
    assert isinstance(opened, dict)
    assert (opened, list(opened)) == (open_line(line), list(json.loads(line)))


@settings(max_examples=400)
@given(RECORDS, st.data())
def test_what_was_done_to_a_line_is_seen_alike(record: Record, data: st.DataObject) -> None:
    line = bytearray(seal(record, FIRST_PREV).line)
    at = data.draw(st.integers(0, len(line) - 1))
    match data.draw(st.sampled_from(["change", "cut", "add"])):
        case "change":
            line[at] = data.draw(st.integers(0, 255))
        case "cut":
            del line[at : at + data.draw(st.integers(1, 9))]
        case _:
            line[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    assert open_fast(bytes(line)) == open_line(bytes(line))


def rehashed(content: str) -> bytes:
    """A line whose hash is right over what stands there, however that is spelled."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f'{content[:-1]},"hash":"{digest}"}}\n'.encode()


@pytest.mark.parametrize(
    "content",
    [
        '{"a":1.5}', '{"a":1.0}', '{"a":1e2}', '{"a":[1.5]}', '{"a":{"b":2.5}}', '{"a":9007199254740993}', '{"a":NaN}',
        '{"a":1,"a":1}', '{"a":{"b":1,"b":1}}', '{"a": 1}', '{"b":1,"a":2}', '{"a":"\\u0041"}', '{"a":"\\u001F"}',
        '{"a":"\\ud800"}', '{"a":-0}', "[1]", '{"a":"é"}', '{"a":"\\/"}', '{"a":' + 12 * "[" + 12 * "]" + "}",
        '{"a":' + 99_999 * "[" + 99_999 * "]" + "}",
    ],
)  # fmt: skip
def test_a_line_that_anybody_could_read_otherwise_is_no_better_for_a_good_hash(content: str) -> None:
    line = rehashed(content)
    assert open_fast(line) == open_line(line)


@pytest.mark.parametrize("content", ['{"a":1.5}', '{"a":1.0}', '{"a":9007199254740993}', '{"a":1,"a":1}', '{"a": 1}'])
def test_none_of_these_is_a_record(content: str) -> None:
    assert open_fast(rehashed(content)) is What.EDITED


def test_half_a_line_is_torn_and_a_hash_adds_so_many_bytes() -> None:
    line = seal({"a": 1}, FIRST_PREV).line
    assert open_fast(line[:-1]) is What.TORN
    assert len(line) - 1 - len(b'{"a":1,"prev":"' + FIRST_PREV.encode() + b'"}') == HASH_MEMBER


def test_every_kind_of_record_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("gateway.storage.fast_lines.open_line")
    lines = [seal(record, FIRST_PREV) for record, _, _ in KINDS.values()]
    monkeypatch.delattr("gateway.storage.fast_lines.seal")
    assert [seal_fast(record, FIRST_PREV) for record, _, _ in KINDS.values()] == lines
    for record, _, _ in KINDS.values():
        assert isinstance(open_fast(seal(record, FIRST_PREV).line), dict)
