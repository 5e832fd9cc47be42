"""What protects PKB from us and customers from each other: a circuit breaker and a bulkhead."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

FAILURES: Final = 20
PAUSE_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 1.0
WAITERS: Final = 2
"""How many times the places of a customer may wait for one."""


class BreakerOpen(Exception):
    """Too many requests failed in a row; this one was not tried."""


class BreakerState(StrEnum):
    """For metrics and the console."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


@dataclass(slots=True)
class Attempt:
    """One request as the breaker sees it. `failed` stays None where it proves nothing either way."""

    failed: bool | None = None


@dataclass(slots=True)
class Breaker:
    """Opens after `failures` failed requests in a row, and `pause` seconds later lets a single one try."""

    clock: Callable[[], float]
    failures: int = FAILURES
    pause: float = PAUSE_SECONDS
    _row: int = 0
    _opened_at: float | None = None
    _trial: Attempt | None = None

    @property
    def state(self) -> BreakerState:
        """Whether requests are let through now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._trial is None else BreakerState.TRIAL

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Count what happens inside as one request, however many tries it makes. Raises BreakerOpen."""
        attempt = Attempt()
        if self._opened_at is not None:
            if self._trial is not None or self.clock() < self._opened_at + self.pause:
                raise BreakerOpen
            self._trial = attempt
        try:
            yield attempt
        finally:
            self._settle(attempt)

    def _settle(self, attempt: Attempt) -> None:
        if self._opened_at is not None and self._trial is not attempt:
            # It began before the breaker opened; only the trial tells whether PKB is back.
            return
        self._trial = None
        if attempt.failed is False:
            self._row, self._opened_at = 0, None
        elif attempt.failed:
            self._row += 1
            if self._row >= self.failures:
                self._opened_at = self.clock()


class Overloaded(Exception):
    """This customer has as many requests under way as it may."""


@dataclass(slots=True)
class _Places:
    free: asyncio.Semaphore
    inside: int = 0
    waiting: int = 0


@dataclass(slots=True)
class Bulkhead:
    """At most `limit` requests under way for one customer; twice as many may wait, each for `patience` seconds.

    The wait takes up a burst. Its bounds keep a customer whose PKB hangs from filling the gateway with waiters.
    """

    limit: int
    patience: float = PATIENCE_SECONDS
    _customers: dict[str, _Places] = field(default_factory=dict)

    @property
    def under_way(self) -> dict[str, int]:
        """Requests per customer, for metrics."""
        return {customer: places.inside for customer, places in self._customers.items() if places.inside}

    @asynccontextmanager
    async def place(self, customer: str) -> AsyncIterator[None]:
        """Take a place for the time inside. Raises Overloaded."""
        places = self._customers.setdefault(customer, _Places(asyncio.Semaphore(self.limit)))
        try:
            await self._enter(places)
            try:
                yield
            finally:
                places.inside -= 1
                places.free.release()
        finally:
            if not places.inside and not places.waiting:
                self._customers.pop(customer, None)

    async def _enter(self, places: _Places) -> None:
        if places.waiting >= WAITERS * self.limit:
            raise Overloaded
        places.waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                await places.free.acquire()
        except TimeoutError:
            raise Overloaded from None
        finally:
            places.waiting -= 1
        places.inside += 1
