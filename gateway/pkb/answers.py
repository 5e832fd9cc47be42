"""What PKB's answers mean: the one table for reads and tokens, and the one for writes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Never

from gateway.domain.codes import Code
from gateway.flow.ports import Doubt, NotSent, Turned, UpstreamFault
from gateway.pkb.http import HttpFault, NotConnected, Unreadable

ABSENT: Final = frozenset({404, 410})
_STALE: Final = frozenset({409, 412})
# A 4xx that says "not now" rather than "no".
_PASSING: Final = frozenset({408, 429})

RETRIES: Final = 2
SHORTEST_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait before another try: 50 to 100 ms, then twice that; jitter keeps processes out of step."""

    random: Callable[[], float]

    def before(self, retry: int) -> float:
        """Give the pause in seconds before retry 0, 1, …"""
        return float(SHORTEST_PAUSE * 2**retry * (0.5 + self.random() / 2))


def fault_of_status(status: int) -> UpstreamFault:
    """Tell the status of a read that is neither 200 nor absence."""
    if status in {401, 403}:
        return UpstreamFault(Code.UPSTREAM_REFUSED, "credentials refused", status)
    if status in _PASSING or 500 <= status <= 599:
        return UpstreamFault(Code.UPSTREAM_UNAVAILABLE, "answered with an error", status)
    return UpstreamFault(Code.UPSTREAM_INVALID, "answered with an unexpected status", status)


def fault_of_token_status(status: int) -> UpstreamFault:
    """Tell the status of a token request that is not 200: any refusal means that our credentials are not taken."""
    if 400 <= status <= 499 and status not in _PASSING:
        return UpstreamFault(Code.UPSTREAM_REFUSED, "token refused", status)
    return fault_of_status(status)


def fault_of(fault: HttpFault) -> UpstreamFault:
    """Tell a read without a whole answer."""
    if fault.late:
        return UpstreamFault(Code.UPSTREAM_TIMEOUT, fault.reason, fault.status)
    if isinstance(fault, Unreadable):
        return UpstreamFault(Code.UPSTREAM_INVALID, fault.reason, fault.status)
    return UpstreamFault(Code.UPSTREAM_UNAVAILABLE, fault.reason, fault.status)


def write_of_status(status: int) -> Turned | Doubt:
    """Tell the status of a write other than a readable 200. Only a clear no is a no."""
    if status in _STALE:
        return Turned(Code.VERSION_CONFLICT, status)
    if status in ABSENT:
        return Turned(Code.NOT_FOUND, status)
    if 400 <= status <= 499 and status != 408:
        return Turned(Code.UPSTREAM_REFUSED, status)
    return Doubt(f"answered {status}", status)


def write_of(fault: HttpFault) -> NotSent | Doubt:
    """Tell a write without a whole answer: only without a connection is it certain that nothing left."""
    return NotSent(fault.reason) if isinstance(fault, NotConnected) else Doubt(fault.reason, fault.status)


def invalid(reason: str) -> Never:
    """Give up on a resource that cannot be understood. Raises UpstreamFault."""
    raise UpstreamFault(Code.UPSTREAM_INVALID, reason, 200)
