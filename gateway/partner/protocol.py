"""The HTTP edge: aiohttp's server made strict in framing, quiet about itself, and bounded in time.

The one file that reaches into aiohttp. Its parser answers bad bytes before any middleware, as plain text with
a Server header; it sets no deadline on headers; it answers `100 Continue` before anybody looked at the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_server import Server
from multidict import CIMultiDict

from gateway.partner.arrival import Arrival, PartnerRequest, connection_peer, is_early, reason_of, take_in
from gateway.partner.at_once import ALWAYS
from gateway.partner.connections import Connections, most_connections
from gateway.partner.headers import MOST_HEADERS, Lines, correlation_id, request_id, sort_lines
from gateway.partner.http_edge import Handler, HttpEdge
from gateway.partner.target import Malformed

MEDIA_TYPE: Final = "application/fhir+json"

_NO_LINES: Final = Lines()


class AnswerWriter(StreamWriter):
    """Writes the head of every answer, aiohttp's own included."""

    def __init__(self, protocol: RequestHandler, request_id: str, correlation_id: str | None) -> None:
        super().__init__(protocol, asyncio.get_running_loop())
        self.request_id = request_id
        self.correlation_id = correlation_id

    async def write_headers(self, status_line: str, headers: "CIMultiDict[str]") -> None:
        """Take out what tells about the server, put in what every answer has."""
        headers.popall(hdrs.SERVER, None)
        for name, value in ALWAYS:
            headers.setdefault(name, value)
        headers["X-Request-Id"] = self.request_id
        if self.correlation_id is not None:
            headers["X-Correlation-Id"] = self.correlation_id
        # aiohttp repeats the caller's version, and says 1.0 when it could not read one.
        await super().write_headers("HTTP/1.1" + status_line[status_line.index(" ") :], headers)


class ExactMethodParser(HttpRequestParserPy):
    """aiohttp's parser in Python takes `get` for GET; methods are case-sensitive (RFC 9110, 9.1)."""

    def parse_message(self, lines: list[bytes]) -> RawRequestMessage:
        """Refuse what the parser in C refuses."""
        method = lines[0].partition(b" ")[0]
        if method != method.upper():
            raise BadHttpMethod(error="lower-case method")
        return super().parse_message(lines)


class PartnerProtocol(RequestHandler):
    """One connection: strict framing, deadlines, and FHIR for every answer."""

    def __init__(self, server: "PartnerServer", edge: HttpEdge, loop: asyncio.AbstractEventLoop) -> None:
        limits = edge.limits
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keep_alive,
            max_line_size=limits.line,
            max_field_size=limits.line,
            # The parser in Python counts the request line and the empty line too; read_head counts exactly.
            max_headers=MOST_HEADERS + 2,
            lingering_time=0.0,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp itself turns the access log off
        )
        if isinstance(self._parser, HttpRequestParserPy):
            self._parser = ExactMethodParser(
                self,
                loop,
                self._read_bufsize,
                max_line_size=limits.line,
                max_field_size=limits.line,
                max_headers=MOST_HEADERS + 2,
                payload_exception=RequestPayloadError,
                auto_decompress=False,
                max_msg_queue_size=self._max_msg_queue_size,
            )
        self._edge = edge
        self._server = server
        self._room = server.room
        self._latest: StreamReader = EMPTY_PAYLOAD
        self._broken = False
        self._refused = False
        self._ended = False
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._discarding: asyncio.Future[None] | None = None
        self._discarded = 0
        self.peer = ""
        """The address of the other end; empty on a Unix socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; unflushed bytes of an answer count as soon as there are any."""
        # uvloop's transports are of no class of asyncio, and do the same.
        transport = cast("asyncio.WriteTransport", transport)
        super().connection_made(transport)
        # Asked here for good: aiohttp takes a connection that it has closed for one without TLS.
        plain = self.ssl_context is None
        # asyncio's TLS compares the other way round, and so would never see a buffer of 0 bytes as emptied.
        transport.set_write_buffer_limits(high=0 if plain else 1)
        self.peer = connection_peer(transport.get_extra_info("peername"))
        if self._room.enter(self):
            self._await_headers()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop every clock."""
        self._room.leave(self)
        self._server.coming.discard(self)
        self._stop_discarding()
        self._headers_came()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and make a parser's error the error of the body it belongs to."""
        if self._discarding is not None:
            self._discarded += len(data)
            if self._discarded >= self._edge.limits.discard_bytes:
                self._stop_discarding()
        elif not self._broken:
            in_body = not self._latest.is_eof()
            if self._receive(data):
                self._headers_came()
            elif data and not in_body:
                self._await_headers()

    def _receive(self, data: bytes) -> bool:
        """Give the data to the parser; tells whether a head is complete now."""
        coming = self._server.coming
        asleep = self._waiter if self.is_idle() and self._edge.is_full(len(coming)) else None
        if asleep is not None:
            self._waiter = None  # aiohttp would wake its task, which costs more than the answer
        fresh = self._parse(data)
        for message, payload in fresh:
            if isinstance(message, _ErrInfo):
                self._broken = True
                self._spoil_body()
            else:
                self._latest = payload
        if asleep is not None:
            self._waiter = asleep
            if not fresh or self._turned_away(fresh):
                return bool(fresh)
            asleep.set_result(None)
        # What comes behind a request that is not answered yet is on its way to nobody: its caller may never take an
        # answer, and a few such connections would fill all places.
        if fresh and not (self._broken or self._request_in_progress):
            coming.add(self)
        return bool(fresh)

    def _parse(self, data: bytes) -> Sequence[tuple[RawRequestMessage | _ErrInfo, StreamReader]]:
        queued = len(self._messages)
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001  # aiohttp's parsers let ValueError and others out on bad bytes
            self._messages.append((_ErrInfo(400, error, ""), EMPTY_PAYLOAD))
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
        return list(self._messages)[queued:]

    def _turned_away(self, fresh: Sequence[tuple[RawRequestMessage | _ErrInfo, StreamReader]]) -> bool:
        """Answer one whole request for which there is no room; False where it has to be handled after all."""
        message, payload = fresh[0]
        plain = len(fresh) == 1 and payload.is_eof() and not self._ended and not self.is_stuck()
        if not plain or isinstance(message, _ErrInfo) or message.should_close or message.version != HttpVersion11:
            return False
        _, ours, theirs, came = self._server.look_at(message, self.peer)
        if isinstance(came, Malformed) or came.closing or self._parser is None or self.transport is None:
            return False
        answer = self._edge.turn_away(came, message.method)
        if answer is None:
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self.transport.write(answer.answer(ours, theirs))
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        self._keepalive = True
        self._room.used(self)
        return True

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows both; aiohttp declares None
        """A client may shut its sending side and still wait for the answer; asyncio would close on it."""
        self._ended = True
        self._stop_discarding()
        self._spoil_body()
        if self.is_idle():
            self.force_close()
        elif not self._messages:
            self.close()  # behind the answer under way, or one just given: nobody is idle yet between two requests
        return self.ssl_context is None

    def _spoil_body(self) -> None:
        if not self._latest.is_eof() and self._latest.exception() is None:
            self._latest.set_exception(RequestPayloadError())

    def is_idle(self) -> bool:
        """Whether the connection waits for a request, or for the rest of its head."""
        return self._waiter is not None and not self._waiter.done()

    def _await_headers(self) -> None:
        if self._late is None:
            self._late = self._loop.call_later(self._edge.limits.headers, self._headers_late)

    def _headers_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _headers_late(self) -> None:
        self._late = None
        if self.is_idle():
            self.force_close()
        elif not self._force_close:
            self._await_headers()

    def pause_writing(self) -> None:
        """Give the client so long to take the answer."""
        super().pause_writing()
        if self.transport is not None:
            self._stuck = self._loop.call_later(self._edge.limits.write, self.transport.abort)

    def resume_writing(self) -> None:
        """The client took all of it."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def is_stuck(self) -> bool:
        """Whether the client has not taken all of an answer yet."""
        return self._stuck is not None

    def cut_off(self) -> None:
        """End the connection, whatever is still to be said."""
        if self.transport is not None:
            self.transport.abort()

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            return self.refuse(request, Malformed(reason_of(err_info.exc, self._edge.limits.line)))

        return refuse

    def refuse(self, request: web.BaseRequest, malformed: Malformed) -> web.Response:
        """The one answer to bytes that are no request."""
        self._refused = True
        body = self._edge.on_malformed(malformed.reason, *_whose(request))
        return web.Response(status=400, body=body, content_type=MEDIA_TYPE)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002  # aiohttp says 504 for a TimeoutError, which is a fault all the same
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's own words are not for callers
    ) -> web.StreamResponse:
        """What got out of a handler is a fault of ours, whatever aiohttp calls it."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun; the connection closes in the middle of it")
        body = self._edge.on_fault(exc, *_whose(request))
        answer = web.Response(status=500, body=body, content_type=MEDIA_TYPE)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, and close behind it where the connection cannot carry another request."""
        came_out: object = resp  # of a handler, whatever its types promise
        if isinstance(came_out, BaseException):  # an HTTPException is plain text of aiohttp's
            resp = self.handle_error(request, exc=came_out)
        elif not isinstance(came_out, web.Response):  # the one kind that handlers make
            resp = self.handle_error(request)
        early = self._refused or is_early(request)
        last = early or (self._ended and not self._messages) or resp.headers.get(hdrs.CONNECTION) == "close"
        if last and not resp.prepared:
            resp.force_close()  # aiohttp would send the header of a handler and keep the connection all the same
        finished = await super().finish_response(request, resp, start_time)
        if early:
            await self._discard_input()
        self._room.used(self)
        return finished

    async def _discard_input(self) -> None:
        """Shut the sending side and throw input away for a while.

        Closing a socket with unread input resets it, and a reset makes the client's kernel drop the answer.
        """
        transport = self.transport
        if transport is not None and not self._ended:
            self._discarding = self._loop.create_future()
            if transport.can_write_eof():
                transport.write_eof()
            self._resume_transport_reading()
            await asyncio.wait([self._discarding], timeout=self._edge.limits.discard)
        self.force_close()

    def _stop_discarding(self) -> None:
        if self._discarding is not None and not self._discarding.done():
            self._discarding.set_result(None)


class PartnerServer(Server):
    """Makes a `PartnerProtocol` per connection and lets only proven requests through to the handler."""

    def __init__(self, handler: Handler, edge: HttpEdge) -> None:
        super().__init__(self._admit, request_factory=self._take_in, handler_cancellation=False)
        self._handler = handler
        self._edge = edge
        self.coming: set[PartnerProtocol] = set()
        """Connections with a request that has not got to the handler yet, and none before it that is under way."""
        self.room = Connections(most_connections(edge.limits.connections))

    def __call__(self) -> RequestHandler:
        """Serve one connection."""
        return PartnerProtocol(self, self._edge, self._loop)

    def _take_in(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        assert isinstance(protocol, PartnerProtocol)
        caller, ours, theirs, came = self.look_at(message, protocol.peer)
        writer = AnswerWriter(protocol, ours, theirs)
        if isinstance(came, Malformed):
            message = ERROR._replace(method=message.method, version=HttpVersion11)
        request = PartnerRequest(message, payload, protocol, writer, task, self._loop)
        request.caller, request.proven = caller, came
        return request

    def look_at(self, message: RawRequestMessage, peer: str) -> tuple[str, str, str | None, Arrival | Malformed]:
        """Give the caller's address, the ids of request and correlation, and what came."""
        lines = _NO_LINES if message is ERROR else sort_lines(message.raw_headers)
        caller = self._edge.callers.caller(peer, lines)
        ours, theirs = request_id(lines, self._edge.new_id), correlation_id(lines)
        return caller, ours, theirs, take_in(message, lines, caller, ours, theirs)

    async def _admit(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, PartnerRequest)
        assert isinstance(request.protocol, PartnerProtocol)
        self.coming.discard(request.protocol)
        if isinstance(request.proven, Arrival):
            return await self._handler(request)
        return request.protocol.refuse(request, request.proven)


def _whose(request: web.BaseRequest) -> tuple[str, str]:
    """Give the request's id and the address of its caller."""
    assert isinstance(request, PartnerRequest)
    assert isinstance(request.writer, AnswerWriter)
    return request.writer.request_id, request.caller


def partner_runner(handler: Handler, edge: HttpEdge) -> web.ServerRunner:
    """The runner for the partner port; `web.TCPSite(runner, host, port)` opens it.

    aiohttp's low-level server, without routes of its own: it asks no router, and answers no `100 Continue` by itself.
    """
    return web.ServerRunner(PartnerServer(handler, edge), shutdown_timeout=edge.limits.shutdown)
