"""JSON read strictly and written back as it came.

Numbers stay text: 1.10 is not 1.1 to a hospital's record, and a million digits are nothing to convert.
"""

import json
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import accumulate
from json.encoder import encode_basestring
from typing import Never, TypeAlias

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
# A string swallows everything up to its end, or to the end of the text: a backtracking pattern
# would take quadratic time on a body of escaped quotation marks.
_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_STEPS_OF_BYTES = {ord(bracket): step for bracket, step in _STEPS.items()}
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEPS_OF_BYTES)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Of a text that has been read: whatever stands before a member, then its name, and its value unless that is nested.
_MEMBER = re.compile(r'[\s{,]*+("(?:[^"\\]++|\\.)*+"\s*+:\s*+("(?:[^"\\]++|\\.)*+"|[^\s,{}\[\]"]++)?+)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number exactly as it was written. Raises ValueError where the text is none."""

    text: str

    def __post_init__(self) -> None:
        if not _NUMBER.fullmatch(self.text):
            raise ValueError("not a JSON number")

    @classmethod
    def of(cls, value: int) -> "Number":
        """Write an integer."""
        return cls(str(value))

    @property
    def is_integer(self) -> bool:
        """Whether it is written without fraction and exponent."""
        return _INTEGER.fullmatch(self.text) is not None

    def integer(self) -> int | None:
        """Give the value of an integer of at most 18 digits; None for any other number."""
        return int(self.text) if self.is_integer and len(self.text) < 19 else None


Value: TypeAlias = "bool | str | Number | list[Value] | dict[str, Value] | None"
Object: TypeAlias = "dict[str, Value]"


class MalformedJson(ValueError):
    """The bytes are not one well-formed JSON text. The reason never repeats any of them."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        """Keep why, and where: a character offset (a byte offset for bad UTF-8), None where unknown."""
        super().__init__(reason if position is None else f"{reason} (at {position})")
        self.reason = reason
        self.position = position


def read(data: bytes, *, depth: int = 32) -> Value:
    """Read one JSON text (RFC 8259), refusing what two readers could understand differently (RFC 7493).

    `depth` is the number of arrays and objects that may be open at once. Raises MalformedJson.
    """
    text = _decoded(data)
    _refuse_deep(text, depth)
    try:
        value: Value = _READER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedJson("not well-formed JSON", error.pos) from None
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value


def write(value: Value) -> bytes:
    """Write compact UTF-8: numbers as they were read, members in their order, no needless escapes.

    Raises TypeError for what `read` cannot return, ValueError for a string that UTF-8 cannot hold.
    """
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode()


def splice(data: bytes, before: Object, after: Object) -> bytes:
    """Write `after`; every member that is still the very value it is in `before` stays as it stands in `data`.

    What stays at the end stays in one piece, with the blanks in between. `before` was read from `data`. Raises what
    `write` raises.
    """
    text = data.decode()
    names = list(before)
    stays = {name for name, value in before.items() if name in after and after[name] is value}
    first = _first_of_rest(names, list(after), stays)
    standing: dict[str, str] = {}
    end = 0
    for name in names[:first]:
        start, end = _member(text, end)
        if name in stays:
            standing[name] = text[start:end]
    if first < len(names):
        standing[names[first]] = text[end : text.rindex("}")].strip(" \t\r\n{,")
    copied = frozenset(names[first + 1 :])
    parts = [
        standing[name] if name in standing else _written(name, value)
        for name, value in after.items()
        if name not in copied
    ]
    return f"{{{','.join(parts)}}}".encode()


def _first_of_rest(names: list[str], shown: list[str], stays: AbstractSet[str]) -> int:
    """Tell from which member on all stay and are shown one behind the other, so that one piece of text holds them."""
    first = len(names)
    while first and names[first - 1] in stays:
        first -= 1
    rest = names[first:]
    place = shown.index(rest[0]) if rest else 0
    return first if shown[place : place + len(rest)] == rest else len(names)


def _member(text: str, at: int) -> tuple[int, int]:
    """Find the next member of an object that has been read: where its name begins, and where its value ends."""
    found = _MEMBER.match(text, at)
    assert found is not None, "what has been read has all the members that were read"
    start, end = found.span(1)
    if not found[2]:
        _, end = _SCANNER.raw_decode(text, end)
    return start, end


def _written(name: str, value: Value) -> str:
    parts = [encode_basestring(name), ":"]
    _write(value, parts)
    return "".join(parts)


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson("not UTF-8", error.start) from None
    if text.startswith("\ufeff"):
        raise MalformedJson("begins with a byte order mark", 0)
    return text


def _refuse_deep(text: str, depth: int) -> None:
    if text.count("[") + text.count("{") > depth and _is_deep(text, depth):
        # To go through it token by token takes time, and tells where.
        brackets = filter(lambda found: found[0] in _STEPS, _BRACKET.finditer(text))
        levels = accumulate(
            ((_STEPS[found[0]], found.start()) for found in brackets),
            lambda so_far, next_: (so_far[0] + next_[0], next_[1]),
        )
        _, at = next(filter(lambda level: level[0] > depth, levels), (0, None))
        raise MalformedJson("nested too deeply", at)


def _is_deep(text: str, depth: int) -> bool:
    """Tell whether more brackets are ever open at once; every other part between quotation marks is a string.

    What stands behind an escape outside of a string may be counted otherwise: whatever it is, it is no JSON.
    """
    plain = _ESCAPE.sub("", text) if "\\" in text else text
    brackets = "".join(plain.split('"')[::2]).encode().translate(None, _NO_BRACKETS)
    return any(map(depth.__lt__, accumulate(map(_STEPS_OF_BYTES.__getitem__, brackets))))


def _unique(members: list[tuple[str, Value]]) -> Object:
    found = dict(members)
    if len(found) != len(members):
        raise MalformedJson("a member is repeated")
    return found


def _refuse_constant(_: str) -> Never:
    raise MalformedJson("NaN and Infinity are no JSON numbers")


def _refuse_lone_surrogates(value: Value) -> None:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise MalformedJson("half of a surrogate pair") from None
        case list():
            for item in value:
                _refuse_lone_surrogates(item)
        case dict():
            for name, item in value.items():
                _refuse_lone_surrogates(name)
                _refuse_lone_surrogates(item)
        case _:
            pass


def _write(value: Value, parts: list[str]) -> None:
    match value:
        case str():
            parts.append(encode_basestring(value))
        case Number():
            parts.append(value.text)
        case None:
            parts.append("null")
        case bool():
            parts.append("true" if value else "false")
        case dict():
            lead = "{"
            for name, item in value.items():
                parts += (lead, encode_basestring(name), ":")
                _write(item, parts)
                lead = ","
            parts.append("}" if value else "{}")
        case list():
            lead = "["
            for item in value:
                parts.append(lead)
                _write(item, parts)
                lead = ","
            parts.append("]" if value else "[]")
        case _:
            raise TypeError("not a value that JSON was read into")


_READER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)
# For what has been read strictly before: says only where a value ends.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)
