"""HTTP towards PKB: one request, at most one message on the wire, a bounded answer, nothing done behind our back.

Off are redirects, cookies, proxies from the environment, decompression, and the client library's own second try.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from gateway.flow.ports import unfenced
from gateway.pkb.leaving import FencedBody, Progress
from gateway.pkb.names import Names

LARGEST_ANSWER: Final = 2 * 1024 * 1024
CONNECT_SECONDS: Final = 3.0
NAMES_KEPT_SECONDS: Final = 10

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Only a 200 has a body here: of every other status the status is all that counts."""

    status: int
    etag: str | None
    body: bytes


def is_id(text: str) -> bool:
    """Whether a text is a FHIR logical id that stays one path segment."""
    return _ID.fullmatch(text) is not None and text not in {".", ".."}


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
    """The connections to PKB. An asynchronous context manager; needs a running event loop.

    Reads use a pool of kept connections. Writes get a connection of their own, closed afterwards: a kept one may
    have been closed by PKB a moment before, and then nobody can tell whether a write on it arrived. One handshake
    more per write is the price for hearing "never connected" instead of "unknown".
    """

    def __init__(self, user_agent: str, *, ssl_context: SSLContext | None = None) -> None:
        """`ssl_context` replaces the system's trust, for an authority of one's own. Names are verified either way."""
        if ssl_context is not None and not ssl_context.check_hostname:
            raise ValueError("a TLS context that verifies names is needed")
        self._user_agent = user_agent
        self._ssl: SSLContext | bool = True if ssl_context is None else ssl_context
        self._names = Names()
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open without connecting anywhere."""
        self._kept = self._session(force_close=False)
        self._fresh = self._session(force_close=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    async def send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        deadline: float,
        *,
        body: bytes | None = None,
        alone: bool = False,
        fence: Callable[[], bool] = unfenced,
    ) -> Answer:
        """Send one request once and read its answer until `deadline`, a time of the event loop.

        `alone` keeps it off the kept connections. A request with a body is kept back when, right before its first
        byte would leave, the deadline has passed or `fence` says no. Raises NotConnected (Withheld included),
        Broken or Unreadable, and nothing else.
        """
        session = self._fresh if alone else self._kept
        if session is None:
            raise NotConnected("client is not open")
        if asyncio.get_running_loop().time() >= deadline:
            raise NotConnected("no time is left", late=True)
        progress = Progress(deadline, fence)
        data = None if body is None else FencedBody(body, progress)
        try:
            async with (
                asyncio.timeout_at(deadline),
                session.request(
                    method, url, headers=headers, data=data, allow_redirects=False, trace_request_ctx=progress
                ) as response,
            ):
                progress.status = response.status
                answer = await _answer(response)
                progress.whole = True
                return answer
        except HttpFault:
            raise
        except TimeoutError as error:
            late = asyncio.get_running_loop().time() >= deadline
            raise _fault(progress, "no answer in time" if late else "no connection in time", late=late) from error
        except aiohttp.ClientResponseError as error:
            raise Unreadable("the answer is not HTTP") from error
        except (aiohttp.ClientError, _Dropped, OSError, ValueError, RuntimeError) as error:
            raise _fault(progress, _named(error)) from error
        finally:
            progress.end()

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        # The library's waits are off: every request brings its own deadline, and the limits in front of it are ours.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=self._ssl,
                force_close=force_close,
                resolver=self._names,
                ttl_dns_cache=NAMES_KEPT_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_tracing()],
            middlewares=[_no_second_try],
        )


class _Dropped(Exception):
    """The connection went away under a request; deliberately none of the errors after which aiohttp sends again."""


async def _no_second_try(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    # aiohttp repeats a PUT, DELETE or GET by itself when the connection drops, even after the request was read.
    # It looks for ClientOSError and ServerDisconnectedError, and so must never see them.
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (OSError, aiohttp.ClientConnectionError) as error:
        raise _Dropped(_named(error)) from error


def _tracing() -> aiohttp.TraceConfig:
    """Note the moment before which no byte can have left: a connection, with its TLS, was there for the request."""

    async def connected(_session: object, context: SimpleNamespace, _params: object) -> None:
        progress: Progress = context.trace_request_ctx
        progress.connected = True

    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(connected)
    config.on_connection_reuseconn.append(connected)
    return config


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    etag = response.headers.get("ETag")
    if response.status != 200:
        return Answer(response.status, etag, b"")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unreadable("the answer is encoded", status=response.status)
    if (response.content_length or 0) > LARGEST_ANSWER:
        raise Unreadable("the answer is too large", status=response.status)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise Unreadable("the answer is too large", status=response.status)
    return Answer(response.status, etag, bytes(body))


def _fault(progress: Progress, reason: str, *, late: bool = False) -> HttpFault:
    if progress.withheld:
        return Withheld(progress.withheld, late=True)
    if not progress.may_have_left:
        return NotConnected(reason, late=late)
    return Broken(reason, late=late, status=progress.status)


def _named(error: BaseException) -> str:
    # The text of a foreign error may quote what PKB sent; its kind says enough.
    return str(error) if isinstance(error, _Dropped) else type(error).__name__
