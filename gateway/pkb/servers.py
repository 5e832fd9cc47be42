"""What is the same for every request to one server: the way to it, and how the head of a request begins."""

from collections.abc import Mapping
from functools import cached_property
from typing import Final

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

_CLOSE: Final = "Connection: close"


class Way(aiohttp.ClientRequest):
    """What aiohttp's connectors are shown to find or make a connection. It is never sent itself."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """Under which connections to this server are kept."""
        return super().connection_key


class Server:
    """One server that requests go to. Needs a running event loop."""

    def __init__(self, url: URL, headers: Mapping[str, str]) -> None:
        """`url` is any of its addresses; `headers` go with every request."""
        self.way = Way("GET", url)
        self._lines = [f"Host: {url.host_port_subcomponent}", *(f"{name}: {headers[name]}" for name in headers)]

    def request(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, *, close: bool) -> bytes:
        """Write a request (RFC 9112). Raises ValueError where a line would not be one line of ASCII.

        `close` tells the server that no other follows on its connection.
        """
        lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *self._lines]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        if close:
            lines.append(_CLOSE)
        if not "".join(lines).isprintable():
            raise ValueError("a line of the head holds what ends a line")
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        return head if body is None else head + body
