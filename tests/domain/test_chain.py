import hashlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.chain import FIRST_PREV, NotCanonical, What, canonical, checkpoint_message, open_line, seal
from gateway.domain.chain_check import EXPLANATION, Bad, Line, Named, Sound
from tests.domain.whole_chain import verify_chain

SAFE = 2**53 - 1
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)


@given(VALUES)
def test_canonical_form_is_what_an_independent_library_writes(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"\ufffd": 1, "\U0001f600": 2, "a": {"\U00010000": 3, "\ue000": [{"z": 1, "y": 2}]}},
        {"€": 1, "\r": 2, "דּ": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7},
        '\x00\x1f\x7f\u2028"\\/\b\t\n\f\r',
        [{"b": (), "a": {}}, SAFE, -SAFE, True, None],
    ],
    ids=["surrogate pairs sort before the last planes", "the RFC's own example", "escapes", "the rest"],
)
def test_canonical_form_is_right_where_languages_differ(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [1.0, [0.5], float("nan"), 2**53, -(2**53), {"a": SAFE + 1}, {1: "a"}, {None: 1}, b"", {"a": {1}},
     "\ud800", deep()],
    ids=["whole float", "fraction", "NaN", "2^53", "-2^53", "too large inside", "integer name", "null name",
         "bytes", "set", "half a surrogate pair", "too deep"],
)  # fmt: skip
def test_what_has_no_single_spelling_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def records(chain: str, contents: Sequence[dict[str, Any]]) -> list[bytes]:
    lines, prev = [], FIRST_PREV
    for seq, content in enumerate(contents, 1):
        sealed = seal({"chain": chain, "seq": seq, "event": "read", **content}, prev)
        lines.append(sealed.line)
        prev = sealed.hash
    return lines


def numbered(lines: Sequence[bytes], file: str = "a.jsonl") -> list[Line]:
    return [(file, number, line) for number, line in enumerate(lines, 1)]


def hash_of(line: bytes) -> str:
    return str(json.loads(line)["hash"])


GOOD = records("c", [{"partner": name} for name in "pqrstu"])
OTHER = records("d", [{"partner": name} for name in "pqrstu"])


def test_a_record_is_sealed_with_the_hash_before_it_and_its_own_hash_last() -> None:
    sealed = seal({"seq": 1, "note": "Zoë"}, FIRST_PREV)
    content: dict[str, Any] = {"seq": 1, "note": "Zoë", "prev": "0" * 64}
    assert sealed.hash == hashlib.sha256(rfc8785.dumps(content)).hexdigest()
    spelled = json.dumps({**content, "hash": sealed.hash}, ensure_ascii=False, separators=(",", ":"))
    assert sealed.line == spelled.encode() + b"\n"
    assert open_line(sealed.line) == {**content, "hash": sealed.hash}


def test_a_good_chain_is_sound_over_several_files() -> None:
    lines = numbered(GOOD[:4]) + numbered(GOOD[4:], "b.jsonl")
    assert verify_chain("c", lines) == Sound("c", 6, hash_of(GOOD[5]))


def test_no_record_at_all_is_sound_and_empty() -> None:
    assert verify_chain("c", []) == Sound("c", 0, FIRST_PREV)


def resealed(line: bytes, **changed: Any) -> bytes:
    record = json.loads(line)
    del record["hash"]
    return seal({**record, **changed}, changed.get("prev", record["prev"])).line


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


BREAKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, int, What]] = {
    "an edited value": (lambda g: [*g[:2], g[2].replace(b'"r"', b'"x"'), *g[3:]], 3, 3, What.EDITED),
    "an edited hash": (lambda g: [*g[:2], g[2].replace(hash_of(g[2]).encode(), b"0" * 64), *g[3:]], 3, 3, What.EDITED),
    "a removed first record": (lambda g: g[1:], 1, 1, What.REMOVED),
    "a removed record": (lambda g: g[:2] + g[3:], 3, 3, What.REMOVED),
    "two swapped records": (swapped, 3, 3, What.REORDERED),
    "a first record moved to the end": (lambda g: g[1:] + g[:1], 1, 1, What.REORDERED),
    "a repeated record": (lambda g: [*g[:3], g[2], *g[3:]], 4, 4, What.INSERTED),
    "a record of another chain": (lambda g: [*g[:2], OTHER[2], *g[3:]], 3, 3, What.INSERTED),
    "an edit that was hashed again": (lambda g: [*g[:2], resealed(g[2], partner="x"), *g[3:]], 4, 4, What.UNLINKED),
    "a seq that is true": (lambda g: [resealed(g[0], seq=True), *g[1:]], 1, 1, What.INSERTED),
    "a record without event": (lambda g: [resealed(g[0], event=None), *g[1:]], 1, 1, What.INSERTED),
    "a first record that names another before it": (lambda g: [resealed(g[0], prev="1" * 64)], 1, 1, What.UNLINKED),
    "an empty line": (lambda g: [*g[:2], b"\n", *g[2:]], 3, 3, What.EDITED),
    "a torn last line": (lambda g: [*g[:5], g[5][:-1]], 6, 6, What.TORN),
}  # fmt: skip


@pytest.mark.parametrize(("breaking", "seq", "line", "what"), BREAKS.values(), ids=BREAKS.keys())
def test_the_first_bad_record_is_named(
    breaking: Callable[[list[bytes]], list[bytes]], seq: int, line: int, what: What
) -> None:
    verdict = verify_chain("c", numbered(breaking(GOOD)))
    assert isinstance(verdict, Bad)
    assert (verdict.chain, verdict.seq, verdict.file, verdict.line, verdict.what) == ("c", seq, "a.jsonl", line, what)
    assert verdict.records == seq - 1


def test_what_stands_in_the_wrong_place_is_described() -> None:
    verdict = verify_chain("c", numbered([GOOD[0], OTHER[4]]))
    assert isinstance(verdict, Bad)
    assert verdict.found == "chain 'd' seq 5"


MISSPELLED = {
    "a space": b'{"a": 1,',
    "a repeated member": b'{"a":2,"a":1,',
    "an escape without need": b'{"\\u0061":1,',
    "a fraction": b'{"a":1.0,',
    "minus zero": b'{"a":-0,',
    "an integer too large": b'{"a":9007199254740993,',
    "not a number": b'{"a":NaN,',
    "not UTF-8": b'{"a":"\xff",',
    "hopeless depth": b'{"a":' + b"[" * 100_000,
}


@pytest.mark.parametrize("start", MISSPELLED.values(), ids=MISSPELLED.keys())
def test_another_spelling_of_the_same_record_counts_as_an_edit(start: bytes) -> None:
    line = seal({"a": 1}, FIRST_PREV).line
    assert open_line(line.replace(b'{"a":1,', start)) is What.EDITED


@pytest.mark.parametrize(
    "line", [b"[]\n", b'"x"\n', b"7\n", b"{}\n", b'{"hash":1}\n', b"{} {}\n"], ids=lambda line: line.decode().strip()
)
def test_what_is_no_record_is_an_edit(line: bytes) -> None:
    assert open_line(line) is What.EDITED


def test_the_case_of_an_escape_is_part_of_the_record() -> None:
    line = seal({"a": "\x1f"}, FIRST_PREV).line
    assert isinstance(open_line(line), dict)
    assert open_line(line.replace(b"\\u001f", b"\\u001F")) is What.EDITED


def test_data_after_a_record_on_its_line_is_an_edit() -> None:
    line = seal({"a": "\x1f"}, FIRST_PREV).line
    assert open_line(line[:-1] + b"{}\n") is What.EDITED
    assert open_line(line[:-1] + b"\r\n") is What.EDITED


def test_a_cut_tail_is_found_when_a_record_of_it_is_named() -> None:
    named = [Named(4, "checkpoint.json"), Named(6, "b.jsonl:1", hash=hash_of(GOOD[5]))]
    assert isinstance(verify_chain("c", numbered(GOOD), named=named), Sound)
    assert verify_chain("c", numbered(GOOD[:4]), named=named) == Bad("c", 5, What.CUT_TAIL, "a.jsonl", 4, "b.jsonl:1")
    assert verify_chain("c", [], named=named) == Bad("c", 1, What.CUT_TAIL, "", 0, "b.jsonl:1")


@pytest.mark.parametrize(
    ("named", "fits"),
    [
        (Named(3, "x", hash=hash_of(GOOD[2]), prev=hash_of(GOOD[1])), True),
        (Named(3, "x", prev=hash_of(GOOD[1])), True),
        (Named(3, "x", hash=hash_of(GOOD[1])), False),
        (Named(3, "x", prev=hash_of(GOOD[2])), False),
    ],
    ids=["both hashes", "the hash before only", "another hash", "another hash before"],
)
def test_a_named_record_must_be_the_one_that_stands_there(named: Named, fits: bool) -> None:
    verdict = verify_chain("c", numbered(GOOD), named=[Named(3, "y"), named])
    assert isinstance(verdict, Sound) is fits
    if isinstance(verdict, Bad):
        assert (verdict.seq, verdict.what) == (3, What.REPLACED)


def test_what_is_said_of_a_record_is_not_held_against_another_in_its_place() -> None:
    named = [Named(3, "x", hash=hash_of(GOOD[2]))]
    for breaking, what in ((GOOD[:2] + GOOD[3:], What.REMOVED), ([*GOOD[:2], OTHER[2], *GOOD[3:]], What.INSERTED)):
        verdict = verify_chain("c", numbered(breaking), named=named)
        assert isinstance(verdict, Bad)
        assert (verdict.seq, verdict.what) == (3, what)


def test_only_a_checkpoint_has_a_signature_to_be_held_against() -> None:
    named = [Named(3, "x", hash=hash_of(GOOD[2]))]
    verdict = verify_chain("c", numbered(GOOD), named=named, signature_holds=lambda *_: False)
    assert isinstance(verdict, Sound)


def test_a_torn_tail_is_accepted_exactly_as_named() -> None:
    torn = GOOD[4][:-1] + b"garbage\n\x00\x00half"
    lines = [*numbered(GOOD[:4], "a.jsonl"), *((("a.jsonl", 5, part)) for part in torn.splitlines(keepends=True))]
    offset = sum(map(len, GOOD[:4]))
    assert verify_chain("c", lines, torn={("a.jsonl", offset): len(torn)}) == Sound(
        "c", 4, hash_of(GOOD[3]), None, len(torn)
    )
    for named in [
        {},
        {("a.jsonl", offset): len(torn) - 1},
        {("a.jsonl", offset + 1): len(torn)},
        {("b.jsonl", offset): len(torn)},
    ]:
        assert isinstance(verify_chain("c", lines, torn=named), Bad)


def test_a_torn_tail_is_accepted_at_the_end_of_a_chain_only() -> None:
    lines = [*numbered(GOOD[:2]), ("a.jsonl", 3, b"half"), *numbered(GOOD[2:], "b.jsonl")]
    torn = {("a.jsonl", sum(map(len, GOOD[:2]))): 4}
    assert isinstance(verify_chain("c", lines, torn=torn), Bad)


def test_a_torn_tail_hides_no_file_that_comes_after_it() -> None:
    after = GOOD[2:]
    lines = [*numbered(GOOD[:2]), ("a.jsonl", 3, b"half"), *numbered(after, "b.jsonl")]
    torn = {("a.jsonl", sum(map(len, GOOD[:2]))): 4 + sum(map(len, after))}
    assert isinstance(verify_chain("c", lines, torn=torn), Bad)


def test_an_offset_counts_from_the_start_of_its_file() -> None:
    lines = [*numbered(GOOD[:2]), *numbered(GOOD[2:4], "b.jsonl"), ("b.jsonl", 3, b"half")]
    torn = {("b.jsonl", sum(map(len, GOOD[2:4]))): 4}
    assert isinstance(verify_chain("c", lines, torn=torn), Sound)


def test_a_torn_tail_does_not_hide_that_a_named_record_is_gone() -> None:
    lines = [*numbered(GOOD[:2]), ("a.jsonl", 3, b"half")]
    torn = {("a.jsonl", sum(map(len, GOOD[:2]))): 4}
    verdict = verify_chain("c", lines, torn=torn, named=[Named(3, "b.jsonl:1")])
    assert verdict == Bad("c", 3, What.CUT_TAIL, "a.jsonl", 3, "b.jsonl:1")


def test_checkpoints_are_held_against_their_signatures_only_when_keys_are_given() -> None:
    lines = records("c", [{}, {"event": "checkpoint", "kid": "k", "signature": "s"}, {}])
    prev = json.loads(lines[1])["prev"]
    asked: list[tuple[str, bytes, str]] = []

    def holds(kid: str, message: bytes, signature: str) -> bool:
        asked.append((kid, message, signature))
        return len(asked) == 1

    assert verify_chain("c", numbered(lines)) == Sound("c", 3, hash_of(lines[2]), 2)
    assert verify_chain("c", numbered(lines), signature_holds=holds) == Sound("c", 3, hash_of(lines[2]), 2)
    assert asked == [("k", rfc8785.dumps({"chain": "c", "seq": 2, "prev": prev}), "s")]
    assert asked[0][1] == checkpoint_message("c", 2, prev)
    refused = verify_chain("c", numbered(lines), signature_holds=holds)
    assert refused == Bad("c", 2, What.BAD_SIGNATURE, "a.jsonl", 2, "chain 'c' seq 2")


def test_every_fault_is_explained() -> None:
    assert set(EXPLANATION) == set(What)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=1, max_size=6), st.data())
def test_no_flipped_byte_goes_unseen(contents: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = records("c", [{"content": content} for content in contents])
    which = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[which]) - 1))
    bits = data.draw(st.integers(1, 255))
    line = bytearray(lines[which])
    line[at] ^= bits
    flipped = io.BytesIO(b"".join([*lines[:which], bytes(line), *lines[which + 1 :]]))
    verdict = verify_chain("c", numbered(flipped.readlines()))
    assert isinstance(verdict, Bad)
    assert verdict.seq == which + 1


@pytest.mark.parametrize(
    ("number", "whole"),
    [(2**53 - 1, True), (-(2**53) + 1, True), (2**53, False), (-(2**53), False)],
    ids=["largest", "smallest", "too large", "too small"],
)
def test_a_line_holds_only_integers_that_every_reader_can_hold(number: int, *, whole: bool) -> None:
    content = json.dumps({"a": number}, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    line = f'{{"a":{number},"hash":"{digest}"}}\n'.encode()

    assert (open_line(line) is What.EDITED) == (not whole)


@pytest.mark.parametrize("line", [b"[1]\n", b'"text"\n', b"1\n", b"null\n", b"{}\n", b"{} {}\n"])
def test_a_line_that_is_not_one_sealed_object_was_edited(line: bytes) -> None:
    assert open_line(line) is What.EDITED


def test_something_behind_a_record_on_its_line_was_added() -> None:
    sealed = seal({"a": 1}, FIRST_PREV)

    assert open_line(sealed.line[:-1] + b"{}\n") is What.EDITED
    assert open_line(sealed.line[:-1] + b" \n") is What.EDITED
