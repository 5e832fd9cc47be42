"""What Prometheus may ask. Every label has a bounded set of values: no id ever becomes one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """Readings taken when Prometheus asks."""

    open_writes: Callable[[], float]
    in_flight: Callable[[], float]
    audit_healthy: Callable[[], float]
    grants_degraded: Callable[[], float]
    grants_loaded: Callable[[], float]


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "pkb_gateway_requests", "Requests answered", ["route", "status", "code"], registry=self._registry
        )
        self._seconds = Histogram(
            "pkb_gateway_request_seconds",
            "Time from the headers of a request to its answer",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._alarms = Counter("pkb_gateway_alarms", "Surprises at PKB", ["event"], registry=self._registry)
        self._reloads = Counter(
            "pkb_gateway_grants_reloads", "Readings of a changed grants file", ["result"], registry=self._registry
        )

    def read(self, gauges: Gauges) -> None:
        """Offer readings, once there is something to read."""
        readings = {
            "open_writes": ("Writes whose outcome is not final", gauges.open_writes),
            "in_flight": ("Requests under way", gauges.in_flight),
            "audit_healthy": ("1 while the audit stream takes records", gauges.audit_healthy),
            "grants_degraded": ("1 while the grants file on disk is not in force", gauges.grants_degraded),
            "grants_loaded_timestamp_seconds": ("When the grants in force were loaded", gauges.grants_loaded),
        }
        for name, (text, read) in readings.items():
            Gauge(f"pkb_gateway_{name}", text, registry=self._registry).set_function(read)

    def observe(self, route: str, status: int, code: str, seconds: float) -> None:
        """Count one answered request; `code` is empty where there was no error."""
        self._requests.labels(route, str(status), code).inc()
        self._seconds.labels(route).observe(seconds)

    def alarm(self, event: str) -> None:
        """Count a surprise at PKB, such as a write answered with 201."""
        self._alarms.labels(event).inc()

    def reloaded(self, result: str) -> None:
        """Count a reading of the grants file: `loaded` or `refused`."""
        self._reloads.labels(result).inc()

    def text(self) -> bytes:
        """Write the exposition format."""
        return generate_latest(self._registry)
