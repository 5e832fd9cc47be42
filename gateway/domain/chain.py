"""The audit chain: every record carries the hash of the one before, so that no record can be
edited, removed, added or moved without the next one telling.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined] # not in typeshed
from typing import Any, Never, TypeAlias

FIRST_PREV = "0" * 64
"""What the first record of a chain names as the hash before it."""
FIRST_SEQ = 1

Record: TypeAlias = dict[str, Any]
_SAFE = 2**53 - 1
HASH_MEMBER = len(',"hash":""') + 64
"""Bytes that the hash adds to a record."""


class NotCanonical(ValueError):
    """The value is none that the chain can hold: RFC 8785 of it would not be one text for everybody."""


def canonical(value: object) -> bytes:
    """Write RFC 8785 canonical JSON of strings, integers, booleans, null, objects and arrays.

    Raises NotCanonical for anything else: fractions (two languages print them differently), integers
    beyond ±(2^53 - 1) (JavaScript rounds them), half surrogate pairs, names that are no strings.
    """
    try:
        refuse_foreign(value)
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
    if len(content) + HASH_MEMBER != len(data) - 1 or hashlib.sha256(content).hexdigest() != declared:
        return What.EDITED
    record["hash"] = declared
    return record


def checkpoint_message(chain: str, seq: int, prev: str) -> bytes:
    """Give the bytes that a checkpoint signs: RFC 8785 of its chain, its seq and the hash before it."""
    return canonical({"chain": chain, "seq": seq, "prev": prev})


_PLAIN = frozenset({str, bool, type(None)})
"""What most members are, and nothing can be wrong with."""


def refuse_foreign(value: object) -> None:
    """Raise NotCanonical for what a chain cannot hold, but for half surrogate pairs."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise NotCanonical("a member name that is not a string")
            if type(item) not in _PLAIN:
                refuse_foreign(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN:
                refuse_foreign(item)
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
