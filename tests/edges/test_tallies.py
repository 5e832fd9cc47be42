"""What is counted on the way of a request comes out as if Prometheus had counted it."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateway.admin.tallies import Series, Spread, Tally

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
    expected, spread = histogram(direct), Spread(histogram(told), BOUNDS)
    for _ in range(rounds):
        for amount in AMOUNTS:
            expected.observe(amount)
            spread.observe(amount)
        spread.settle()

    spread.settle()

    assert samples(told) == samples(direct)


def test_a_tally_tells_each_count_once() -> None:
    registry = CollectorRegistry()
    tally = Tally(Counter("requests", "Requests", registry=registry))
    for _ in range(3):
        tally.inc()
    tally.settle()
    tally.inc()

    tally.settle()
    tally.settle()

    assert "requests_total 4.0" in samples(registry)


def test_a_series_is_made_once_for_its_labels() -> None:
    registry = CollectorRegistry()
    series = Series(Counter("requests", "Requests", ("route",), registry=registry), Tally)

    series.of("read").inc()
    series.of("cancel").inc()

    assert series.of("read") is series.of("read")
    series.of("read").settle()
    assert 'requests_total{route="read"} 1.0' in samples(registry)
    assert 'requests_total{route="cancel"} 0.0' in samples(registry)
