"""Counting on the way of a request: a few additions then, and Prometheus' own metrics only later: once somebody
asks for them, and where processes share them a moment after it was counted, so that it outlives the process.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram


class Unsettled:
    """What was counted since Prometheus was last told. Belongs to the event loop, as does all that is counted here.

    Told when somebody asks; with `within` also unasked, that many seconds after the first that was counted.
    """

    __slots__ = ("_due", "_timer", "_within")

    def __init__(self, within: float | None = None) -> None:
        self._within = within
        self._due: list[Tally | Spread] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, counted: "Tally | Spread") -> None:
        """Take note of one that has something to tell."""
        self._due.append(counted)
        if self._within is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._within, self.settle)

    def settle(self) -> None:
        """Tell all of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due, self._due = self._due, []
        for each in due:
            each.settle()


class Tally:
    """What a counter is to be told."""

    __slots__ = ("_counter", "_new", "_unsettled")

    def __init__(self, counter: Counter, unsettled: Unsettled) -> None:
        self._counter = counter
        self._unsettled = unsettled
        self._new = 0

    def inc(self) -> None:
        """Count one more."""
        if not self._new:
            self._unsettled.add(self)
        self._new += 1

    def settle(self) -> None:
        """Tell it."""
        new, self._new = self._new, 0
        self._counter.inc(new)


class Spread:
    """What a histogram with these upper bounds is to be told."""

    __slots__ = ("_bounds", "_histogram", "_is_due", "_new", "_sum", "_unsettled")

    def __init__(self, histogram: Histogram, bounds: Sequence[float], unsettled: Unsettled) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._unsettled = unsettled
        self._is_due = False
        self._new = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Take a value."""
        if not self._is_due:
            self._is_due = True
            self._unsettled.add(self)
        self._new[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def settle(self) -> None:
        """Tell it."""
        new, self._new = self._new, [0] * len(self._new)
        total, self._sum = self._sum, 0.0
        self._is_due = False
        histogram = self._histogram
        for kept, more in zip(histogram._buckets, new, strict=True):  # noqa: SLF001 - it takes values one by one only
            if more:
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
