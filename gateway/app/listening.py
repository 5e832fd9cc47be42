"""Taking the connections of a port."""

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from gateway.app.certificate import Certificate
from gateway.app.ports import adopt, bind
from gateway.partner.tls import secure_site

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a burst that finds no room there waits for a second and more."""
TAKERS: Final = 8
"""Descriptors of each listening socket. In a round of its loop uvloop accepts one connection from each; asyncio's loop
accepts all that are there. Accepted one a round, a burst would wait out of sight of whatever sheds load."""


async def open_port(
    runner: web.BaseRunner,
    host: str,
    port: int,
    given: Sequence[int],
    stack: AsyncExitStack,
    certificate: Certificate | None = None,
) -> int:
    """Serve at an address, or on the sockets that a supervisor bound to it; gives the port. Raises OSError."""
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for bound in adopt(given) or await bind(host, port):
        for taker in (bound, *(bound.dup() for _ in range(TAKERS - 1))):
            await _site(runner, taker, certificate).start()
    number: int = runner.addresses[0][1]
    return number


def _site(runner: web.BaseRunner, listening: socket.socket, certificate: Certificate | None) -> web.BaseSite:
    if certificate is None:
        return web.SockSite(runner, listening, backlog=BACKLOG)
    return secure_site(runner, listening, certificate.context, BACKLOG)
