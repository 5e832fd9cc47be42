"""What protects PKB from us and customers from each other: a circuit breaker and a bulkhead."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

FAILURES: Final = 20
PAUSE_SECONDS: Final = 2.0


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
class Bulkhead:
    """At most `limit` requests under way for one customer; nobody waits."""

    limit: int
    _under_way: Counter[str] = field(default_factory=Counter)

    @property
    def under_way(self) -> dict[str, int]:
        """Requests per customer, for metrics."""
        return dict(self._under_way)

    @contextmanager
    def place(self, customer: str) -> Iterator[None]:
        """Take a place for the time inside. Raises Overloaded."""
        if self._under_way[customer] >= self.limit:
            raise Overloaded
        self._under_way[customer] += 1
        try:
            yield
        finally:
            self._under_way[customer] -= 1
            if not self._under_way[customer]:
                del self._under_way[customer]
