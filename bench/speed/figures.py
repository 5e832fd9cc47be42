"""Medians, spread and percentiles. Percentiles are exact: nothing is thrown into buckets."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed. Raises ValueError where there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(len(ordered) * share - 1e-9) - 1)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured in several rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Raises ValueError where there is none."""
        if not values:
            raise ValueError("no values")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, digits: int = 0) -> str:
        """Median and spread for people."""
        if self.rounds == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}–{self.most:,.{digits}f})"
