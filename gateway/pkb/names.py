"""Looking up PKB's host names where a resolver that hangs holds up nobody else.

`getaddrinfo` cannot be stopped. In the event loop's own threads a few lookups that hang would take the places in
which the audit stream is made durable and the state store is asked.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUP_SECONDS: Final = 3.0
"""How long one request waits for a name."""
LOOKUPS: Final = 4
"""How many lookups of one name may run: a further one is begun when the youngest has taken that long already."""

_Found = list[tuple[Any, ...]]
_Key = tuple[str, int, int]


class Names(AbstractResolver):
    """Resolves names by the system's resolver, in threads of their own; the names come from the settings alone."""

    def __init__(self) -> None:
        self._running: dict[_Key, list[tuple[float, asyncio.Future[_Found]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of a name. Raises OSError, also when there is no answer in time."""
        looking = self._lookup((host, port, int(family)))
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await asyncio.shield(looking)
        except TimeoutError:
            raise OSError(None, "no answer from the resolver in time") from None
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=of,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Leave what still runs to itself."""

    def _lookup(self, key: _Key) -> asyncio.Future[_Found]:
        """Join the youngest lookup of a name, unless it hangs: a resolver that is back answers a new one at once."""
        now, running = asyncio.get_running_loop().time(), self._running.setdefault(key, [])
        if running and (now - running[-1][0] < LOOKUP_SECONDS or len(running) >= LOOKUPS):
            return running[-1][1]
        looking = self._start(key)
        running.append((now, looking))
        looking.add_done_callback(lambda _: self._done(key, looking))
        return looking

    def _done(self, key: _Key, looking: asyncio.Future[_Found]) -> None:
        left = [each for each in self._running.pop(key) if each[1] is not looking]
        if left:
            self._running[key] = left

    def _start(self, key: _Key) -> asyncio.Future[_Found]:
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[_Found] = loop.create_future()
        # Nobody may be waiting any more when it fails.
        looking.add_done_callback(lambda done: done.cancelled() or done.exception())

        def tell(found: _Found | OSError) -> None:
            if looking.done():
                return
            if isinstance(found, OSError):
                looking.set_exception(found)
            else:
                looking.set_result(found)

        def look() -> None:
            found: _Found | OSError
            try:
                host, port, family = key
                found = list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG))
            except OSError as error:
                found = error
            except UnicodeError:
                found = OSError(None, "not a name")
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(tell, found)

        # A thread that does not hold up the end of the process.
        threading.Thread(target=look, name="name lookup", daemon=True).start()
        return looking
