"""What Prometheus may ask. Every label has a bounded set of values: no id ever becomes one."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.admin.gauges import Gauges, Readings
from gateway.flow.watching import Stage

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""
BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 512)
"""Records."""
EVENTS: Final = (
    "collateral",
    "write-created",
    "signing-key-refused",
    "keys-not-loaded",
    "key-refused",
    "certificate-refused",
    "case-failed",
)
REASONS: Final = ("in-flight", "turnstile", "per-customer")
REFRESH: Final = 1.0
"""Seconds between two readings of the gauges that other processes tell of."""
SUPERVISOR: Final = "supervisor"

Kind = TypeVar("Kind", Counter, Histogram)


class Metrics:
    """The metrics of this process; where `share_metrics` was called, it tells those of all that share."""

    folder: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._readings: Readings | None = None
        self._requests = self._counter("requests", "Requests answered", "route", "status", "code")
        self._seconds = self._histogram("request_seconds", "Time from the headers of a request to its answer", "route")
        self._stages = self._histogram("stage_seconds", "Time that a stage of a request takes", "stage")
        self._decisions = self._counter("decisions", "Decisions on record", "operation", "decision", "code")
        self._outcomes = self._counter("outcomes", "Outcomes on record", "operation", "outcome", "final")
        self._shed = self._counter("shed", "Requests turned away for want of room", "reason")
        self._alarms = self._counter("alarms", "Surprises", "event")
        self._reloads = self._counter("grants_reloads", "Readings of a changed grants file", "result")
        self._exchanges = self._counter("upstream_exchanges", "Exchanges with PKB", "upstream", "message", "result")
        self._exchange_seconds = self._histogram(
            "upstream_seconds", "Time of an exchange with PKB", "upstream", "message"
        )
        self._commit_seconds = self._histogram("audit_commit_seconds", "Time to make a batch of records durable")
        self._commit_records = self._histogram("audit_commit_records", "Records in one such batch", buckets=BATCHES)
        self._durable = Gauge(
            "pkb_gateway_audit_last_durable_timestamp_seconds",
            "When a record was last made durable",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._replaced = self._counter("workers_replaced", "Workers that ended unasked")
        # What counts from nothing to one is no rise to Prometheus, which has never seen the nothing.
        for stage in Stage:
            self._stages.of(stage)
        for event in EVENTS:
            self._alarms.of(event)
        for reason in REASONS:
            self._shed.of(reason)
        for result in ("loaded", "refused"):
            self._reloads.of(result)
        self._requests.of("none", 500, "internal")

    def _counter(self, name: str, text: str, *labels: str) -> "_Children[Counter]":
        return _Children(Counter(f"pkb_gateway_{name}", text, labels, registry=self._registry))

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = BUCKETS
    ) -> "_Children[Histogram]":
        return _Children(Histogram(f"pkb_gateway_{name}", text, labels, registry=self._registry, buckets=buckets))

    def read(self, gauges: Gauges) -> None:
        """Offer readings, once there is something to read."""
        self._readings = Readings(gauges, self._registry)
        workers = Gauge(
            "pkb_gateway_workers", "Processes that serve", registry=self._registry, multiprocess_mode="livesum"
        )
        workers.set(1)
        self._refresh()

    def _refresh(self) -> None:
        if self._readings is not None:
            self._readings.take()

    async def keep_current(self) -> None:
        """Read the gauges every second for the processes that share them; where there are none, never."""
        while self.folder is not None:
            self._refresh()
            await asyncio.sleep(REFRESH)

    def observe(self, route: str, status: int, code: str, seconds: float) -> None:
        """Count one answered request; `code` is empty where there was no error."""
        self._requests.of(route, status, code).inc()
        self._seconds.of(route).observe(seconds)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Take the time of a stage; see `StageObserver`."""
        self._stages.of(stage).observe(seconds)

    def decided(self, operation: str, decision: str, code: str) -> None:
        """Count a decision; the code is empty where there is none."""
        self._decisions.of(operation, decision, code).inc()

    def ended(self, operation: str, outcome: str, *, final: bool) -> None:
        """Count what is known of how a write ended."""
        self._outcomes.of(operation, outcome, str(final).lower()).inc()

    def shed(self, reason: str) -> None:
        """Count a request that was turned away: `in-flight`, `turnstile` or `per-customer`."""
        self._shed.of(reason).inc()

    def alarm(self, event: str) -> None:
        """Count a surprise, such as a write answered with 201, or keys that cannot be loaded."""
        self._alarms.of(event).inc()

    def reloaded(self, result: str) -> None:
        """Count a reading of the grants file: `loaded` or `refused`."""
        self._reloads.of(result).inc()

    def exchanged(self, route: str, message: str, result: str, seconds: float) -> None:
        """Count an exchange with PKB; see `UpstreamObserver`."""
        self._exchanges.of(route, message, result).inc()
        self._exchange_seconds.of(route, message).observe(seconds)

    def committed(self, seconds: float, records: int) -> None:
        """Take note of a batch of records that is durable now. Any thread may call it."""
        self._commit_seconds.of().observe(seconds)
        self._commit_records.of().observe(records)
        self._durable.set_to_current_time()

    def replaced(self) -> None:
        """Count a worker that ended unasked."""
        self._replaced.of().inc()

    def text(self) -> bytes:
        """Write the exposition format."""
        self._refresh()
        if self.folder is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, str(self.folder))  # type: ignore[no-untyped-call]  # ships without types
        return generate_latest(everybody)


class _Children(Generic[Kind]):
    """The series of one metric, found once for each set of labels: looking them up costs more than counting."""

    def __init__(self, parent: Kind) -> None:
        self._parent: Kind = parent
        self._made: dict[tuple[str | int, ...], Kind] = {}

    def of(self, *labels: str | int) -> Kind:
        """Give the series with these labels."""
        made = self._made.get(labels)
        if made is None:
            made = self._made[labels] = self._parent.labels(*labels) if labels else self._parent
        return made


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
