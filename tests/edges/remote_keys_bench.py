"""Keys by URL in front of a stand-in for their server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.partner.key_servers import Fetched
from gateway.partner.remote_keys import Pace, RemoteKeys, Room
from tests.edges.tokens import jwk, jwks, private_key

URL = "https://keys.example/certs"
QUICK = Pace(refresh=30.0, retry=0.05, cool_down=0.1, wait=0.5, fetch=1.0)
FOR_EVER = 1e9


def entry(kid: str, number: int = 0, **more: Any) -> dict[str, Any]:
    return jwk(private_key("P-256", number), kid=kid, **more)


@dataclass
class Server:
    """A stand-in for a server: what it gives, how long it takes, when it was asked."""

    body: bytes = b""
    delay: float = 0.0
    fault: Exception | None = None
    max_age: float | None = None
    asked: list[float] = field(default_factory=list)

    async def fetch(self, url: str, seconds: float) -> Fetched:
        assert (url, seconds) == (URL, QUICK.fetch)
        self.asked.append(time.monotonic())
        body, fault = self.body, self.fault
        await asyncio.sleep(self.delay)
        if fault is not None:
            raise fault
        return Fetched(body, self.max_age)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Remote keys in front of a stand-in; `told` is what was told of them, as (kids, problem)."""

    server: Server = field(default_factory=lambda: Server(jwks(entry("k1"))))
    pace: Pace = QUICK
    room: Room = field(default_factory=Room)
    clock: Callable[[], float] = time.monotonic
    told: list[tuple[list[str], str | None]] = field(default_factory=list)
    keys: RemoteKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = RemoteKeys(
            URL, self.server.fetch, self.tell, lambda: 1.0, room=self.room, pace=self.pace, clock=self.clock
        )

    def tell(self, keys: RemoteKeys) -> None:
        self.told.append((sorted(keys.key_set().keys), keys.problem))

    @property
    def kids(self) -> set[str]:
        return set(self.keys.key_set().keys)


async def seconds_of(work: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    result = await work
    return result, time.monotonic() - begun


@contextlib.asynccontextmanager
async def running(keys: RemoteKeys) -> AsyncIterator[None]:
    task = asyncio.create_task(keys.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keys.close()


async def eventually(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while True:
            if good():
                return
            await asyncio.sleep(0.01)
