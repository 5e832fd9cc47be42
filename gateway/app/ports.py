"""The listening sockets: bound once by a supervisor, and handed to its workers as open file descriptors."""

import asyncio
import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

VARIABLE: Final = "PKB_GATEWAY_WORKER"
"""The variable of the environment in which a worker finds its `Handover`."""
SHUTDOWN: Final = 60.0
"""Seconds that requests under way have to end in after SIGTERM."""
SERVING: Final = b"serving\n"
"""What a worker says on its standard input, a socket to the supervisor, once it serves."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a supervisor gives a worker: a number, from 1, and the descriptors of the sockets of both ports."""

    worker: int
    partner: tuple[int, ...]
    admin: tuple[int, ...]

    def __str__(self) -> str:
        return " ".join((str(self.worker), ",".join(map(str, self.partner)), ",".join(map(str, self.admin))))

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self | None:
        """Find what a supervisor gave; None in a process that has none. Raises ValueError."""
        text = environ.get(VARIABLE)
        if text is None:
            return None
        try:
            worker, partner, admin = text.split(" ")
            return cls(int(worker), tuple(map(int, partner.split(","))), tuple(map(int, admin.split(","))))
        except ValueError as error:
            raise ValueError(f"{VARIABLE} is set, and not by a supervisor") from error


async def bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address of a host. Raises OSError.

    Nothing listens yet: until the first worker does, callers are refused, as they are by a gateway that starts.
    """
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        return [each.dup() for each in server.sockets]
    finally:
        server.close()


def adopt(descriptors: Sequence[int]) -> list[socket.socket]:
    """Take over sockets that were bound elsewhere; no process started from here gets them. Raises OSError."""
    sockets = [socket.socket(fileno=each) for each in descriptors]
    for each in sockets:
        each.set_inheritable(False)
    return sockets


def tell_supervisor() -> None:
    """Say that this worker serves."""
    os.write(sys.stdin.fileno(), SERVING)


def supervisor_is_gone() -> bool:
    """Whether nobody holds the other end of a worker's input any more. A supervisor never writes to it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
