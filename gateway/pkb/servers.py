"""What is the same for every request to one server: the way to it, and how the head of a request begins."""

from collections.abc import Mapping
from functools import cached_property

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict
from yarl import URL


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
        self._headers = CIMultiDict({"Host": url.host_port_subcomponent or "", **headers})

    def request(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, *, close: bool) -> bytes:
        """Write a request (RFC 9112) in one piece, its head as aiohttp writes it.

        `close` tells the server that no other follows on its connection. Raises ValueError where a value of the head
        would not be printable ASCII.
        """
        given = CIMultiDict(self._headers)
        given.extend(headers)
        if body is not None:
            given["Content-Length"] = str(len(body))
        if close:
            given["Connection"] = "close"
        if not "".join(headers.values()).isprintable():
            raise ValueError("a value of the head holds what ends a line")
        head = _serialize_headers(f"{method} {url.raw_path_qs} HTTP/1.1", given)
        if not head.isascii():
            raise ValueError("a value of the head is not ASCII")
        return head if body is None else head + body
