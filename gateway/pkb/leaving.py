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

from aiohttp.client_proto import ResponseHandler

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
    transport: asyncio.Transport | None = None

    @property
    def may_have_left(self) -> bool:
        """Whether PKB may have seen a byte of it. Without a body the connection is the last thing that is known."""
        return self.left if self.fenced else self.connected

    def leave(self, protocol: ResponseHandler, request: bytes) -> bool:
        """Write a request, or nothing at all; whether it was written. Raises RuntimeError where the fence fails."""
        transport = protocol.transport
        # What was said before anything was asked is no answer.
        if transport is None or transport.is_closing() or protocol.should_close:
            return False
        if self.fenced and not self._may_leave(transport):
            return False
        # From the question to the socket nothing waits.
        transport.write(request)
        return True

    def _may_leave(self, transport: asyncio.Transport) -> bool:
        """Decide, right before the first byte, whether it may leave."""
        if not self._may_write():
            self.withheld = "this process may no longer write"
        elif self.reused and not _is_silent(transport):
            # PKB has hung up, or said something unasked, before anything was sent.
            self.left = False
        # Last, since time passes while the others are asked.
        elif asyncio.get_running_loop().time() >= self.deadline:
            self.withheld = "its time was over before it left"
        else:
            self.left, self.transport = True, transport
        return self.left

    def _may_write(self) -> bool:
        try:
            return self.fence()
        except Exception as fault:
            raise RuntimeError("the fence failed") from fault

    def drop(self) -> None:
        """Drop what is still to be sent, so that no message becomes whole after its time. Comes before any closing."""
        if self.transport is None:
            return
        wire = self.transport.get_extra_info("socket")
        if wire is not None:
            # uvloop's socket of a closed connection has no number any more, and says so with a ValueError.
            with suppress(OSError, ValueError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _is_silent(transport: asyncio.Transport) -> bool:
    """Whether nothing has come over a connection on which nothing is due: no byte, no end, no reset."""
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket"), select.POLLIN)
    return not waiting.poll(0)
