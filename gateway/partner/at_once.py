"""An answer whose bytes are made once, for those who are turned away: it must cost less than what they asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

ALWAYS: Final = ((hdrs.CACHE_CONTROL, "no-store"), ("X-Content-Type-Options", "nosniff"))
"""Headers of every answer, whoever made it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A whole answer but for the headers that are of one request or one moment."""

    status: int
    code: str | None
    head: str
    """Its lines with their ends."""
    body: bytes

    @classmethod
    def of(cls, status: int, reason: str, headers: Sequence[tuple[str, str]], body: bytes, code: str | None) -> Self:
        """Write one."""
        lines = {**dict(ALWAYS), **dict(headers), hdrs.CONTENT_LENGTH: str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return cls(status, code, f"HTTP/1.1 {status} {reason}\r\n{head}", body)

    def answer(self, request_id: str, correlation_id: str | None) -> bytes:
        """Give the bytes for one request; both ids are UUIDs."""
        correlated = "" if correlation_id is None else f"X-Correlation-Id: {correlation_id}\r\n"
        head = f"{self.head}Date: {rfc822_formatted_time()}\r\nX-Request-Id: {request_id}\r\n{correlated}\r\n"
        return head.encode("ascii") + self.body


def prepared(response: web.Response, code: str | None) -> Prepared:
    """Write what aiohttp would send of a response that has a body."""
    assert isinstance(response.body, bytes)
    return Prepared.of(response.status, response.reason, tuple(response.headers.items()), response.body, code)
