"""A request as it was taken in, and the reading of its body within a limit and a deadline."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from gateway.partner.headers import MOST_HEADERS, Head
from gateway.partner.target import Malformed, Target


@dataclass(slots=True)
class Arrival:
    """One request as the protocol took it in; its target and head are proven."""

    request_id: str
    correlation_id: str | None
    peer: str
    target: Target
    head: Head
    awaits_continue: bool = False
    closing: bool = False
    """True once the connection cannot carry another request."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The body is, or was announced, longer than the limit."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The body was not complete at the deadline."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The client closed the connection; no answer can reach it."""


Body = bytes | TooLarge | TimedOut | Malformed | Gone

ARRIVAL: Final = web.RequestKey("arrival", Arrival)


def arrival(request: web.BaseRequest) -> Arrival:
    """The proven target, head and ids of a request that came through `partner_runner`."""
    return request[ARRIVAL]


def connection_peer(request: web.BaseRequest) -> str:
    """The address at the other end of the socket; no header can change it. Empty on a Unix socket."""
    try:
        address = ip_address(request.remote or "")
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def is_early(request: web.BaseRequest) -> bool:
    """Tell whether an answer goes out while input is still to come, or is no longer to be trusted."""
    content, came = request.content, request.get(ARRIVAL)
    return not content.is_eof() or content.exception() is not None or (came is not None and came.closing)


async def read_body(request: web.BaseRequest, limit: int, deadline: float) -> Body:
    """Read at most `limit` bytes until `deadline`, an instant of `loop.time()`; never decompresses.

    Sends `100 Continue` when the client waits for it (RFC 9110, 10.1.1), so call it only when the body is wanted.
    When it returns anything but bytes, the connection closes after the answer.
    """
    came = arrival(request)
    body = await _read(request, came, limit, deadline)
    came.closing = came.closing or not isinstance(body, bytes)
    return body


async def _read(request: web.BaseRequest, came: Arrival, limit: int, deadline: float) -> Body:
    if came.head.content_length is not None and came.head.content_length > limit:
        return TooLarge()
    _send_continue(request, came)
    body = bytearray()
    try:
        async with asyncio.timeout_at(deadline):
            while piece := await request.content.readany():
                body += piece
                if len(body) > limit:
                    return TooLarge()
    except TimeoutError:
        return TimedOut()
    except (RequestPayloadError, HttpProcessingError):
        return Malformed("The body does not end where its headers say.")
    except (ConnectionError, RuntimeError):
        if request.transport is None:
            return Gone()
        raise
    return bytes(body)


def _send_continue(request: web.BaseRequest, came: Arrival) -> None:
    untouched = not request.content.is_eof() and request.content.total_bytes == 0
    if came.awaits_continue and untouched and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    came.awaits_continue = False


def reason_of(error: BaseException, line: int) -> str:
    """Say what is wrong with bytes that are no request; `line` is the limit of target and header, in bytes."""
    match error:
        case LineTooLong():
            return f"The request target or a header is longer than {line} bytes."
        case BadHttpMethod():
            return "The request does not start with a method in capital letters, a target and an HTTP version."
        case BadHttpMessage(args=("Too many headers received",)):
            return f"The request has more than {MOST_HEADERS} headers."
        case _:
            return (
                "The request is not well-formed HTTP/1.1: its request line, a header line or the framing of its body."
            )
