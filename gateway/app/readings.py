"""What can be read of a running gateway, for metrics."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from gateway.admin.gauges import Gauges
from gateway.app.writing import WriteSide
from gateway.domain.outcome import TaskStatus
from gateway.pkb.breaker import BreakerState

if TYPE_CHECKING:
    from gateway.app.assembly import Gateway

REASONS: Final = ("grants", "signing-key", "keys", "certificate")
"""What may be degraded; each is told as 0 while it is not."""

_BREAKER: Final = {BreakerState.CLOSED: 0.0, BreakerState.TRIAL: 1.0, BreakerState.OPEN: 2.0}
_OPEN: Final = (TaskStatus.REQUESTED, TaskStatus.IN_PROGRESS, TaskStatus.ACCEPTED)


def gauges(gateway: "Gateway") -> Gauges:
    """Tell what each gauge reads."""
    side, urls = gateway.write_side, gateway.keys.urls
    return Gauges(
        open_writes=side.open_writes.__len__,
        in_flight=lambda: gateway.api.in_flight,
        waiting=lambda: len(gateway.api.turnstile),
        audit_healthy=lambda: gateway.journal.healthy,
        audit_owed=lambda: side.open_writes.owed,
        grants_degraded=lambda: gateway.watcher.state.degraded,
        grants_loaded=lambda: _timestamp(gateway.watcher.state.loaded_at),
        grants_refused_since=lambda: _timestamp(gateway.watcher.state.refused_since),
        blocks=lambda: len(gateway.blocks.current),
        certificate_expiry=lambda: _timestamp(gateway.certificate.ends if gateway.certificate else None),
        key_sets=lambda: len(urls.ages),
        key_sets_failing=lambda: len(urls.failing),
        key_set_age=lambda: max(urls.ages, default=0.0),
        intents=lambda: _by_state(Counter(state for state, _ in _open(side))),
        oldest_intent=lambda: _by_state(_oldest(side)),
        breakers=lambda: {name: _BREAKER[state] for name, state in gateway.upstreams.states.items()},
        degraded=lambda: dict.fromkeys(REASONS, 0.0) | dict.fromkeys(gateway.degraded, 1.0),
    )


def _timestamp(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _open(side: WriteSide) -> Iterator[tuple[TaskStatus, float]]:
    now = side.open_writes.ticks()
    for since in side.writes.sending.values():
        yield TaskStatus.REQUESTED, now - since
    yield from side.open_writes.ages()


def _oldest(side: WriteSide) -> Mapping[TaskStatus, float]:
    found: dict[TaskStatus, float] = {}
    for state, age in _open(side):
        found[state] = max(age, found.get(state, 0.0))
    return found


def _by_state(found: Mapping[TaskStatus, float]) -> Mapping[str, float]:
    return {state.value: found.get(state, 0.0) for state in _OPEN}
