"""What Prometheus may ask. Every label has a bounded set of values: no id ever becomes one."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""
REFRESH: Final = 1.0
"""Seconds between two readings of the gauges that other processes tell of."""
SUPERVISOR: Final = "supervisor"

Joined = Literal["livesum", "livemin", "livemax"]
"""How the readings of several living processes become one."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """Readings taken when Prometheus asks."""

    open_writes: Callable[[], float]
    in_flight: Callable[[], float]
    waiting: Callable[[], float]
    audit_healthy: Callable[[], float]
    grants_degraded: Callable[[], float]
    grants_loaded: Callable[[], float]


class Metrics:
    """The metrics of this process; where `share_metrics` was called, it tells those of all that share."""

    folder: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._readings: list[tuple[Gauge, Callable[[], float]]] = []
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
        self._alarms = Counter("pkb_gateway_alarms", "Surprises", ["event"], registry=self._registry)
        self._reloads = Counter(
            "pkb_gateway_grants_reloads", "Readings of a changed grants file", ["result"], registry=self._registry
        )
        self._exchanges = Counter(
            "pkb_gateway_upstream_exchanges",
            "Exchanges with PKB",
            ["upstream", "message", "result"],
            registry=self._registry,
        )
        self._exchange_seconds = Histogram(
            "pkb_gateway_upstream_seconds",
            "Time of an exchange with PKB",
            ["upstream", "message"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._replaced = Counter("pkb_gateway_workers_replaced", "Workers that ended unasked", registry=self._registry)

    def read(self, gauges: Gauges) -> None:
        """Offer readings, once there is something to read."""
        self._gauge("workers", "Processes that serve", "livesum", lambda: 1.0)
        self._gauge("open_writes", "Writes whose outcome is not final", "livesum", gauges.open_writes)
        self._gauge("in_flight", "Requests under way", "livesum", gauges.in_flight)
        self._gauge("waiting", "Requests that wait to be let in", "livesum", gauges.waiting)
        self._gauge("audit_healthy", "1 while the audit stream takes records", "livemin", gauges.audit_healthy)
        self._gauge(
            "grants_degraded", "1 while the grants file on disk is not in force", "livemax", gauges.grants_degraded
        )
        self._gauge(
            "grants_loaded_timestamp_seconds", "When the grants in force were loaded", "livemin", gauges.grants_loaded
        )
        self._refresh()

    def _gauge(self, name: str, text: str, joined: Joined, read: Callable[[], float]) -> None:
        gauge = Gauge(f"pkb_gateway_{name}", text, registry=self._registry, multiprocess_mode=joined)
        self._readings.append((gauge, read))

    def _refresh(self) -> None:
        for gauge, read in self._readings:
            gauge.set(read())

    async def keep_current(self) -> None:
        """Read the gauges every second for the processes that share them; where there are none, never."""
        while self.folder is not None:
            self._refresh()
            await asyncio.sleep(REFRESH)

    def observe(self, route: str, status: int, code: str, seconds: float) -> None:
        """Count one answered request; `code` is empty where there was no error."""
        self._requests.labels(route, str(status), code).inc()
        self._seconds.labels(route).observe(seconds)

    def alarm(self, event: str) -> None:
        """Count a surprise, such as a write answered with 201, or keys that cannot be loaded."""
        self._alarms.labels(event).inc()

    def reloaded(self, result: str) -> None:
        """Count a reading of the grants file: `loaded` or `refused`."""
        self._reloads.labels(result).inc()

    def exchanged(self, route: str, message: str, result: str, seconds: float) -> None:
        """Count an exchange with PKB; see `UpstreamObserver`."""
        self._exchanges.labels(route, message, result).inc()
        self._exchange_seconds.labels(route, message).observe(seconds)

    def replaced(self) -> None:
        """Count a worker that ended unasked."""
        self._replaced.inc()

    def text(self) -> bytes:
        """Write the exposition format."""
        self._refresh()
        if self.folder is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, str(self.folder))  # type: ignore[no-untyped-call]  # ships without types
        return generate_latest(everybody)


def share_metrics(folder: Path, process: str) -> None:
    """Keep the values of all metrics made from now on in files of this folder, which every sharer adds up.

    A process that takes the name of a dead one goes on with its counters, so that none goes back, and there are
    never more files than names.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # as above
    Metrics.folder = folder


def forget_gauges(folder: Path, process: str) -> None:
    """Take a dead process out of what is true of the living only."""
    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]  # ships without types


def leave_metrics(folder: Path, process: str) -> None:
    """Remove what a process wrote, and its supervisor, which is gone; the last one removes the folder."""
    for name in (process, SUPERVISOR):
        for file in folder.glob(f"*_{name}.db"):
            file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
