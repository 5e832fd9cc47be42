"""How many refusals of strangers are written down one by one, before they are only counted."""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

from gateway.domain.grant import Rate

_CLIENTS: Final = 10_000
"""Buckets kept: who comes back after so many others finds a full one; the process has its own all the same."""
_GROUPS: Final = 500
"""Groups counted apart; a flood from everywhere must not grow the record without end."""


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: float
    at: float

    def has_one(self, now: float) -> bool:
        refill = max(0.0, now - self.at) * self.rate.requests / self.rate.seconds
        self.level, self.at = min(float(self.rate.requests), self.level + refill), now
        return self.level >= 1.0


@dataclass(slots=True)
class Budget:
    """Token buckets for the process and for each client address. Times are monotonic seconds."""

    process: Rate
    client: Rate
    _whole: _Bucket | None = None
    _clients: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)
    _suppressed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def admits(self, address: str, now: float) -> bool:
        """Take one record out of the budget, if both buckets have one."""
        whole = self._whole = self._whole or _Bucket(self.process, float(self.process.requests), now)
        own = self._clients.setdefault(address, _Bucket(self.client, float(self.client.requests), now))
        self._clients.move_to_end(address)
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        # Both are asked, so that both are refilled; one is taken from both or from none.
        admitted = all([whole.has_one(now), own.has_one(now)])
        if admitted:
            whole.level -= 1.0
            own.level -= 1.0
        return admitted

    def suppress(self, code: str, address: str) -> None:
        """Count a refusal that is not written down."""
        self._add(code, prefix(address), 1)

    def restore(self, counts: Sequence[Mapping[str, Any]]) -> None:
        """Take back counts that could not be written down."""
        for each in counts:
            self._add(each["code"], each["client"], each["count"])

    def take(self) -> list[dict[str, object]]:
        """Give the counts since the last time, largest first, and start anew."""
        counts = [
            {"code": code, "client": client, "count": count} for (code, client), count in self._suppressed.most_common()
        ]
        self._suppressed.clear()
        return list(counts)

    def _add(self, code: str, client: str, count: int) -> None:
        group = (code, client)
        if group not in self._suppressed and len(self._suppressed) >= _GROUPS:
            group = (code, "elsewhere")
        self._suppressed[group] += count


@lru_cache(maxsize=1024)
def prefix(address: str) -> str:
    """Name the network of a client address: /24 for IPv4, /64 for IPv6, `unknown` for anything else."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(ip_network((found, 64), strict=False))
        found = found.ipv4_mapped
    return str(ip_network((found, 24), strict=False))
