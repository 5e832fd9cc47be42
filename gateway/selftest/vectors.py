"""A vector: bytes that somebody may send, and the answers that are safe. Read from TOML, every key checked."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, Final

CLOSED: Final = "closed"
"""The one expectation that is no answer: the connection ends without a word."""

_EXPECTED: Final = re.compile(r"[1-5][0-9]{2}(?: [a-z_-]+)?|closed")
_REPEATED: Final = re.compile(r"@\{([^{}]*)\*([0-9]+)\}")
_NAMED: Final = re.compile(r"@\{([a-z0-9-]+)\}")


@dataclass(frozen=True, slots=True)
class Jwt:
    """A token made on purpose: JSON as it stands, and who signs it."""

    header: str
    claims: str
    sign: str = "nothing"


@dataclass(frozen=True, slots=True)
class Pkb:
    """An answer in PKB's place, once, to a request that begins so."""

    begin: str
    raw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One attack. Texts hold `@{name}` and `@{text*times}`; bytes above 127 are written as the letters of Latin-1."""

    name: str
    family: str
    expect: tuple[str, ...]
    """Every answer that is safe: a status and a code, a status, or `closed`."""
    method: str = "GET"
    target: str = "@{path}"
    version: str = "HTTP/1.1"
    host: str = "@{host}"
    token: str = "@{token}"  # noqa: S105 - a place to be filled
    """The credentials of the Authorization header; empty: no such header."""
    authenticated: bool = False
    """Whether it says something only with a good access token."""
    jwt: Jwt | None = None
    headers: tuple[str, ...] = ()
    body: str = ""
    length: bool = True
    """Whether a Content-Length is put in front of a body."""
    raw: str = ""
    """Instead of all the others: every byte."""
    shut: bool = False
    """End the sending side with the last byte."""
    slow: bool = False
    """Send nothing more and wait: the gateway is to end the connection by its own clock."""
    answers: int = 1
    """So many answers at most, however many requests the bytes could be taken for."""
    closes: bool = False
    """The connection must end with the answer."""
    reaches: str = "nothing"
    """How far a safe gateway lets it come: nothing, reads, writes."""
    records: int = 1
    """Audit records that it leaves."""
    pkb: tuple[Pkb, ...] = ()
    """What PKB answers in turn, where that is the attack."""
    never: tuple[str, ...] = ()
    """Texts that must not reach PKB, besides the mark of all attacks."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Vectors, and what each of their families is about."""

    families: Mapping[str, str]
    vectors: tuple[Vector, ...]


def harmless() -> Corpus:
    """The vectors that need no grant and change nothing, wherever they are sent."""
    return read((files(__package__) / "harmless.toml").read_text(encoding="utf-8"))


def read(text: str) -> Corpus:
    """Read a corpus. Raises ValueError for a key nobody knows, a name given twice and an answer nobody gives."""
    told = tomllib.loads(text)
    found = tuple(_vector(each) for each in told.get("vector", ()))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name}: two vectors have this name")
    return Corpus(told.get("families", {}), found)


def _vector(told: Mapping[str, Any]) -> Vector:
    given = dict(told)
    known = {each.name for each in fields(Vector)}
    if unknown := set(given) - known:
        raise ValueError(f"{given.get('name')}: {', '.join(sorted(unknown))} is no key of a vector")
    given["expect"] = tuple(_listed(given["expect"]))
    given["headers"] = tuple(given.get("headers", ()))
    given["never"] = tuple(given.get("never", ()))
    given["pkb"] = tuple(Pkb(**each) for each in given.get("pkb", ()))
    if "jwt" in given:
        given["jwt"] = Jwt(**given["jwt"])
    for each in given["expect"]:
        if not _EXPECTED.fullmatch(each):
            raise ValueError(f"{given['name']}: {each} is no answer")
    return Vector(**given)


def _listed(value: str | Iterable[str]) -> Iterable[str]:
    return [value] if isinstance(value, str) else value


def filled(text: str, words: Mapping[str, str]) -> str:
    """Put the words in their places, then repeat what is to be repeated. Raises KeyError for a name not known."""
    named = _NAMED.sub(lambda found: words[found[1]], text)
    return _REPEATED.sub(lambda found: found[1] * int(found[2]), named)
