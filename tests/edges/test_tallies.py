"""What is counted on the way of a request comes out as if Prometheus had counted it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateway.admin.tallies import Series, Spread, Tally, Unsettled

BOUNDS = (0.0078125, 0.125, 2.5)
AMOUNTS = (0.0, 0.00390625, 0.0078125, 0.0087890625, 0.125, 1.0, 2.5, 2.625, 7.0)
"""Of which sums are exact, in whatever order they are made."""


def samples(registry: CollectorRegistry) -> list[str]:
    """Everything but the moments at which a series was made."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def histogram(registry: CollectorRegistry) -> Histogram:
    return Histogram("seconds", "Seconds", registry=registry, buckets=BOUNDS)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_spread_tells_the_buckets_and_the_sum_that_the_histogram_would_have(rounds: int) -> None:
    direct, told = CollectorRegistry(), CollectorRegistry()
    expected, spread = histogram(direct), Spread(histogram(told), BOUNDS, Unsettled())
    for _ in range(rounds):
        for amount in AMOUNTS:
            expected.observe(amount)
            spread.observe(amount)
        spread.settle()

    spread.settle()

    assert samples(told) == samples(direct)


def test_a_tally_tells_each_count_once() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("requests", "Requests", registry=registry), Unsettled())
    for _ in range(3):
        tally.inc()
    tally.settle()
    tally.inc()

    tally.settle()
    tally.settle()

    assert "requests_total 4.0" in samples(registry)


def test_a_series_is_made_once_for_its_labels() -> None:
    registry, unsettled = CollectorRegistry(), Unsettled()
    series = Series(
        Counter("requests", "Requests", ("route",), registry=registry), lambda child: Tally(child, unsettled)
    )

    series.of("read").inc()
    series.of("cancel").inc()

    assert series.of("read") is series.of("read")
    series.of("read").settle()
    assert 'requests_total{route="read"} 1.0' in samples(registry)
    assert 'requests_total{route="cancel"} 0.0' in samples(registry)


def counting(unsettled: Unsettled) -> tuple[CollectorRegistry, Tally, Spread]:
    registry = CollectorRegistry()
    tally = Tally(Counter("requests", "Requests", registry=registry), unsettled)
    return registry, tally, Spread(histogram(registry), BOUNDS, unsettled)


def told_of(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    return registry.get_sample_value("requests_total"), registry.get_sample_value("seconds_count")


def test_what_is_unsettled_is_told_when_somebody_asks() -> None:
    unsettled = Unsettled()
    registry, tally, spread = counting(unsettled)
    for _ in range(2):
        tally.inc()
        spread.observe(0.0)
    assert told_of(registry) == (0.0, 0.0)

    unsettled.settle()

    assert told_of(registry) == (2.0, 2.0)


async def test_within_a_moment_it_is_told_unasked_and_the_next_moment_begins_with_the_next_count() -> None:
    unsettled = Unsettled(within=0.01)
    registry, tally, spread = counting(unsettled)

    for counted in (1.0, 2.0):
        tally.inc()
        spread.observe(0.125)
        assert told_of(registry) == (counted - 1, counted - 1)
        await asyncio.sleep(0.2)
        assert told_of(registry) == (counted, counted)


SHARED = """
import asyncio, os, sys
from pathlib import Path
from gateway.admin.metrics import MOMENT, Metrics, share_metrics

name, ends = sys.argv[2:]
share_metrics(Path(sys.argv[1]), name)

async def counts():
    metrics = Metrics()
    metrics.observe("read", 200, "", 0.5)
    match ends:
        case "asked":
            print(metrics.text().decode())
        case "orderly":
            metrics.settle()
        case "killed":
            await asyncio.sleep(5 * MOMENT)
            os.kill(os.getpid(), 9)
        case "killed at once":
            os.kill(os.getpid(), 9)

asyncio.run(counts())
"""


def shared(folder: Path, name: str, ends: str) -> str:
    """Let a process that shares its metrics count a read, and come to its end."""
    command = [sys.executable, "-c", SHARED, str(folder), name, ends]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_what_a_process_counted_outlives_it_but_for_its_last_moment(tmp_path: Path) -> None:
    reads = 'pkb_gateway_requests_total{code="",route="read",status="200"}'
    for name, ends, told in (
        ("1", "orderly", 2.0),
        ("2", "killed", 3.0),
        ("3", "killed at once", 3.0),
        ("1", "killed", 4.0),
    ):
        shared(tmp_path, name, ends)
        found = shared(tmp_path, "asking", "asked").splitlines()
        assert f"{reads} {told}" in found, ends
        # What the one that asks counted by itself.
        for file in tmp_path.glob("*_asking.db"):
            file.unlink()
