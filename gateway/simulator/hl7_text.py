"""HL7 version 2 text as PKB reads it: segments, fields, components, and the escape sequences in them.

A CR that crosses XML unescaped arrives as LF, so that LF and CR LF end a segment as well as CR does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

ENCODING: Final = "^~\\&"
_SIGNS: Final = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_ESCAPES: Final = {sign: f"\\{letter}\\" for letter, sign in _SIGNS.items()} | {"\r": "\\X0D\\", "\n": "\\X0A\\"}
_SEQUENCE: Final = re.compile(r"\\([^\\]*)\\")
_HEX: Final = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_TERMINATOR: Final = re.compile(r"\r\n|\r|\n")


class BadMessage(ValueError):
    """No HL7 message at all: there is no header to answer to."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. `fields[n]` is field n as sent; in MSH field 1 is the separator itself."""

    name: str
    fields: tuple[str, ...]

    def field(self, number: int) -> str:
        """A field as sent, with its escapes and repetitions; empty when the segment is too short."""
        return self.fields[number] if number < len(self.fields) else ""

    def value(self, number: int, component: int = 1) -> str:
        """The first subcomponent of a component of a field's first repetition, unescaped."""
        return _component(self.field(number).split("~")[0], component)

    def repetitions(self, number: int) -> Iterator[tuple[str, ...]]:
        """The components of each repetition of a field, unescaped."""
        for repetition in self.field(number).split("~"):
            count = repetition.count("^") + 1
            yield tuple(_component(repetition, place) for place in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class Message:
    """The segments of one message, the header first."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    def all(self, name: str) -> tuple[Segment, ...]:
        """The segments of one name, in their order."""
        return tuple(segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment:
        """The first segment of a name; an empty one when there is none."""
        return next(iter(self.all(name)), Segment(name, (name,)))


def parse(text: str) -> Message:
    """Take a message apart. Raises `BadMessage` for what has no readable header or lines that are no segments."""
    lines = [line for line in _TERMINATOR.split(text.strip()) if line]
    if not lines or not lines[0].startswith(f"MSH|{ENCODING}|"):
        raise BadMessage("the message does not start with a header of the usual delimiters")
    segments = [Segment("MSH", ("MSH", "|", *lines[0].split("|")[1:]))]
    for line in lines[1:]:
        name, *fields = line.split("|")
        if _NAME.fullmatch(name) is None:
            raise BadMessage("a line is no segment")
        segments.append(Segment(name, (name, *fields)))
    return Message(tuple(segments))


def unescape(text: str) -> str:
    """Put in what the escape sequences stand for. Highlighting and unknown ones stand for nothing."""
    return _SEQUENCE.sub(lambda found: _meaning(found[1]), text)


def escape(text: str) -> str:
    """Make any text harmless inside a component."""
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def acknowledgement(header: Segment, code: str, about: str, text: str, at: datetime) -> str:
    """`ACK^R01`, each segment ended by CR. `about` is MSA-2 as it is to be sent."""
    now = at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    receiver = f"{header.field(3)}|{header.field(4)}"
    answer = f"MSA|{code}|{about}" + (f"|{escape(text)}" if text else "")
    return f"MSH|{ENCODING}|HL7API|PKB|{receiver}|{now}||ACK^R01|PKB-{now}|P|2.4\r{answer}\r"


def _component(repetition: str, number: int) -> str:
    components = repetition.split("^")
    return unescape(components[number - 1].split("&")[0]) if number <= len(components) else ""


def _meaning(sequence: str) -> str:
    if sequence in _SIGNS:
        return _SIGNS[sequence]
    coded = _HEX.fullmatch(sequence)
    if coded is not None:
        return bytes.fromhex(coded[1]).decode("utf-8", "replace")
    return "\n" if sequence == ".br" else ""
