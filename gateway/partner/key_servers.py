"""Key sets fetched over the network: bounded in size and time, and nothing is followed, kept or unpacked on the way."""

import re
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from gateway.partner.keys import KEY_SET_BYTES

CONNECT_SECONDS: Final = 3.0
AT_ONCE: Final = 16
"""Fetches under way at the same time, over all servers."""

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.IGNORECASE)
_AT_ONCE_STALE: Final = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,])", re.IGNORECASE)


class FetchFailed(Exception):
    """No key set was got. The reason never repeats what the server sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body of at most KEY_SET_BYTES, and for how many seconds its server calls it fresh, if it says so."""

    body: bytes
    max_age: float | None


class KeyClient:
    """The connections to servers of key sets. An asynchronous context manager; needs a running event loop."""

    def __init__(self, user_agent: str, *, ssl_context: SSLContext | None = None) -> None:
        """`ssl_context` replaces the system's trust, for an authority of one's own. Names are verified either way."""
        if ssl_context is not None and not ssl_context.check_hostname:
            raise ValueError("a TLS context that verifies names is needed")
        self._user_agent = user_agent
        self._ssl: SSLContext | bool = True if ssl_context is None else ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open without connecting anywhere."""
        headers = {
            "User-Agent": self._user_agent,
            "Accept": "application/jwk-set+json, application/json",
            "Accept-Encoding": "identity",
        }
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE, ssl=self._ssl, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, seconds: float) -> Fetched:
        """Get a key set within `seconds`. Raises FetchFailed, whatever went wrong.

        Redirects are not followed: the address is configuration, and what it names decides who is let in.
        """
        assert self._session is not None, "the client is open"
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds))
        try:
            async with self._session.get(
                URL(url, encoded=True), allow_redirects=False, timeout=timeout, max_redirects=0
            ) as response:
                return await _fetched(response)
        except TimeoutError as error:
            raise FetchFailed("no whole answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of a foreign error may quote what the server sent; its kind says enough.
            raise FetchFailed(f"not reached or no HTTP ({type(error).__name__})") from error


async def _fetched(response: aiohttp.ClientResponse) -> Fetched:
    if response.status != 200:
        raise FetchFailed(f"the server answered {response.status} instead of 200")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("the answer is compressed although nothing of the kind was accepted")
    # The type is not looked at: servers call a key set by many names, and a page is no strict JSON.
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > KEY_SET_BYTES:
            raise FetchFailed(f"the answer is larger than {KEY_SET_BYTES // 1024} KiB")
    return Fetched(bytes(body), _max_age(",".join(response.headers.getall("Cache-Control", []))))


def _max_age(cache_control: str) -> float | None:
    """The seconds that RFC 9111 §5.2 lets an answer be used without asking again; None where nothing is said."""
    if _AT_ONCE_STALE.search(cache_control):
        return 0.0
    found = _MAX_AGE.search(cache_control)
    return None if found is None else float(found[1])
