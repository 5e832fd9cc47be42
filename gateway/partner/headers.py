"""The rules for request headers, as pure functions of the lines on the wire.

Two lines of a header that decides something are refused: proxies and servers differ in which one counts.
What the negotiating headers mean is remembered for the last few spellings: a client sends the same ones each time.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from gateway.partner.target import Malformed

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Header lines in the order of the wire, names as written."""

MOST_HEADERS: Final = 100
MOST_BYTES: Final = 65_536
"""Of all names and values together, so that many long lines cannot add up."""

SINGLE: Final = (
    "Authorization",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "Idempotency-Key",
    "If-Match",
    "Transfer-Encoding",
)
"""Headers of which a second line is refused."""

PLAIN: Final = (*SINGLE, "Accept", "Prefer")
"""Headers that decide something: printable ASCII, space and tab only."""

FORWARDED: Final = ("Forwarded", "X-Forwarded-For")
"""What proxies say of the caller."""

_KNOWN: Final = {
    name.lower().encode(): name for name in (*PLAIN, *FORWARDED, "Upgrade", "X-Correlation-Id", "X-Request-Id")
}
"""Every header anybody looks at, by its name in lower case."""

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_PLAIN: Final = re.compile(r"[\t\x20-\x7e]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]+)"')
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


Known = Mapping[str, Sequence[str]]
"""Values by name, in the order of the wire: read as Latin-1, without the space around them."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The header lines of one request, sorted in one pass; those that nobody looks at are only counted."""

    count: int = 0
    size: int = 0
    known: Known = field(default_factory=dict)


class Head(NamedTuple):
    """The headers the gateway looks at; every other one is ignored and forwarded nowhere."""

    host: str
    authorization: str | None
    content_type: str | None
    if_match: str | None
    idempotency_key: str | None
    accept: tuple[str, ...]
    prefer: tuple[str, ...]
    encoded: bool
    """A content coding other than identity: 415 at step 11, with a body or without."""
    content_length: int | None
    expects_continue: bool
    upgrade: bool


class Media(Enum):
    """What a body may be, by kind of endpoint."""

    FHIR = ("application/fhir+json", "application/json")
    JSON_PATCH = ("application/json-patch+json",)
    FORM = ("application/x-www-form-urlencoded",)


class Preference(StrEnum):
    """What `Prefer: return=` asks for (RFC 7240, FHIR R4 http.html#ops)."""

    REPRESENTATION = "representation"
    MINIMAL = "minimal"
    OPERATION_OUTCOME = "OperationOutcome"


def sort_lines(raw: RawHeaders) -> Lines:
    """Sort header lines by name."""
    known: dict[str, list[str]] = {}
    for written, value in raw:
        name = _KNOWN.get(written.lower())
        if name is None:
            continue
        text = value.decode("latin-1").strip(" \t")
        if name in known:
            known[name].append(text)
        else:
            known[name] = [text]
    return Lines(len(raw), sum(map(len, chain.from_iterable(raw))), known)


def read_head(lines: Lines) -> Head | Malformed:
    """Apply every rule on header lines that needs no knowledge of the route."""
    if lines.count > MOST_HEADERS:
        return Malformed(f"The request has more than {MOST_HEADERS} headers.")
    if lines.size > MOST_BYTES:
        return Malformed(f"The headers together are longer than {MOST_BYTES} bytes.")
    known = lines.known
    # Where all lines together are one of each and plain, none has to be looked at by itself. A tab is not printable.
    texts = [text for values in known.values() for text in values]
    together = "".join(texts)
    if len(texts) > len(known) or not (together.isascii() and together.isprintable()):
        odd = _odd_line(known)
        if odd is not None:
            return odd
    first = {name: values[0] for name, values in known.items()}
    return _check_framing(first) or _check_host(first) or _check_expect(first) or _gather(known, first)


def _odd_line(known: Known) -> Malformed | None:
    for name in SINGLE:
        if name in known and len(known[name]) > 1:
            return Malformed(f"The request has two {name} headers; send one.")
    for name in PLAIN:
        if name in known and not all(map(_PLAIN.fullmatch, known[name])):
            return Malformed(f"The {name} header has a character that is not printable ASCII.")
    return None


First = Mapping[str, str]
"""The first line of each header; of those that decide something there is no second."""


def _check_framing(first: First) -> Malformed | None:
    """One way to tell where the body ends (RFC 9112, 6.3), so that no second request hides in the first."""
    length, coding = first.get("Content-Length"), first.get("Transfer-Encoding")
    if length is not None and coding is not None:
        return Malformed("The request has Content-Length beside Transfer-Encoding; send one of them.")
    if length is not None and not _LENGTH.fullmatch(length):
        return Malformed("The Content-Length header is not one plain number.")
    if coding is not None and coding.lower() != "chunked":
        return Malformed("The only transfer coding accepted is chunked.")
    return None


def _check_host(first: First) -> Malformed | None:
    return None if first.get("Host") else Malformed("The Host header is missing or empty.")


def _check_expect(first: First) -> Malformed | None:
    expected = first.get("Expect")
    if expected is None or expected.lower() == "100-continue":
        return None
    return Malformed("The only expectation accepted is 100-continue.")


def _gather(known: Known, first: First) -> Head:
    length = first.get("Content-Length")
    return Head(
        first["Host"],
        first.get("Authorization"),
        first.get("Content-Type"),
        first.get("If-Match"),
        first.get("Idempotency-Key"),
        tuple(known.get("Accept", ())),
        tuple(known.get("Prefer", ())),
        encoded=(first.get("Content-Encoding") or "identity").lower() != "identity",
        content_length=None if length is None else int(length),
        expects_continue="Expect" in first,
        upgrade="Upgrade" in first,
    )


def request_id(lines: Lines, new: Callable[[], str]) -> str:
    """The caller's `X-Request-Id` when it is one UUID, otherwise a new one."""
    return _uuid(lines, "X-Request-Id") or new()


def correlation_id(lines: Lines) -> str | None:
    """The caller's `X-Correlation-Id` when it is one UUID.

    Free text is dropped: it goes into the audit stream, which must never hold a name or an NHS number.
    """
    return _uuid(lines, "X-Correlation-Id")


def _uuid(lines: Lines, name: str) -> str | None:
    if name not in lines.known:
        return None
    values = lines.known[name]
    return values[0] if len(values) == 1 and _UUID.fullmatch(values[0]) else None


@lru_cache(maxsize=64)
def accepts_fhir(accept: tuple[str, ...]) -> bool:
    """Tell whether FHIR R4 JSON satisfies the `Accept` lines (RFC 9110, 12.5.1); none accept everything.

    `application/json` stands for FHIR JSON too. A range of another `fhirVersion` counts as absent.
    """
    if not any(line.strip(" \t") for line in accept):
        return True
    weights: dict[str, float] = {}
    for line in accept:
        for item in _split(line, ","):
            if (weighed := _read_range(item)) is not None:
                media, weight = weighed
                weights[media] = max(weight, weights.get(media, 0.0))
    fhir, json = Media.FHIR.value
    widest = weights.get("application/*", weights.get("*/*", 0.0))
    return weights.get(fhir, widest) > 0 or weights.get(json, 0.0) > 0


def _read_range(item: str) -> tuple[str, float] | None:
    """A media range and its weight; None when it cannot be read or asks for another version of FHIR."""
    parsed = _read_media(item)
    if parsed is None:
        return None
    media, parameters = parsed
    weight = parameters.get("q", "1")
    if not _WEIGHT.fullmatch(weight) or parameters.get("fhirversion", "4.0") != "4.0":
        return None
    return media, float(weight)


@lru_cache(maxsize=64)
def content_type_fits(content_type: str | None, media: Media) -> bool:
    """Tell whether a `Content-Type` is one the endpoint takes: UTF-8 only, FHIR version absent or 4.0."""
    parsed = _read_media(content_type or "")
    if parsed is None or parsed[0] not in media.value:
        return False
    parameters = parsed[1]
    return parameters.get("charset", "utf-8").lower() == "utf-8" and parameters.get("fhirversion", "4.0") == "4.0"


def fingerprint(method: str, path: str, content_type: str | None, version: str | None, body: bytes) -> str:
    """Hash what makes a repetition the same request: SHA-256, in hex; `version` is the one of If-Match."""
    media = _read_media(content_type or "")
    parts = [method, path, media[0] if media else "", "" if version is None else f"={version}"]
    digest = hashlib.sha256()
    for part in (*(part.encode() for part in parts), body):
        # With its length before it no part can pass for the end of another.
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _read_media(text: str) -> tuple[str, dict[str, str]] | None:
    """Media type and parameters, names in lower case; None when it is no media type or repeats a parameter."""
    first, *rest = _split(text, ";")
    kind, slash, subtype = first.strip(" \t").lower().partition("/")
    if not (slash and _TOKEN.fullmatch(kind) and _TOKEN.fullmatch(subtype)):
        return None
    parameters: dict[str, str] = {}
    for part in filter(str.strip, rest):
        name, _, value = part.strip(" \t").partition("=")
        plain = _unquote(value)
        if plain is None or not _TOKEN.fullmatch(name) or name.lower() in parameters:
            return None
        parameters[name.lower()] = plain
    return f"{kind}/{subtype}", parameters


def _unquote(value: str) -> str | None:
    if _TOKEN.fullmatch(value):
        return value
    if len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in value[1:-1] and "\\" not in value:
        return value[1:-1]
    return None


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark outside of quoted strings, in one pass, because the text is the caller's."""
    parts, start, quoted, escaped = [], 0, False, False
    for place, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif quoted:
            escaped = character == "\\"
        elif character == mark:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def read_if_match(if_match: str) -> str | Malformed:
    """The version inside the one entity tag of an `If-Match`, weak or strong alike (FHIR R4 http.html#concurrency)."""
    if found := _TAG.fullmatch(if_match):
        return found[1]
    if if_match == "*":
        return Malformed("If-Match must name the version read; an asterisk is not accepted.")
    if if_match.count('"') > 2:
        return Malformed("If-Match must be one entity tag; a list is not accepted.")
    return Malformed('If-Match must be one entity tag in quotation marks, as in W/"3".')


@lru_cache(maxsize=64)
def preference(prefer: tuple[str, ...]) -> Preference:
    """The first `return` preference that is known, over all lines; a representation when there is none."""
    for line in prefer:
        for item in _split(line, ","):
            name, _, value = _split(item, ";")[0].strip(" \t").partition("=")
            if name.lower() != "return":
                continue
            for known in Preference:
                if (_unquote(value) or "").lower() == known.lower():
                    return known
    return Preference.REPRESENTATION


def is_idempotency_key(text: str) -> bool:
    """Tell whether an `Idempotency-Key` has 1 to 128 visible ASCII characters."""
    return _KEY.fullmatch(text) is not None
