"""Counting on the way of a request: a few additions then, and Prometheus' own metrics only once somebody asks for them.

What processes share is counted by Prometheus at once: what a process counted outlives it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from prometheus_client import Counter, Histogram


class Counts(Protocol):
    """Counts one more."""

    def inc(self) -> None:
        """Count."""
        ...


class Spreads(Protocol):
    """Takes values to see how they spread."""

    def observe(self, amount: float) -> None:
        """Take one."""
        ...


class Tally:
    """What a counter is to be told. Belongs to the event loop, as does a spread."""

    __slots__ = ("_counter", "_new")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._new = 0

    def inc(self) -> None:
        """Count one more."""
        self._new += 1

    def settle(self) -> None:
        """Tell it."""
        new, self._new = self._new, 0
        self._counter.inc(new)


class Spread:
    """What a histogram with these upper bounds is to be told."""

    __slots__ = ("_bounds", "_histogram", "_new", "_sum")

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._new = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Take a value."""
        self._new[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def settle(self) -> None:
        """Tell it."""
        new, self._new = self._new, [0] * len(self._new)
        total, self._sum = self._sum, 0.0
        histogram = self._histogram
        for kept, more in zip(histogram._buckets, new, strict=True):  # noqa: SLF001 - it takes values one by one only
            kept.inc(more)
        histogram._sum.inc(total)  # noqa: SLF001 - as above


Parent = TypeVar("Parent", Counter, Histogram)
Child = TypeVar("Child")
Label = str | int


class Series(Generic[Parent, Child]):
    """The series of one metric, found once for each set of labels: looking them up costs more than counting."""

    def __init__(self, parent: Parent, child: Callable[[Parent], Child]) -> None:
        self._parent: Parent = parent
        self._child: Callable[[Parent], Child] = child
        self._made: dict[tuple[Label, ...], Child] = {}

    def of(self, *labels: Label) -> Child:
        """Give the series with these labels."""
        made = self._made.get(labels)
        if made is None:
            made = self._made[labels] = self._child(self._parent.labels(*labels) if labels else self._parent)
        return made
