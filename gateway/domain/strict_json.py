"""JSON read strictly and written back as it came.

Numbers stay text: 1.10 is not 1.1 to a hospital's record, and a million digits are nothing to convert.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Never, TypeAlias

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
# A string swallows everything up to its end, or to the end of the text: a backtracking pattern
# would take quadratic time on a body of escaped quotation marks.
_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Of a text that has been read: a member's name, whatever stands before it, and all that is left before its value.
_NAME = re.compile(r'[\s{,]*+("(?:[^"\\]++|\\.)*+")\s*+:\s*+', re.DOTALL)


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

    `before` was read from `data`. Raises what `write` raises.
    """
    text = data.decode()
    standing = {name: text[start:end] for name, start, end in _members(text) if after.get(name) is before[name]}
    parts: list[str] = []
    lead = "{"
    for name, value in after.items():
        parts.append(lead)
        lead = ","
        if name in standing:
            parts.append(standing[name])
        else:
            parts += (encode_basestring(name), ":")
            _write(value, parts)
    parts.append("}" if after else "{}")
    return "".join(parts).encode()


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Give the members of an object that has been read: the name, where it begins, and where its value ends."""
    end = 0
    while found := _NAME.match(text, end):
        quoted = found[1]
        name = _SCANNER.decode(quoted) if "\\" in quoted else quoted[1:-1]
        _, end = _SCANNER.raw_decode(text, found.end())
        yield name, found.start(1), end


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson("not UTF-8", error.start) from None
    if text.startswith("\ufeff"):
        raise MalformedJson("begins with a byte order mark", 0)
    return text


def _refuse_deep(text: str, depth: int) -> None:
    if text.count("[") + text.count("{") <= depth:
        return
    opened = 0
    for found in _BRACKET.finditer(text):
        match found[0]:
            case "[" | "{":
                opened += 1
                if opened > depth:
                    raise MalformedJson("nested too deeply", found.start())
            case "]" | "}":
                opened -= 1
            case _:
                pass


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
