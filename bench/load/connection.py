"""A client connection that costs little: HTTP/1.1 with Content-Length, one request at a time."""

import asyncio
import re
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE: Final = re.compile(rb'"details":\{"coding":\[\{"system":"[^"]*","code":"([a-z-]+)"')
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

Told = tuple[int, str]
"""Status and error code; (0, why) where no answer came."""


class Connection(asyncio.Protocol):
    """One connection. `usable` tells whether it may carry another request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._bytes = bytearray()
        self._waiter: asyncio.Future[Told] | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits gets no answer."""
        self.usable = False
        self._tell((0, "reset" if exc else "closed"))

    def data_received(self, data: bytes) -> None:
        """Collect one answer."""
        self._bytes += data
        head, found, _ = self._bytes.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        whole = len(head) + 4 + (int(length[1]) if length else 0)
        if len(self._bytes) < whole:
            return
        status = int(head[9:12])
        found_code = _CODE.search(self._bytes) if status >= 400 else None
        code = found_code[1].decode() if found_code else ""
        self.usable = self.usable and _CLOSES.search(head) is None
        self._bytes.clear()
        self._tell((status, code))

    async def ask(self, request: bytes, patience: float) -> Told:
        """Send one request and wait for its answer, at most so many seconds."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(patience):
                return await self._waiter
        except TimeoutError:
            self.close()
            return (0, "no-answer")

    def close(self) -> None:
        """Let go of it."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _tell(self, told: Told) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(told)
