"""What this process heard of PKB in the last quarter of an hour, route by route, for the charts of the console."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.flow.ports import Result

SPAN: Final = 10
"""Seconds that one slot covers."""
SLOTS: Final = 90
KEPT: Final = 200
"""Durations kept of one slot; of more, those that came last."""

_UNTOLD: Final = frozenset({Result.WITHHELD, Result.ABANDONED})
"""Results that say nothing of PKB."""
_GOOD: Final = frozenset({Result.OK, Result.ABSENT, Result.REFUSED})
"""PKB answered; what it answered is the partner's affair."""


@dataclass(slots=True)
class Slot:
    """Ten seconds of one route. `at` counts slots since the epoch."""

    at: int
    count: int = 0
    failures: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def quantile(self, share: float) -> float | None:
        """Give the duration that so large a share of the exchanges did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@dataclass(slots=True)
class Heard:
    """One route: its slots, and when an exchange last went well or did not."""

    slots: deque[Slot] = field(default_factory=lambda: deque(maxlen=SLOTS))
    good: datetime | None = None
    bad: datetime | None = None
    why: str = ""
    """The result of the last that did not."""


@dataclass(slots=True)
class Ring:
    """Hears every exchange with PKB; see `gateway.flow.ports.UpstreamObserver`."""

    clock: Callable[[], datetime]
    routes: dict[str, Heard] = field(default_factory=dict)

    def __call__(self, route: str, message: str, result: str, seconds: float) -> None:
        """Take note of one exchange."""
        del message
        if result in _UNTOLD:
            return
        now = self.clock()
        heard = self.routes.get(route)
        if heard is None:
            heard = self.routes[route] = Heard()
        slots, place = heard.slots, _place(now)
        if not slots or slots[-1].at != place:
            slots.append(Slot(place))
        slot = slots[-1]
        slot.count += 1
        slot.seconds.append(seconds)
        if result in _GOOD:
            heard.good = now
        else:
            slot.failures += 1
            heard.bad, heard.why = now, result

    def slots(self, route: str) -> Sequence[Slot]:
        """Give the last quarter of an hour, one slot for every ten seconds, the present one last."""
        last = _place(self.clock())
        heard = self.routes.get(route)
        known = {slot.at: slot for slot in heard.slots} if heard else {}
        return [known.get(at) or Slot(at) for at in range(last - SLOTS + 1, last + 1)]


def _place(at: datetime) -> int:
    return int(at.timestamp()) // SPAN
