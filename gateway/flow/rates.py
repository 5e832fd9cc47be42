"""Token buckets: capacity N, refilled evenly, full at start; those of one process, and those that nodes share."""

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.domain.grant import Rate
from gateway.flow.ports import StateUnavailable
from gateway.flow.request import Quota

WHOLE: Final = 1.0 - 1e-9
"""What counts as room for one: fractions of a refill do not add up exactly."""
KEPT: Final = 100_000
"""Buckets that one process keeps; past that the one that was used longest ago is full again."""
PATIENCE: Final = 0.25
"""Seconds that the shared buckets have to answer in."""
REST: Final = 1.0
"""Seconds for which they are not asked again once they did not."""


class RateLimits(Protocol):
    """Whoever counts requests."""

    async def take(self, key: str, name: str, rate: Rate) -> tuple[bool, Quota]:
        """Take one request out of the bucket `key`, if there is one, and say under `name` what is left.

        A rate that was changed in the grants file starts with a full bucket. Never raises.
        """
        ...


class SharedBuckets(Protocol):
    """Buckets that several nodes take from."""

    async def take(self, key: str, requests: int, seconds: int) -> tuple[bool, float]:
        """Take one request, if there is one, and give the level after it. Raises StateUnavailable."""
        ...


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: float
    at: float


@dataclass(slots=True)
class Rates:
    """The buckets of one process. `clock` is monotonic, in seconds."""

    clock: Callable[[], float]
    kept: int = KEPT
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    async def take(self, key: str, name: str, rate: Rate) -> tuple[bool, Quota]:
        """See RateLimits."""
        now = self.clock()
        bucket = self._bucket(key, rate, now)
        bucket.level = min(
            float(rate.requests), bucket.level + max(0.0, now - bucket.at) * rate.requests / rate.seconds
        )
        bucket.at = now
        granted = bucket.level >= WHOLE
        if granted:
            bucket.level = max(0.0, bucket.level - 1.0)
        return granted, quota(name, rate, bucket.level, granted=granted)

    def _bucket(self, key: str, rate: Rate, now: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key] = _Bucket(rate, float(rate.requests), now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self.kept:
            self._buckets.popitem(last=False)
        return bucket


@dataclass(slots=True)
class SharedRates:
    """The buckets of all nodes; while they do not answer, each node counts for itself.

    Rates keep partners from crowding each other out. They protect no record, so they never stop a request by failing.
    """

    shared: SharedBuckets
    own: Rates
    patience: float = PATIENCE
    _rests_until: float = -math.inf
    _under_way: set[asyncio.Future[tuple[bool, float]]] = field(default_factory=set)

    async def take(self, key: str, name: str, rate: Rate) -> tuple[bool, Quota]:
        """See RateLimits."""
        taken = await self._ask(key, rate) if self.own.clock() >= self._rests_until else None
        if taken is None:
            return await self.own.take(key, name, rate)
        granted, level = taken
        return granted, quota(name, rate, level, granted=granted)

    async def _ask(self, key: str, rate: Rate) -> tuple[bool, float] | None:
        # Not cancelled when it takes too long: a statement that a database has begun would be waited for to its end.
        asked = asyncio.ensure_future(self.shared.take(key, rate.requests, rate.seconds))
        self._under_way.add(asked)
        asked.add_done_callback(self._over)
        await asyncio.wait({asked}, timeout=self.patience)
        if asked.done():
            with contextlib.suppress(StateUnavailable):
                return asked.result()
        self._rests_until = self.own.clock() + REST
        return None

    def _over(self, asked: asyncio.Future[tuple[bool, float]]) -> None:
        self._under_way.discard(asked)
        if not asked.cancelled():
            # A fault that comes too late has nobody who waits for it.
            asked.exception()


def quota(name: str, rate: Rate, level: float, *, granted: bool) -> Quota:
    """Tell of a bucket after a request: `reset` is when it is full again or, refused, when it has room for one."""
    missing = rate.requests - level if granted else 1.0 - level
    reset = math.ceil(missing * rate.seconds / rate.requests)
    return Quota(name, rate.requests, rate.seconds, int(level), reset)
