"""Readings that are taken when Prometheus asks, each with the way to join those of several processes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Gauge

Joined = Literal["livesum", "livemin", "livemax"]
"""How the readings of several living processes become one."""

Number = Callable[[], float]
Numbers = Callable[[], Mapping[str, float]]
"""A number for each value of a label, of which there is a bounded set."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What can be read of a gateway. Times are seconds since 1970; 0 where there is none."""

    open_writes: Number
    in_flight: Number
    waiting: Number
    audit_healthy: Number
    audit_owed: Number
    grants_degraded: Number
    grants_loaded: Number
    grants_refused_since: Number
    blocks: Number
    certificate_expiry: Number
    key_sets: Number
    key_sets_failing: Number
    key_set_age: Number
    """Seconds since the keys of the URL that has been silent longest were last got."""
    intents: Numbers
    oldest_intent: Numbers
    breakers: Numbers
    degraded: Numbers


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    text: str
    joined: Joined
    field: str
    label: str | None = None


_KINDS: Final = (
    _Kind("open_writes", "Writes whose outcome is not final", "livesum", "open_writes"),
    _Kind("in_flight", "Requests under way", "livesum", "in_flight"),
    _Kind("waiting", "Requests that wait to be let in", "livesum", "waiting"),
    _Kind("audit_healthy", "1 while the audit stream takes records", "livemin", "audit_healthy"),
    _Kind("audit_owed_outcomes", "Outcomes that wait to be recorded", "livesum", "audit_owed"),
    _Kind("grants_degraded", "1 while the grants file on disk is not in force", "livemax", "grants_degraded"),
    _Kind("grants_loaded_timestamp_seconds", "When the grants in force were loaded", "livemin", "grants_loaded"),
    _Kind(
        "grants_refused_since_timestamp_seconds",
        "Since when the grants file on disk has been refused; 0: it is not",
        "livemax",
        "grants_refused_since",
    ),
    _Kind("blocks", "Blocks in force", "livemax", "blocks"),
    _Kind(
        "certificate_expiry_timestamp_seconds",
        "When the certificate that partners see ends; 0 without TLS",
        "livemin",
        "certificate_expiry",
    ),
    _Kind("key_sets", "Key sets followed by URL", "livemax", "key_sets"),
    _Kind("key_sets_failing", "Key sets whose last look failed", "livemax", "key_sets_failing"),
    _Kind("key_set_age_seconds", "Time since the stalest key set was last got", "livemax", "key_set_age"),
    _Kind("open_intents", "Intents whose end is not known", "livesum", "intents", "state"),
    _Kind("oldest_intent_seconds", "Age of the oldest of them", "livemax", "oldest_intent", "state"),
    _Kind("breaker", "Whether PKB is asked: 0 closed, 1 trial, 2 open", "livemax", "breakers", "upstream"),
    _Kind("degraded", "1 while something asks for a look", "livemax", "degraded", "reason"),
)


class Readings:
    """The gauges, and how to set them."""

    def __init__(self, gauges: Gauges, registry: CollectorRegistry) -> None:
        self._gauges = gauges
        self._made = [(kind, _gauge(kind, registry)) for kind in _KINDS]

    def take(self) -> None:
        """Read them all."""
        for kind, gauge in self._made:
            read = getattr(self._gauges, kind.field)
            if kind.label is None:
                gauge.set(read())
                continue
            for value, number in read().items():
                gauge.labels(value).set(number)


def _gauge(kind: _Kind, registry: CollectorRegistry) -> Gauge:
    labels: Iterable[str] = () if kind.label is None else (kind.label,)
    return Gauge(f"pkb_gateway_{kind.name}", kind.text, labels, registry=registry, multiprocess_mode=kind.joined)
