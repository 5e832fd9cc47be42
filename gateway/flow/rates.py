"""Token buckets: capacity N, refilled evenly, full at start."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.grant import Rate
from gateway.flow.request import Quota

_WHOLE: Final = 1.0 - 1e-9
"""What counts as room for one: fractions of a refill do not add up exactly."""


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: float
    at: float


@dataclass(slots=True)
class Rates:
    """The buckets of one process. `clock` is monotonic, in seconds."""

    clock: Callable[[], float]
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def take(self, key: str, name: str, rate: Rate) -> tuple[bool, Quota]:
        """Take one request out of a bucket, if there is one, and say what is left.

        A rate that was changed in the grants file starts with a full bucket.
        """
        now = self.clock()
        bucket = self._buckets.get(key)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key] = _Bucket(rate, float(rate.requests), now)
        refill = rate.requests / rate.seconds
        bucket.level = min(float(rate.requests), bucket.level + max(0.0, now - bucket.at) * refill)
        bucket.at = now
        granted = bucket.level >= _WHOLE
        if granted:
            bucket.level = max(0.0, bucket.level - 1.0)
        missing = rate.requests - bucket.level if granted else 1.0 - bucket.level
        return granted, Quota(name, rate.requests, rate.seconds, int(bucket.level), math.ceil(missing / refill))
