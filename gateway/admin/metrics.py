"""What Prometheus may ask. Every label has a bounded set of values: no id ever becomes one."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.admin.gauges import Gauges, Readings
from gateway.admin.tallies import Series, Spread, Tally, Unsettled
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
MOMENT: Final = 0.1
"""Seconds after which others see what this process counted."""
SUPERVISOR: Final = "supervisor"


class Metrics:
    """The metrics of this process; where `share_metrics` was called, it tells those of all that share."""

    folder: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._readings: Readings | None = None
        self._unsettled = Unsettled(None if self.folder is None else MOMENT)
        self._answered: dict[tuple[str, int, str], tuple[Tally, Spread]] = {}
        self._exchanged: dict[tuple[str, str, str], tuple[Tally, Spread]] = {}
        self._requests = self._counted("requests", "Requests answered", "route", "status", "code")
        self._seconds = self._spread("request_seconds", "Time from the headers of a request to its answer", "route")
        stages = self._spread("stage_seconds", "Time that a stage of a request takes", "stage")
        self._decisions = self._counted("decisions", "Decisions on record", "operation", "decision", "code")
        self._outcomes = self._counted("outcomes", "Outcomes on record", "operation", "outcome", "final")
        self._shed = self._counted("shed", "Requests turned away for want of room", "reason")
        self._alarms = self._counter("alarms", "Surprises", "event")
        self._reloads = self._counter("grants_reloads", "Readings of a changed grants file", "result")
        self._exchanges = self._counted("upstream_exchanges", "Exchanges with PKB", "upstream", "message", "result")
        self._exchange_seconds = self._spread("upstream_seconds", "Time of an exchange with PKB", "upstream", "message")
        self._commit_seconds = self._histogram("audit_commit_seconds", "Time to make a batch of records durable")
        self._commit_records = self._histogram("audit_commit_records", "Records in one such batch", BATCHES)
        self._durable = Gauge(
            "pkb_gateway_audit_last_durable_timestamp_seconds",
            "When a record was last made durable",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._replaced = self._counter("workers_replaced", "Workers that ended unasked")
        # What counts from nothing to one is no rise to Prometheus, which has never seen the nothing.
        self._stages = {stage: stages.of(stage) for stage in Stage}
        for event in EVENTS:
            self._alarms.of(event)
        for reason in REASONS:
            self._shed.of(reason)
        for result in ("loaded", "refused"):
            self._reloads.of(result)
        self._requests.of("none", 500, "internal")

    def _counter(self, name: str, text: str, *labels: str) -> Series[Counter, Counter]:
        return Series(Counter(f"pkb_gateway_{name}", text, labels, registry=self._registry), lambda child: child)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = BUCKETS) -> Histogram:
        return Histogram(f"pkb_gateway_{name}", text, registry=self._registry, buckets=buckets)

    def _counted(self, name: str, text: str, *labels: str) -> Series[Counter, Tally]:
        """Make a counter for what happens in every request."""
        return Series(Counter(f"pkb_gateway_{name}", text, labels, registry=self._registry), self._tally)

    def _spread(self, name: str, text: str, *labels: str) -> Series[Histogram, Spread]:
        """Make a histogram for what happens in every request."""
        metric = Histogram(f"pkb_gateway_{name}", text, labels, registry=self._registry, buckets=BUCKETS)
        return Series(metric, self._spread_of)

    def _tally(self, counter: Counter) -> Tally:
        return Tally(counter, self._unsettled)

    def _spread_of(self, histogram: Histogram) -> Spread:
        return Spread(histogram, BUCKETS, self._unsettled)

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
        answered = self._answered.get((route, status, code))
        if answered is None:
            answered = self._requests.of(route, status, code), self._seconds.of(route)
            self._answered[route, status, code] = answered
        count, spread = answered
        count.inc()
        spread.observe(seconds)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Take the time of a stage; see `StageObserver`."""
        self._stages[stage].observe(seconds)

    def decided(self, operation: str, decision: str, code: str) -> None:
        """Count a decision; the code is empty where there is none."""
        self._decisions.of(operation, decision, code).inc()

    def ended(self, operation: str, outcome: str, *, final: bool) -> None:
        """Count what is known of how a write ended."""
        self._outcomes.of(operation, outcome, "true" if final else "false").inc()

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
        exchanged = self._exchanged.get((route, message, result))
        if exchanged is None:
            exchanged = self._exchanges.of(route, message, result), self._exchange_seconds.of(route, message)
            self._exchanged[route, message, result] = exchanged
        count, spread = exchanged
        count.inc()
        spread.observe(seconds)

    def committed(self, seconds: float, records: int) -> None:
        """Take note of a batch of records that is durable now. Any thread may call it."""
        self._commit_seconds.observe(seconds)
        self._commit_records.observe(records)
        self._durable.set_to_current_time()

    def replaced(self) -> None:
        """Count a worker that ended unasked."""
        self._replaced.of().inc()

    def settle(self) -> None:
        """Tell what was counted: whoever asks another process of those that share sees all of it."""
        self._unsettled.settle()

    def text(self) -> bytes:
        """Write the exposition format."""
        self._refresh()
        self.settle()
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
