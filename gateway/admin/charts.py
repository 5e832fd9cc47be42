"""Small charts as numbers for inline SVG: how many exchanges with PKB, how many failed, how long they took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.admin.ring import Slot

WIDTH: Final = 360
HEIGHT: Final = 80
"""Of the drawing, in its own units."""
LEAST_SECONDS: Final = 0.01
"""The scale of a chart of times ends nowhere below this."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One slot that had exchanges: where it stands, how high it is, and how much of that failed."""

    x: float
    width: float
    y: float
    height: float
    failed_y: float
    failed_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What one route needs to be drawn and told."""

    bars: tuple[Bar, ...]
    most: int
    """Exchanges in the busiest slot."""
    median: tuple[str, ...]
    slow: tuple[str, ...]
    """Points of lines, one for each stretch without a gap."""
    longest: float
    """Milliseconds at the top of the second chart."""
    count: int
    failures: int
    told_median: str
    told_slow: str
    """Over the whole time: p50 and p95, with their unit."""


def chart(slots: Sequence[Slot]) -> Chart:
    """Draw the slots of a route."""
    most = max((slot.count for slot in slots), default=0)
    whole = sorted(second for slot in slots for second in slot.seconds)
    longest = max([LEAST_SECONDS, *(slot.quantile(0.95) or 0.0 for slot in slots)])
    step = WIDTH / max(1, len(slots))
    return Chart(
        tuple(_bar(place, slot, most, step) for place, slot in enumerate(slots) if slot.count),
        most,
        _lines(slots, lambda slot: slot.quantile(0.5), longest, step),
        _lines(slots, lambda slot: slot.quantile(0.95), longest, step),
        longest * 1000,
        sum(slot.count for slot in slots),
        sum(slot.failures for slot in slots),
        _milliseconds(_at(whole, 0.5)),
        _milliseconds(_at(whole, 0.95)),
    )


def _bar(place: int, slot: Slot, most: int, step: float) -> Bar:
    height = HEIGHT * slot.count / most
    failed = HEIGHT * slot.failures / most
    x = round(place * step, 1)
    return Bar(
        x,
        round(step - 0.6, 1),
        round(HEIGHT - height, 1),
        round(height, 1),
        round(HEIGHT - failed, 1),
        round(failed, 1),
    )


def _lines(
    slots: Sequence[Slot], value: Callable[[Slot], float | None], longest: float, step: float
) -> tuple[str, ...]:
    lines: list[list[str]] = [[]]
    for place, slot in enumerate(slots):
        seconds = value(slot)
        if seconds is None:
            lines.append([])
            continue
        x, y = (place + 0.5) * step, HEIGHT - HEIGHT * min(seconds, longest) / longest
        lines[-1].append(f"{x:.1f},{y:.1f}")
    # A single point is drawn as a short line, or nobody would see it.
    return tuple(" ".join(line if len(line) > 1 else [line[0], _beside(line[0])]) for line in lines if line)


def _beside(point: str) -> str:
    x, _, y = point.partition(",")
    return f"{float(x) + 2:.1f},{y}"


def _at(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
