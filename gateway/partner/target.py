"""The grammar of a request target: one spelling per resource, so that nothing is ever normalised.

Proxies that normalise disagree with the servers behind them, and in that gap live the path bypasses
(dots, encoded dots, `;x`, doubled and backward slashes). Here every such spelling is refused before routing.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

REPEATABLE: Final = frozenset({"date"})
"""Query names that may come more than once."""

DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~$/]*")
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_NAME: Final = re.compile(r"[A-Za-z0-9._:\-]+")
# RFC 3986 query characters, `|` besides: FHIR writes tokens as system|value and curl sends it as it stands.
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,;:@/?=|]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no request; `reason` is plain English and holds none of them."""

    reason: str


@dataclass(frozen=True, slots=True)
class Target:
    """A request target that has exactly one reading."""

    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...] = ()
    """Names as written and values decoded once, in the order of the wire."""

    @property
    def path(self) -> str:
        """The path as it stood on the wire."""
        return "/" + "/".join(self.segments)

    @property
    def repeated(self) -> frozenset[str]:
        """Names that came more than once and may not.

        Not a fault of the grammar: which names exist is known only to the route, which refuses
        unknown and repeated ones alike, after the grant was looked at.
        """
        names = [name for name, _ in self.query]
        return frozenset(name for name in names if names.count(name) > 1) - REPEATABLE

    def every(self, name: str) -> tuple[str, ...]:
        """All values of one name, in the order of the wire."""
        return tuple(value for key, value in self.query if key == name)


def read_target(raw: str, host: str) -> Target | Malformed:
    """Read a request target as it stood on the wire (RFC 9112, 3.2), beside the `Host` it came with.

    Only origin form, or absolute form naming `host` itself. The authority form of CONNECT and the
    asterisk of OPTIONS are refused: this is no general proxy.
    """
    if "#" in raw:
        return Malformed("The request target has a fragment; leave out the number sign and what follows it.")
    if (own := authority(host)) is None:
        return Malformed("The Host header is not a host name with an optional port.")
    if raw.startswith("/"):
        return _read_origin(raw)
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        return Malformed("The request target does not start with a slash.")
    scheme, named, rest = absolute.groups()
    if not _same_authority(scheme.lower(), authority(named), own):
        return Malformed("The request target names another host than the Host header.")
    return _read_origin(rest)


def read_form(body: bytes) -> tuple[tuple[str, str], ...] | Malformed:
    """Read a form by the grammar of a query: exact names, values decoded once, a plus sign that stays one."""
    if not body.isascii():
        return Malformed("The body is not a percent-encoded form.")
    return _read_query(body.decode("ascii"))


def authority(text: str) -> tuple[str, str] | None:
    """Host in lower case and port ("" when none is given); None when this is no plain authority."""
    found = _AUTHORITY.fullmatch(text)
    return (found[1].lower(), found[2] or "") if found else None


def _same_authority(scheme: str, named: tuple[str, str] | None, own: tuple[str, str]) -> bool:
    if named is None:
        return False
    usual = DEFAULT_PORTS[scheme]
    return (named[0], named[1] or usual) == (own[0], own[1] or usual)


def _read_origin(raw: str) -> Target | Malformed:
    path, _, query = raw.partition("?")
    if not _PATH.fullmatch(path):
        return Malformed(
            "The path has a character that is not allowed; use letters, digits, hyphen, full stop, underscore, "
            "tilde and dollar sign only, never percent-encoded."
        )
    segments = () if path == "/" else tuple(path[1:].split("/"))
    if "" in segments:
        return Malformed("The path has an empty segment; write single slashes and none at the end.")
    if "." in segments or ".." in segments:
        return Malformed("The path has a segment of dots only; write the path out.")
    pairs = _read_query(query)
    return pairs if isinstance(pairs, Malformed) else Target(segments, pairs)


def _read_query(query: str) -> tuple[tuple[str, str], ...] | Malformed:
    if not query:
        return ()
    pairs = []
    for part in query.split("&"):
        name, _, encoded = part.partition("=")
        if not _NAME.fullmatch(name):
            return Malformed("A query parameter's name is empty, encoded or has a character that is not allowed.")
        if (value := _decode(encoded)) is None:
            return Malformed("A query parameter's value is not percent-encoded UTF-8 text without control characters.")
        pairs.append((name, value))
    return tuple(pairs)


def _decode(encoded: str) -> str | None:
    """Decode once. A plus sign stays one, because instants carry it in their offset."""
    if not _VALUE.fullmatch(encoded):
        return None
    try:
        value = unquote_to_bytes(encoded).decode("utf-8", "strict")
    except UnicodeDecodeError:
        return None
    return None if any(unicodedata.category(character) == "Cc" for character in value) else value
