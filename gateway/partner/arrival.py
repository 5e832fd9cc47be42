"""A request as it was taken in, and the reading of its body within a limit and a deadline."""

import asyncio
from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.web_protocol import ERROR, RequestPayloadError

from gateway.partner.callers import plain
from gateway.partner.headers import MOST_HEADERS, Head, Lines, read_head
from gateway.partner.target import Malformed, Target, read_target


@dataclass(slots=True)
class Arrival:
    """One request as the protocol took it in; its target and head are proven."""

    request_id: str
    correlation_id: str | None
    peer: str
    """The caller's address: the other end of the socket, or what a trusted proxy says it is."""
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


class PartnerRequest(web.BaseRequest):
    """A request of aiohttp's with what was found out about it as it was taken in."""

    caller: str = ""
    """As in `Arrival.peer`; known of bytes that are no request too."""
    proven: Arrival | Malformed


def arrival(request: web.BaseRequest) -> Arrival:
    """The proven target, head and ids of a request that came through `partner_runner`."""
    assert isinstance(request, PartnerRequest), "partner_runner makes no other"
    assert isinstance(request.proven, Arrival), "what is malformed gets to no handler"
    return request.proven


def connection_peer(peername: object) -> str:
    """The address of a socket's other end; no header can change it. Empty on a Unix socket."""
    return plain(peername[0]) if isinstance(peername, tuple) else ""


def examine(message: RawRequestMessage, lines: Lines) -> tuple[Target, Head] | Malformed:
    """Prove what a parser took for a request; everything that is wrong before a route is known."""
    if message is ERROR:
        return Malformed("The request could not be read.")
    if message.version not in (HttpVersion11, HttpVersion10):
        return Malformed("The HTTP version is neither 1.1 nor 1.0.")
    if message.method == hdrs.METH_CONNECT:
        return Malformed("The method CONNECT is not accepted; this server is no general proxy.")
    if message.chunked and message.version == HttpVersion10:
        return Malformed("HTTP/1.0 knows no transfer coding; send Content-Length.")
    head = read_head(lines)
    if isinstance(head, Malformed):
        return head
    target = read_target(message.path, head.host)
    return target if isinstance(target, Malformed) else (target, head)


def take_in(
    message: RawRequestMessage, lines: Lines, caller: str, request_id: str, correlation_id: str | None
) -> Arrival | Malformed:
    """Take in what a parser took for a request; `caller` is as in `Arrival.peer`."""
    proven = examine(message, lines)
    if isinstance(proven, Malformed):
        return proven
    target, head = proven
    return Arrival(
        request_id,
        correlation_id,
        caller,
        target,
        head,
        awaits_continue=head.expects_continue and message.version == HttpVersion11,
        # aiohttp's parser in C loses what follows a request with an unknown upgrade in the same segment,
        # and gives the last trailer of a chunked body to the next request as a header.
        closing=head.upgrade or message.chunked,
    )


def is_early(request: web.BaseRequest) -> bool:
    """Tell whether an answer goes out while input is still to come, or is no longer to be trusted."""
    assert isinstance(request, PartnerRequest), "partner_runner makes no other"
    content, came = request.content, request.proven
    return not content.is_eof() or content.exception() is not None or (isinstance(came, Arrival) and came.closing)


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
        if request.content.is_eof():  # it came with the head: nothing to wait for, no clock to start
            whole = request.content.read_nowait()
            return TooLarge() if len(whole) > limit else whole
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
