"""Hot reload: the grants in force follow the grants file within a second; a bad file leaves the last good ones."""

import asyncio
import hashlib
import logging
import math
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway.configuration.grants import Grants
from gateway.configuration.letting_go import LettingGo
from gateway.configuration.problems import ConfigurationRefused, Problem

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at the file. Looking, unlike file notices, also works on network file systems."""

SETTLE: Final = 0.1
"""Seconds a new content must have stood before it counts: half of a file written in place may well be good TOML.

Reading and checking happen meanwhile, so that a file takes look + the longer of settling and checking: well under 1 s.
"""

RESTLESS: Final = 10
"""Times in a row a file may change while it is read, before that is reported."""

TRY_AGAIN: Final = 5.0
"""Seconds after which a refused file is read again: what it lacked, such as a key file, may have come."""

T = TypeVar("T")
Identity = tuple[str, int, int, int, int, int]
Loaded = Callable[[Grants, str], Awaitable[None]]
Refused = Callable[[tuple[Problem, ...]], Awaitable[None]]
KeysChanged = Callable[[Grants], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GrantsState:
    """What the admin side shows of the grants file."""

    digest: str
    loaded_at: datetime
    refused: tuple[Problem, ...] = ()
    """Why the file as it is now is not in force."""
    refused_at: datetime | None = None
    refused_since: datetime | None = None
    """Since when no file could be taken, however often it has changed meanwhile."""
    failing: tuple[Problem, ...] = ()
    """The customers' own tests that the grants in force fail."""

    @property
    def degraded(self) -> bool:
        """Whether older grants are in force than the file's, or such as a customer did not expect."""
        return bool(self.refused or self.failing)


def identity(path: Path) -> Identity | None:
    """Tell one content of a file from the next without reading it; None when there is no file.

    A change of the content always changes the time of the i-node (`st_ctime`), which, unlike the time of the content,
    nobody can set. The resolved path is there for Kubernetes, which swaps a symbolic link to a folder.
    """
    try:
        found = path.stat()
        return (os.path.realpath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except (OSError, ValueError):
        return None


class GrantsWatcher:
    """Keeps `current` in step with the file. `load` raises ConfigurationRefused; the callbacks must not raise.

    `abandon` ends a `load` that is under way when the watching ends.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Grants],
        first: Grants,
        *,
        now: Callable[[], datetime],
        on_loaded: Loaded,
        on_refused: Refused,
        on_keys: KeysChanged,
        look_every: float = LOOK_EVERY,
        settle: float = SETTLE,
        abandon: Callable[[], None] | None = None,
    ) -> None:
        self.current = first
        self.state = GrantsState(first.digest, now(), failing=first.failing)
        self._path = path
        self._load = load
        self._now = now
        self._on_loaded, self._on_refused, self._on_keys = on_loaded, on_refused, on_keys
        self._look_every, self._settle = look_every, settle
        self._abandon = abandon
        self._replaced = LettingGo()
        self._asked = asyncio.Event()
        self._looked_at = -math.inf
        self._reading = False
        self._seen: tuple[Identity | None, ...] = ()

    def reload_now(self) -> None:
        """Read the file again whether it looks changed or not, and report it again if it is bad (SIGHUP)."""
        self._asked.set()

    @property
    def looked_at(self) -> float:
        """When the file was looked at last: a time of the running event loop. Now, while a new one is being read."""
        return asyncio.get_running_loop().time() if self._reading else self._looked_at

    async def run(self) -> None:
        """Watch until cancelled."""
        # A thread of its own: a pool that is busy with disk writes must not hold up a revocation.
        with ThreadPoolExecutor(1, "grants") as thread:
            try:
                await self._watch(thread)
            finally:
                # Else the end would wait for a reading that nobody waits for.
                if self._abandon is not None:
                    self._abandon()

    async def _watch(self, thread: ThreadPoolExecutor) -> None:
        tried = -TRY_AGAIN
        while True:
            await self._wait()
            asked = self._asked.is_set()
            self._asked.clear()
            clock = asyncio.get_running_loop().time
            self._replaced.some(clock())
            again = bool(self.state.refused) and clock() >= tried + TRY_AGAIN
            looked_at = clock()
            seen = await self._in(thread, self._identities)
            self._looked_at = looked_at
            if not (asked or again) and seen == self._seen:
                continue
            self._reading = True
            result = await self._read(thread, asked=asked)
            self._reading = False
            tried = clock()
            await self._take(result, asked=asked)

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._asked.wait(), self._look_every)
        except TimeoutError:
            return

    async def _read(self, thread: ThreadPoolExecutor, *, asked: bool) -> Grants | tuple[Problem, ...]:
        """Load until the file stands still."""
        loop = asyncio.get_running_loop()
        for _ in range(RESTLESS):
            self._seen = await self._in(thread, self._identities)
            before = await self._in(thread, self._digests)
            if before == self._in_force() and not asked:
                return self.current
            settled = loop.time() + self._settle
            result = await self._in(thread, self._attempt)
            await asyncio.sleep(max(0.0, settled - loop.time()))
            if await self._in(thread, self._digests) != before:
                continue
            if isinstance(result, tuple) or result.digest == before[0]:
                return result
        return (Problem(self._path, 1, "(file)", "keeps changing while it is read"),)

    async def _take(self, result: Grants | tuple[Problem, ...], *, asked: bool) -> None:
        """Swap first, report then: a revocation does not wait for its own record."""
        if isinstance(result, tuple):
            repeated = result == self.state.refused
            at, failing = self.state.loaded_at, self.state.failing
            now = self._now()
            since = self.state.refused_since or now
            self.state = GrantsState(self.state.digest, at, result, now, since, failing)
            if asked or not repeated:
                await self._tell(self._on_refused(result))
            return
        previous, self.current = self.current, result
        if previous is not result:
            self._replaced.add(previous, asyncio.get_running_loop().time())
        # The key files of the new grants are looked at from now on; their content has just been read.
        self._seen = (self._seen[0], *(identity(path) for path in sorted(result.keys)))
        if (result.digest, result.failing) != (previous.digest, previous.failing):
            self.state = GrantsState(result.digest, self._now(), failing=result.failing)
            await self._tell(self._on_loaded(result, previous.digest))
            return
        self.state = GrantsState(self.state.digest, self.state.loaded_at, failing=result.failing)
        if result.key_digests != previous.key_digests:
            await self._tell(self._on_keys(result))

    async def _tell(self, call: Awaitable[None]) -> None:
        try:
            await call
        except Exception:  # noqa: BLE001 - watching must outlive a listener that fails, or revocations would stop
            _log.exception("a listener to the grants file failed")

    def _identities(self) -> tuple[Identity | None, ...]:
        return (identity(self._path), *(identity(path) for path in sorted(self.current.keys)))

    def _digests(self) -> tuple[str | None, ...]:
        """What the file and the key files in force hold at this moment."""
        return tuple(_digest(path) for path in (self._path, *sorted(self.current.keys)))

    def _in_force(self) -> tuple[str | None, ...]:
        return (self.current.digest, *(digest for _, digest in sorted(self.current.key_digests.items())))

    def _attempt(self) -> Grants | tuple[Problem, ...]:
        try:
            return self._load()
        except ConfigurationRefused as refused:
            return refused.problems
        except Exception as error:  # noqa: BLE001 - a fault in one file must not stop the watch over the next
            _log.exception("the grants file could not be read")
            return (Problem(self._path, 1, "(file)", f"could not be read: {type(error).__name__}"),)

    async def _in(self, thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
