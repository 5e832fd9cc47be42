"""The audit chain: every record carries the hash of the one before, so that no record can be
edited, removed, added or moved without the next one telling.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined] # not in typeshed
from typing import Any, Never, TypeAlias

FIRST_PREV = "0" * 64
"""What the first record of a chain names as the hash before it."""
FIRST_SEQ = 1

Record: TypeAlias = dict[str, Any]
Line: TypeAlias = tuple[str, int, bytes]
"""File, line number from 1, and the bytes up to and including the newline."""

_SAFE = 2**53 - 1
_HASH_MEMBER = len(',"hash":""') + 64


class NotCanonical(ValueError):
    """The value is none that the chain can hold: RFC 8785 of it would not be one text for everybody."""


def canonical(value: object) -> bytes:
    """Write RFC 8785 canonical JSON of strings, integers, booleans, null, objects and arrays.

    Raises NotCanonical for anything else: fractions (two languages print them differently), integers
    beyond ±(2^53 - 1) (JavaScript rounds them), half surrogate pairs, names that are no strings.
    """
    try:
        _refuse_foreign(value)
        return _sorted_dump(value)
    except UnicodeEncodeError:
        raise NotCanonical("half of a surrogate pair") from None
    except RecursionError:
        raise NotCanonical("nested too deeply") from None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record as it stands in the file, newline included, and its hash."""

    line: bytes
    hash: str


def seal(record: Mapping[str, object], prev: str) -> Sealed:
    """Link a record to the one before and hash it. Raises NotCanonical; `prev`, `hash` are added last."""
    whole: Record = {**record, "prev": prev}
    digest = hashlib.sha256(canonical(whole)).hexdigest()
    whole["hash"] = digest
    return Sealed(_COMPACT(whole).encode() + b"\n", digest)


class What(StrEnum):
    """What is wrong with a record, or with the place where it should be."""

    EDITED = "edited"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    UNLINKED = "unlinked"
    REPLACED = "replaced"
    TORN = "torn"
    CUT_TAIL = "cut tail"
    MISSING_CHAIN = "missing chain"
    BAD_SIGNATURE = "bad signature"


EXPLANATION: Mapping[What, str] = {
    What.EDITED: "what it says does not match its hash, or it is not spelled as the journal writes",
    What.REMOVED: "the record that belongs here is gone",
    What.INSERTED: "this record does not belong here",
    What.REORDERED: "the record that belongs here comes later",
    What.UNLINKED: "it does not name the hash of the record before it: one of the two was replaced",
    What.REPLACED: "it is not the record that was named elsewhere",
    What.TORN: "the line is incomplete and no later start record names it",
    What.CUT_TAIL: "the chain ends before a record that was named elsewhere",
    What.MISSING_CHAIN: "a chain that was named elsewhere is not here",
    What.BAD_SIGNATURE: "none of the given keys made the checkpoint's signature",
}


def open_line(data: bytes) -> Record | What:
    """Read one line and hold it against its own hash.

    A line is also refused when it is not the shortest spelling of its record: a repeated member, a space
    or another escape would leave the hash as it is and yet be read differently by somebody.
    """
    if not data.endswith(b"\n"):
        return What.TORN
    try:
        text = data[:-1].decode()
        record, end = _READER.raw_decode(text)
        # Canonical form is the shortest there is, so equal length leaves no room for any other spelling
        # but the case of hexadecimal digits in escapes.
        if not isinstance(record, dict) or end != len(text) or ("\\u" in text and _COMPACT(record) != text):
            return What.EDITED
        declared = record.pop("hash", None)
        content = _sorted_dump(record)
    except (ValueError, RecursionError):
        return What.EDITED
    if len(content) + _HASH_MEMBER != len(data) - 1 or hashlib.sha256(content).hexdigest() != declared:
        return What.EDITED
    record["hash"] = declared
    return record


def checkpoint_message(chain: str, seq: int, prev: str) -> bytes:
    """Give the bytes that a checkpoint signs: RFC 8785 of its chain, its seq and the hash before it."""
    return canonical({"chain": chain, "seq": seq, "prev": prev})


@dataclass(frozen=True, slots=True)
class Named:
    """A record that is spoken of elsewhere: by a later start record, or by a checkpoint kept aside."""

    seq: int
    by: str
    hash: str | None = None
    prev: str | None = None

    def fits(self, record: Record) -> bool:
        """Whether `record`, which stands at this seq, is the one spoken of."""
        return self.hash in (None, record["hash"]) and self.prev in (None, record["prev"])


@dataclass(frozen=True, slots=True)
class Sound:
    """A chain without fault."""

    chain: str
    records: int
    head: str
    """Hash of the last record."""
    checkpoint: int | None = None
    """Seq of the last checkpoint record."""
    torn: int = 0
    """Bytes of a torn tail that a later start record names."""


@dataclass(frozen=True, slots=True)
class Bad:
    """The first bad record of a chain: what belongs at `seq`, and the place that gave it away."""

    chain: str
    seq: int
    what: What
    file: str
    line: int
    found: str = ""
    """What stands there instead, where it is another record."""

    @property
    def records(self) -> int:
        """How many records before it are good."""
        return self.seq - FIRST_SEQ


SignatureCheck: TypeAlias = Callable[[str, bytes, str], bool]
"""Whether the key with this kid made, over these bytes, this signature."""


@dataclass(frozen=True, slots=True)
class Link:
    """Between two records of a chain: the seq that comes next, and the hash that it must name."""

    seq: int = FIRST_SEQ
    prev: str = FIRST_PREV


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some records of a chain, one after the other, without fault."""

    begin: Link
    end: Link
    checkpoint: int | None
    torn: int
    """As in Sound."""
    file: str
    line: int
    """Where it ends."""


def verify_chain(
    chain: str,
    lines: Iterable[Line],
    *,
    named: Sequence[Named] = (),
    torn: Mapping[tuple[str, int], int] | None = None,
    signature_holds: SignatureCheck | None = None,
) -> Sound | Bad:
    """Follow one chain over its files, in constant memory, to its end or to its first bad record.

    `lines` come file by file, oldest first. `named`: what is said elsewhere to be in it. `torn`: the torn
    tails that start records name, (file, byte offset) to length. Without `signature_holds` signatures are
    not looked at.
    """
    stretch = follow(chain, lines, Link(), named=named, torn=torn, signature_holds=signature_holds)
    return stretch if isinstance(stretch, Bad) else joined(chain, [stretch], named)


def joined(chain: str, stretches: Sequence[Stretch], named: Sequence[Named] = ()) -> Sound | Bad:
    """Say of stretches that follow one another from the first record on what they are together."""
    last = stretches[-1]
    missed = max(named, key=lambda each: each.seq, default=None)
    if missed is not None and missed.seq >= last.end.seq:
        by = next(each.by for each in named if each.seq == missed.seq)
        return Bad(chain, last.end.seq, What.CUT_TAIL, last.file, last.line, by)
    checkpoint = max((each.checkpoint for each in stretches if each.checkpoint), default=None)
    return Sound(chain, last.end.seq - FIRST_SEQ, last.end.prev, checkpoint, last.torn)


def follow(
    chain: str,
    lines: Iterable[Line],
    begin: Link,
    *,
    named: Sequence[Named] = (),
    torn: Mapping[tuple[str, int], int] | None = None,
    signature_holds: SignatureCheck | None = None,
) -> Stretch | Bad:
    """Follow a chain from some link on; all else as in `verify_chain`. Records named beyond the end count as there."""
    expected = _expectations(named)
    seq, prev, checkpoint, torn_bytes = begin.seq, begin.prev, None, 0
    file, number, offset = "", 0, 0
    rest = iter(lines)
    for name, number, data in rest:
        file, offset = name, offset if name == file else 0
        record = open_line(data)
        fault = record if isinstance(record, What) else _misplaced(record, chain, seq, prev)
        if fault is None and (seq in expected or signature_holds is not None):
            fault = _unproven(record, expected.get(seq, ()), signature_holds)
        if fault is not None:
            after = _look_on(rest, file, seq, prev)
            torn_bytes = len(data) + after.length
            if not after.other_files and torn and torn.get((file, offset)) == torn_bytes:
                break
            fault = What.REORDERED if fault is What.REMOVED and after.turns_up else fault
            return Bad(chain, seq, fault, file, number, _described(record))
        assert not isinstance(record, What)
        if record["event"] == "checkpoint":
            checkpoint = seq
        seq, prev, offset = seq + 1, record["hash"], offset + len(data)
    else:
        torn_bytes = 0
    return Stretch(begin, Link(seq, prev), checkpoint, torn_bytes, file, number)


def _expectations(named: Sequence[Named]) -> dict[int, list[Named]]:
    expected: dict[int, list[Named]] = {}
    for each in named:
        expected.setdefault(each.seq, []).append(each)
    return expected


def _misplaced(record: Record, chain: str, seq: int, prev: str) -> What | None:
    found = record.get("seq")
    if record.get("chain") != chain or type(found) is not int or not isinstance(record.get("event"), str):
        return What.INSERTED
    if found != seq:
        return What.REMOVED if found > seq else What.INSERTED
    return None if record.get("prev") == prev else What.UNLINKED


def _unproven(record: Record | What, expected: Sequence[Named], holds: SignatureCheck | None) -> What | None:
    assert not isinstance(record, What)
    if not all(each.fits(record) for each in expected):
        return What.REPLACED
    if holds is None or record["event"] != "checkpoint":
        return None
    message = checkpoint_message(record["chain"], record["seq"], record["prev"])
    signed = holds(str(record.get("kid")), message, str(record.get("signature")))
    return None if signed else What.BAD_SIGNATURE


@dataclass(frozen=True, slots=True)
class _After:
    """What follows the first fault."""

    length: int
    other_files: bool
    turns_up: bool
    """Whether the record that was expected at the fault comes later."""


def _look_on(rest: Iterator[Line], file: str, seq: int, prev: str) -> _After:
    length, other_files, turns_up = 0, False, False
    for name, _, data in rest:
        if name == file:
            length += len(data)
        else:
            other_files = True
        if not turns_up:
            record = open_line(data)
            turns_up = isinstance(record, dict) and (record.get("seq"), record.get("prev")) == (seq, prev)
    return _After(length, other_files, turns_up)


def _described(record: Record | What) -> str:
    if isinstance(record, What):
        return ""
    return f"chain {record.get('chain')!a} seq {record.get('seq')!a}"


_PLAIN = frozenset({str, bool, type(None)})
"""What most members are, and nothing can be wrong with."""


def _refuse_foreign(value: object) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise NotCanonical("a member name that is not a string")
            if type(item) not in _PLAIN:
                _refuse_foreign(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN:
                _refuse_foreign(item)
    elif isinstance(value, int):
        if not -_SAFE <= value <= _SAFE:
            raise NotCanonical("an integer that not every reader can hold")
    elif value is not None and not isinstance(value, str):
        raise NotCanonical(f"a value of type {type(value).__name__}")


def _sorted_dump(value: object) -> bytes:
    text = _SORTED(value)
    # Python sorts by code point, RFC 8785 by UTF-16 unit; they part where a surrogate pair begins.
    if not text.isascii() and max(text) > "\uffff":
        text = _COMPACT(_in_utf16_order(value))
    return text.encode()


def _in_utf16_order(value: object) -> object:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return {name: _in_utf16_order(value[name]) for name in names}
    if isinstance(value, (list, tuple)):
        return [_in_utf16_order(item) for item in value]
    return value


def _encoder(*, sort_keys: bool) -> Callable[[object], str]:
    # JSONEncoder.encode makes such an encoder anew for every call, which costs as much as its work.
    chunks = c_make_encoder(None, None, encode_basestring, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(chunks(value, 0))


def _safe_integer(text: str) -> int:
    value = int(text)
    if not -_SAFE <= value <= _SAFE:
        raise NotCanonical("an integer that not every reader can hold")
    return value


def _refuse_number(_: str) -> Never:
    raise NotCanonical("a number that is not an integer")


_READER = json.JSONDecoder(parse_int=_safe_integer, parse_float=_refuse_number, parse_constant=_refuse_number)
_COMPACT = _encoder(sort_keys=False)
_SORTED = _encoder(sort_keys=True)
