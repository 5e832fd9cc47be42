"""What protects PKB from us and customers from each other: a circuit breaker and a bulkhead."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

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


@dataclass(slots=True, eq=False)
class Attempt:
    """One request as the breaker sees it. `failed` stays None where it proves nothing either way."""

    breaker: "Breaker"
    failed: bool | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the breaker what came of it."""
        self.breaker.settle(self)


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

    def attempt(self) -> Attempt:
        """Count what happens inside as one request, however many tries it makes. Raises BreakerOpen."""
        attempt = Attempt(self)
        if self._opened_at is not None:
            if self._trial is not None or self.clock() < self._opened_at + self.pause:
                raise BreakerOpen
            self._trial = attempt
        return attempt

    def settle(self, attempt: Attempt) -> None:
        """Count a request that has ended."""
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

    def place(self, customer: str) -> "Place":
        """Take a place for the time inside. Raises Overloaded."""
        return Place(self, customer)

    async def enter(self, customer: str) -> None:
        """Take a place, waiting for one where none is free. Raises Overloaded."""
        places = self._customers.get(customer)
        if places is None:
            places = self._customers[customer] = _Places(asyncio.Semaphore(self.limit))
        try:
            await self._take(places)
        finally:
            self._tidy(customer, places)

    def leave(self, customer: str) -> None:
        """Give a place back."""
        places = self._customers[customer]
        places.inside -= 1
        places.free.release()
        self._tidy(customer, places)

    async def _take(self, places: _Places) -> None:
        if places.free.locked():
            await self._wait(places)
        else:
            await places.free.acquire()
        places.inside += 1

    async def _wait(self, places: _Places) -> None:
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

    def _tidy(self, customer: str, places: _Places) -> None:
        if not places.inside and not places.waiting:
            self._customers.pop(customer, None)


@dataclass(frozen=True, slots=True)
class Place:
    """A customer's place in the bulkhead."""

    bulkhead: Bulkhead
    customer: str

    async def __aenter__(self) -> None:
        """Take it. Raises Overloaded."""
        await self.bulkhead.enter(self.customer)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        self.bulkhead.leave(self.customer)
