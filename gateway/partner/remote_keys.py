"""Keys by URL: known ahead of the tokens they verify, asked for anew when one is unknown, kept when a server fails.

No request waits for a key that is known, and nothing that strangers send makes a server be asked faster than its pace.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.partner.key_servers import Fetched, FetchFailed
from gateway.partner.keys import KeySet, KeySetProblem, VerifyingKey, read_key_set

WAITING: Final = 64
"""Requests that may wait for one server at a time; a slow one must not keep the others' waiting."""

Fetch = Callable[[str, float], Awaitable[Fetched]]
"""Gets a key set from a URL within so many seconds. Raises FetchFailed."""

_NONE: Final = KeySet(MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Pace:
    """When a server is asked, in seconds."""

    refresh: float = 300.0
    """The longest time between two looks: how long a key that was taken out can still be good."""
    shortest: float = 60.0
    """The shortest such time, however short the server's `max-age`."""
    retry: float = 2.0
    """After a first failure; doubled with every further one."""
    longest_retry: float = 60.0
    cool_down: float = 2.0
    """Between two looks for unknown keys. Less than `wait`: a rotation is noticed even while strangers try kids."""
    wait: float = 3.0
    """How long one request waits for its key."""
    fetch: float = 5.0
    keep: float = 24 * 3600.0
    """How long the last good keys are used while their server fails."""


@dataclass(slots=True)
class Room:
    """How many requests may wait for keys of all servers: fewer than may be under way, or strangers could hold all."""

    free: int = 192


class RemoteKeys:
    """The keys at one URL. `told` is called with it whenever what there is to tell of it has changed.

    `clock` gives seconds that only go up; `chance` numbers from 0 to 1, which keep many gateways from asking together.
    """

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        told: Callable[["RemoteKeys"], None],
        chance: Callable[[], float],
        *,
        room: Room | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.problem: str | None = None
        """Why the last look failed."""
        self._fetch, self._told, self._chance, self._clock = fetch, told, chance, clock
        self._room = Room() if room is None else room
        self._pace = Pace() if pace is None else pace
        self._keys = _NONE
        self._last_told: tuple[str, tuple[str, ...], str | None] = (_NONE.generation, (), None)
        self._good_at = -math.inf
        self._begun = -math.inf
        self._followed_at = clock()
        self._failures = 0
        self._max_age: float | None = None
        self._look: asyncio.Task[None] | None = None
        self._waiting = 0
        self._closed = False
        self._asked = asyncio.Event()

    def key_set(self) -> KeySet:
        """The keys as they were at the last good look, unless that is too long ago."""
        return self._keys if self._clock() - self._good_at <= self._pace.keep else _NONE

    @property
    def age(self) -> float:
        """Seconds since the last good look, or since there is anybody who wants these keys."""
        return self._clock() - max(self._good_at, self._followed_at)

    @property
    def refused(self) -> tuple[str, ...]:
        """Why single keys of the last good set are not used."""
        return self._keys.refused

    async def seek(self, kid: str, deadline: float, known: VerifyingKey | None = None) -> bool:
        """Ask the server for a key other than the one `known`, until `deadline` (event loop time); whether it is there.

        One look at a time serves all who wait, and looks keep their distance.
        """
        now = asyncio.get_running_loop().time()
        until = min(deadline, now + self._pace.wait)
        if self._waiting >= WAITING or self._room.free <= 0 or until <= now + self._cooling():
            return self.key_set().has(kid, known)
        self._waiting += 1
        self._room.free -= 1
        try:
            async with asyncio.timeout_at(until):
                await self._seek(kid, known)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
            self._room.free += 1
        return self.key_set().has(kid, known)

    async def _seek(self, kid: str, known: VerifyingKey | None) -> None:
        came = self._clock()
        while not (self.key_set().has(kid, known) or self._closed):
            if self._look is None:
                if self._begun >= came and self.problem is None:
                    # Asked since, and well answered: there is no such key.
                    return
                cooling = self._cooling()
                if cooling > 0:
                    await asyncio.sleep(cooling)
                    continue
            await self.refresh()

    def _cooling(self) -> float:
        """Seconds until the server may be asked again on behalf of a request."""
        return 0.0 if self._look is not None else max(0.0, self._begun + self._pace.cool_down - self._clock())

    async def refresh(self) -> None:
        """Look at the server now, or wait for the look that is under way."""
        if self._look is None:
            self._begun = self._clock()
            self._look = asyncio.create_task(self._ask())
        # One waiter that gives up must not end the look of the others, nor the look's end theirs.
        await asyncio.wait({self._look})

    async def _ask(self) -> None:
        try:
            fetched = await self._fetch(self.url, self._pace.fetch)
            keys = read_key_set(fetched.body)
        except (FetchFailed, KeySetProblem) as failure:
            self._failures += 1
            self.problem = str(failure)
        except Exception as fault:  # noqa: BLE001 - whatever foreign bytes do to a library, the good keys stay in use
            self._failures += 1
            self.problem = f"the key set could not be read: {type(fault).__name__}"
        else:
            self._keys, self._good_at, self._max_age = keys, self._clock(), fetched.max_age
            self._failures, self.problem = 0, None
        finally:
            self._look = None
        news = (self.key_set().generation, self.refused, self.problem)
        if news != self._last_told:
            self._last_told = news
            self._told(self)

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            # Before the look: whoever asks while it is under way wants a later one.
            self._asked.clear()
            await self.refresh()
            try:
                await asyncio.wait_for(self._asked.wait(), self.pause())
            except TimeoutError:
                continue

    def refresh_now(self) -> None:
        """Let `run` look at once, as an operator may wish after a change."""
        self._asked.set()

    def pause(self) -> float:
        """Seconds until the next look of `run`."""
        pace = self._pace
        if self.problem is not None:
            pause = min(pace.longest_retry, pace.retry * 2.0 ** min(self._failures - 1, 30))
        elif self._max_age is None:
            pause = pace.refresh
        else:
            pause = min(pace.refresh, max(pace.shortest, self._max_age))
        return pause * (0.9 + 0.1 * self._chance())

    async def close(self) -> None:
        """End the look that is under way, and begin no other."""
        self._closed, look = True, self._look
        if look is not None:
            look.cancel()
            await asyncio.gather(look, return_exceptions=True)


class KeyUrls:
    """The key sets at all URLs that configuration names at this moment, each followed by a task of its own.

    `make` gives the keys of a URL. Needs a running event loop.
    """

    def __init__(self, make: Callable[[str], RemoteKeys]) -> None:
        self._make = make
        self._keys: dict[str, RemoteKeys] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def at(self, url: str) -> RemoteKeys:
        """The keys at a URL; followed from now on."""
        if url not in self._keys:
            self._keys[url] = self._make(url)
            self._tasks[url] = asyncio.create_task(self._keys[url].run())
        return self._keys[url]

    async def follow(self, urls: Collection[str]) -> None:
        """Follow these and no others."""
        for url in urls:
            self.at(url)
        await self._drop([url for url in self._keys if url not in urls])

    def refresh_now(self) -> None:
        """Look at every server at once."""
        for keys in self._keys.values():
            keys.refresh_now()

    @property
    def failing(self) -> tuple[str, ...]:
        """The URLs whose last look failed."""
        return tuple(url for url, keys in self._keys.items() if keys.problem is not None)

    @property
    def ages(self) -> tuple[float, ...]:
        """For each URL the seconds since its keys were last got."""
        return tuple(keys.age for keys in self._keys.values())

    async def close(self) -> None:
        """Follow none."""
        await self._drop(list(self._keys))

    async def _drop(self, urls: Collection[str]) -> None:
        dropped = [(self._keys.pop(url), self._tasks.pop(url)) for url in urls]
        for keys, task in dropped:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await keys.close()
