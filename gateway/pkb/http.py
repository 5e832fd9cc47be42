"""HTTP towards PKB: one request, at most one message on the wire, a bounded answer, nothing done behind our back.

aiohttp's connections and its parser are used without its session, and so without what a session does of its own accord:
redirects, cookies, proxies from the environment, and a second try when a connection drops.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache, partial
from ssl import SSLContext
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace
from yarl import URL

from gateway.flow.ports import unfenced
from gateway.pkb.leaving import Progress
from gateway.pkb.names import Names
from gateway.pkb.servers import Server

LARGEST_ANSWER: Final = 2 * 1024 * 1024
CONNECT_SECONDS: Final = 3.0
RECENT_SECONDS: Final = 1.0
"""How long ago PKB may have answered on a connection over which a write goes.

No server is known to close a connection that has been idle for so short a time.
"""
NAMES_KEPT_SECONDS: Final = 10
ADDRESSES_KEPT: Final = 1024

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?((?:/[A-Za-z0-9\-._~$]+)*/?)"
)


class HttpFault(Exception):
    """No whole answer was got. `late`: because the deadline passed; `status`: what its head said, if that came."""

    def __init__(self, reason: str, *, late: bool = False, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.late = late
        self.status = status


class NotConnected(HttpFault):
    """No byte of the request has left: no route, no name, no TLS, no time."""


class Withheld(NotConnected):
    """The gateway itself kept the request back at the last moment; it says nothing about PKB."""


class Broken(HttpFault):
    """Bytes of the request may have left, but no whole answer came back."""


class Unreadable(HttpFault):
    """An answer came that cannot be taken in: no HTTP, larger than allowed, or encoded although none was accepted."""


class Reuse(Enum):
    """Which connection a request may go over."""

    ANY = auto()
    """Any that is kept, or a new one. For reads: on one that PKB has just closed they fail, and can be sent again."""
    RECENT = auto()
    """One on which PKB answered a moment ago, or a new one. For a write that can be looked up when it is in doubt."""
    NEVER = auto()
    """A new one, closed afterwards: whatever happened before it was there, no byte has left."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Only a 200 has a body here: of every other status the status is all that counts."""

    status: int
    etag: str | None
    body: bytes


def is_id(text: str) -> bool:
    """Whether a text is a FHIR logical id that stays one path segment."""
    return _ID.fullmatch(text) is not None and text not in {".", ".."}


@lru_cache(ADDRESSES_KEPT)
def resource_url(base_url: str, kind: str, id_: str) -> URL:
    """Build `[base]/[type]/[id]` from configuration and a checked id. Raises ValueError.

    Nothing is normalised or encoded on the way to the wire, so the checks are all there is.
    """
    if not is_id(id_):
        raise ValueError("not a FHIR id")
    return checked_url(f"{base_url.rstrip('/')}/{kind}/{id_}")


def checked_url(url: str) -> URL:
    """Take an address of scheme, host, port and a plain path, as written. Raises ValueError for anything else."""
    match = _URL.fullmatch(url)
    if match is None or {".", ".."} & set(match[1].split("/")):
        raise ValueError("an address of scheme, host and a plain path is needed")
    return URL(url, encoded=True)


class HttpClient:
    """The connections to PKB. An asynchronous context manager; needs a running event loop."""

    def __init__(self, user_agent: str, *, ssl_context: SSLContext | None = None) -> None:
        """`ssl_context` replaces the system's trust, for an authority of one's own. Names are verified either way."""
        if ssl_context is not None and not ssl_context.check_hostname:
            raise ValueError("a TLS context that verifies names is needed")
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._ssl: SSLContext | bool = True if ssl_context is None else ssl_context
        self._open: _Connections | None = None

    async def __aenter__(self) -> Self:
        """Open without connecting anywhere."""
        names = Names()
        self._open = _Connections(
            _Kept(limit=0, ssl=self._ssl, resolver=names, ttl_dns_cache=NAMES_KEPT_SECONDS),
            _Connector(limit=0, ssl=self._ssl, resolver=names, ttl_dns_cache=NAMES_KEPT_SECONDS, force_close=True),
            # The library's other waits are off: every request brings its own deadline.
            aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            self._headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.kept.close()
            await opened.fresh.close()

    async def send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        deadline: float,
        *,
        body: bytes | None = None,
        reuse: Reuse = Reuse.ANY,
        fence: Callable[[], bool] = unfenced,
    ) -> Answer:
        """Send one request once and read its answer until `deadline`, a time of the event loop.

        A request with a body is kept back when, right before its first byte would leave, the deadline has passed or
        `fence` says no. Raises NotConnected (Withheld included), Broken or Unreadable, and nothing else.
        """
        opened = self._open
        if opened is None:
            raise NotConnected("client is not open")
        if asyncio.get_running_loop().time() >= deadline:
            raise NotConnected("no time is left", late=True)
        progress = Progress(deadline, fence, fenced=body is not None)
        try:
            async with asyncio.timeout_at(deadline):
                server = opened.server(url)
                connector = opened.choose(server, reuse, progress)
                request = server.request(method, url, headers, body, close=connector.force_close)
                # Until the connection is there, with its TLS, no byte of a request can leave.
                connection = await connector.connect(server.way, [], opened.waits)
                progress.connected = True
                return await _exchange(connection, request, progress)
        except HttpFault:
            raise
        except HttpProcessingError as error:
            raise Unreadable("the answer is not HTTP", status=progress.status) from error
        except TimeoutError as error:
            late = asyncio.get_running_loop().time() >= deadline
            raise _fault(progress, "no answer in time" if late else "no connection in time", late=late) from error
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            # The text of a foreign error may quote what PKB sent; its kind says enough.
            raise _fault(progress, type(error).__name__) from error


class _Handler(ResponseHandler):
    """Tells who waits for the body of an answer, too, that what came is no HTTP; aiohttp lets them wait for ever."""

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        body = self._payload
        super().set_exception(exc, exc_cause or exc)
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(exc)


class _Connector(aiohttp.TCPConnector):
    """Makes connections of that kind."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        kind: type[ResponseHandler] = _Handler
        self._factory = partial(kind, loop=self._loop)


class _Kept(_Connector):
    """Hands out first the connection that was used last: the one that PKB is the least likely to be closing."""

    def has_recent(self, key: ConnectionKey) -> bool:
        """Whether the connection that would be handed out is one on which PKB answered a moment ago."""
        held = self._conns.get(key)
        if not held:
            return False
        protocol, answered_at = held[-1]
        return monotonic() - answered_at <= RECENT_SECONDS and protocol.is_connected()

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        if held := self._conns.get(key):
            # aiohttp takes the leftmost, and puts back on the right.
            held.rotate(1)
        return await super()._get(key, traces)


@dataclass(frozen=True, slots=True)
class _Connections:
    kept: _Kept
    fresh: _Connector
    waits: aiohttp.ClientTimeout
    headers: Mapping[str, str]
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    """By scheme and authority; as many as the settings name."""

    def server(self, url: URL) -> Server:
        """Give the server of an address."""
        place = (url.scheme, url.raw_authority)
        found = self.servers.get(place)
        if found is None:
            found = self.servers[place] = Server(url, self.headers)
        return found

    def choose(self, server: Server, reuse: Reuse, progress: Progress) -> _Connector:
        """Say whose connections a request may go over."""
        progress.reused = reuse is Reuse.RECENT and self.kept.has_recent(server.way.connection_key)
        return self.kept if progress.reused or reuse is Reuse.ANY else self.fresh


async def _exchange(connection: Connection, request: bytes, progress: Progress) -> Answer:
    """Send a request over its connection and read the answer; the connection is given back, or closed."""
    try:
        protocol = connection.protocol
        assert protocol is not None, "aiohttp's, while the connection is held"
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        if not progress.leave(protocol, request):
            raise _fault(progress, "no connection any more")
        head, content = await _head(protocol)
        progress.status = head.code
        answer = await _answer(head, content)
    except BaseException:
        progress.drop()
        connection.close()
        raise
    if protocol.writing_paused:
        # PKB has not taken in all of the request, and does not wait for it: nothing more of it, nor another behind it.
        progress.drop()
        connection.close()
    else:
        # aiohttp closes it where the answer was not read to its end, or PKB wants it closed.
        connection.release()
    return answer


async def _head(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """Read up to the body of the answer. What may come before an answer (1xx, RFC 9110 §15.2) says nothing."""
    while True:
        head, content = await protocol.read()
        if not 100 <= head.code <= 199 or head.code == 101:
            return head, content


async def _answer(head: RawResponseMessage, content: StreamReader) -> Answer:
    status, headers = head.code, head.headers
    etag = headers.get("ETag")
    if status != 200:
        return Answer(status, etag, b"")
    encoding, length = headers.get("Content-Encoding"), headers.get("Content-Length")
    if encoding is not None and encoding.lower() != "identity":
        raise Unreadable("the answer is encoded", status=status)
    if length is not None and int(length) > LARGEST_ANSWER:
        raise Unreadable("the answer is too large", status=status)
    body = bytearray(await content.readany())
    while not content.at_eof() and len(body) <= LARGEST_ANSWER:
        body += await content.readany()
    if len(body) > LARGEST_ANSWER:
        raise Unreadable("the answer is too large", status=status)
    return Answer(status, etag, bytes(body))


def _fault(progress: Progress, reason: str, *, late: bool = False) -> HttpFault:
    if progress.withheld:
        return Withheld(progress.withheld, late=True)
    if not progress.may_have_left:
        return NotConnected(reason, late=late)
    return Broken(reason, late=late, status=progress.status)
