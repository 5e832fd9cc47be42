"""The moment in which a request leaves: until then it can be kept back, and afterwards it is never finished late.

A process can be stopped between the permission to write and the first byte (SIGSTOP, a paused machine). When it goes
on, asyncio runs what is ready before the timers that are due, so a timeout alone would let a write out after its time.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from aiohttp.payload import BytesPayload

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: what the kernel has not sent yet is dropped."""


@dataclass(slots=True)
class Progress:
    """How far one request got."""

    deadline: float
    """In seconds of the event loop."""
    fence: Callable[[], bool]
    fenced: bool = False
    """Whether there is a body that asks before anything leaves."""
    connected: bool = False
    reused: bool = False
    """Whether the connection has carried another request before; PKB may have closed it since."""
    left: bool = False
    withheld: str = ""
    """Why it was kept back, if it was."""
    status: int | None = None
    whole: bool = False
    """Whether all of an answer came."""
    transport: asyncio.Transport | None = None

    @property
    def may_have_left(self) -> bool:
        """Whether PKB may have seen a byte of it. Without a body the connection is the last thing that is known."""
        return self.left if self.fenced else self.connected

    def let_go(self, transport: asyncio.Transport | None) -> bool:
        """Decide, right before the first byte, whether it may leave."""
        if not self.fence():
            self.withheld = "this process may no longer write"
        elif transport is None or transport.is_closing() or (self.reused and not _is_silent(transport)):
            # PKB has hung up before anything was sent.
            self.left = False
        # Last, since time passes while the others are asked.
        elif asyncio.get_running_loop().time() >= self.deadline:
            self.withheld = "its time was over before it left"
        else:
            self.left, self.transport = True, transport
        return self.left

    def end(self) -> None:
        """Unless an answer came: drop what is still to be sent, so that no message becomes whole after its time."""
        if self.whole or self.transport is None:
            return
        wire = self.transport.get_extra_info("socket")
        if wire is not None:
            # uvloop's socket of a closed connection has no number any more, and says so with a ValueError.
            with suppress(OSError, ValueError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _usable(writer: AbstractStreamWriter) -> asyncio.Transport | None:
    """Give the way to PKB, unless something has been read from it already: no request of this writer has left yet."""
    if not isinstance(writer, StreamWriter) or not isinstance(writer.protocol, ResponseHandler):
        return None
    return None if writer.protocol.should_close else writer.transport


def _is_silent(transport: asyncio.Transport) -> bool:
    """Whether nothing has come over a connection on which nothing is due: no byte, no end, no reset."""
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket"), select.POLLIN)
    return not waiting.poll(0)


class FencedBody(BytesPayload):
    """A body that asks before anything leaves: aiohttp holds the head back until the body is written."""

    def __init__(self, body: bytes, progress: Progress) -> None:
        super().__init__(body)
        self._progress = progress
        progress.fenced = True

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write head and body, or nothing at all."""
        if not self._progress.let_go(_usable(writer)):
            raise RuntimeError("kept back")
        # From here to the socket nothing waits.
        await super().write_with_length(writer, content_length)
