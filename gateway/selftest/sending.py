"""Sends the bytes of a vector over a socket of its own, and reads what comes back."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext, SSLError
from typing import Any, Final

from gateway.selftest.vectors import Vector, filled

PATIENCE: Final = 8.0
"""Seconds to wait for an answer, or for the end of a connection: more than a gateway lets a head take."""

AFTERWARDS: Final = 0.2
"""Seconds after an answer in which another one would have come."""

Sign = Callable[[str, bytes, Mapping[str, str]], bytes]
"""(who signs, what is signed, words) → the signature."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to send to, and the words that vectors leave open."""

    host: str
    port: int
    words: Mapping[str, str]
    sign: Sign
    tls: SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def code(self) -> str:
        """The code of an OperationOutcome or of an OAuth error; empty where there is none."""
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            told: Any = json.loads(self.body)
            if told.get("resourceType") == "OperationOutcome":
                return str(told["issue"][0]["details"]["coding"][0]["code"])
            return str(told.get("error", ""))
        return ""


@dataclass(slots=True)
class Heard:
    """All that came back on one connection."""

    raw: bytes = b""
    answers: list[Answer] = field(default_factory=list)
    closed: bool = False
    seconds: float = 0.0
    torn: bool = False
    """The last answer is not whole."""


def wire(vector: Vector, words: Mapping[str, str], sign: Sign) -> bytes:
    """Every byte of a vector."""
    if vector.raw:
        return filled(vector.raw, words).encode("latin-1")
    body = filled(vector.body, words).encode("latin-1")
    credentials = vector.token if vector.jwt is None else f"Bearer {token(vector, words, sign)}"
    lines = [f"{vector.method} {vector.target} {vector.version}".rstrip(" ")]
    lines += [f"Host: {vector.host}"] if vector.host else []
    lines += [f"Authorization: {credentials}"] if credentials else []
    lines += vector.headers
    if (vector.body or vector.method in {"POST", "PUT", "PATCH"}) and vector.length:
        lines.append(f"Content-Length: {len(body)}")
    return filled("\r\n".join([*lines, "", ""]), words).encode("latin-1") + body


def token(vector: Vector, words: Mapping[str, str], sign: Sign) -> str:
    """The token of a vector, in compact form (RFC 7515, 7.1)."""
    assert vector.jwt is not None, "it has one"
    parts = [filled(text, words).encode() for text in (vector.jwt.header, vector.jwt.claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = sign(vector.jwt.sign, signed, words)
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def send(vector: Vector, place: Place) -> Heard:
    """Send a vector and read until the connection ends; ours is shut once an answer is there. Raises OSError."""
    heard = Heard()
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls)
    try:
        writer.write(wire(vector, place.words, place.sign))
        await writer.drain()
        _shut(writer, wanted=vector.shut)
        async with asyncio.timeout(PATIENCE):
            await _listen(reader, writer, vector, heard)
    except TimeoutError:
        heard.closed = False
    except (ConnectionError, SSLError):
        # What was not read when the other side closed: an answer that came before stays one.
        heard.closed = True
    finally:
        heard.seconds = time.monotonic() - begun
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return heard


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, vector: Vector, heard: Heard) -> None:
    enough = False
    while piece := await _more(reader, enough and not vector.closes and not writer.can_write_eof()):
        heard.raw += piece
        heard.answers, heard.torn = parse(heard.raw, vector.method)
        enough = len(heard.answers) >= vector.answers and not heard.torn
        _shut(writer, wanted=enough)
    heard.closed = True


async def _more(reader: asyncio.StreamReader, last: bool) -> bytes:  # noqa: FBT001 - said by the loop above only
    """Read on. TLS knows no half of a connection: there, what is not said soon after the answer never will be."""
    if not last:
        return await reader.read(65_536)
    try:
        return await asyncio.wait_for(reader.read(65_536), AFTERWARDS)
    except TimeoutError:
        return b""


def _shut(writer: asyncio.StreamWriter, *, wanted: bool) -> None:
    if wanted and writer.can_write_eof() and not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.write_eof()


def parse(raw: bytes, method: str) -> tuple[list[Answer], bool]:
    """Every whole final answer, and whether half of one is left over."""
    found: list[Answer] = []
    while raw:
        head, gap, rest = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not gap or len(words) < 2 or not words[1].isdigit():
            return found, True
        pairs = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        status = int(words[1])
        if status < 200:
            raw = rest
            continue
        size = next((int(value) for name, value in pairs if name.lower() == "content-length"), 0)
        size = 0 if method == "HEAD" else size
        if len(rest) < size:
            return found, True
        found.append(Answer(status, pairs, rest[:size]))
        raw = rest[size:]
    return found, False
