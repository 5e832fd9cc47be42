"""The two-sample test of bench/timing.py, held against what is known of it."""

import random

import pytest

from bench.timing import SIGNIFICANT, kolmogorov_smirnov

LARGE = 2_000


def shifted(distance: float, count: int) -> tuple[list[float], list[float]]:
    """Two samples whose distribution functions are exactly so far apart."""
    one = [float(number) for number in range(count)]
    return one, [number + round(distance * count) for number in one]


def test_equal_samples_are_at_no_distance() -> None:
    one, other = shifted(0, LARGE)
    assert kolmogorov_smirnov(one, other) == (0.0, 1.0)


def test_samples_that_do_not_overlap_are_told_apart() -> None:
    distance, chance = kolmogorov_smirnov([1.0] * 50, [2.0] * 50)
    assert distance == 1.0
    assert chance < 1e-12


# The limits of D times the square root of n*m/(n+m) (Smirnov 1948), in large samples.
@pytest.mark.parametrize(("limit", "chance"), [(1.224, 0.10), (1.358, 0.05), (1.628, 0.01), (1.949, 0.001)])
def test_the_critical_values_of_smirnov_come_out(limit: float, chance: float) -> None:
    count = 200_000
    distance, found = kolmogorov_smirnov(*shifted(limit / (count / 2) ** 0.5, count))
    assert distance == pytest.approx(limit / (count / 2) ** 0.5, rel=1e-3)
    assert found == pytest.approx(chance, rel=0.03)


def test_ties_count_once_for_both_sides() -> None:
    assert kolmogorov_smirnov([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 2.0, 3.0])[0] == 0.25


def test_what_takes_half_a_millisecond_longer_is_noticed_and_noise_is_not() -> None:
    drawn = random.Random(1)
    one, same, later = ([250 + drawn.expovariate(0.5) + more for _ in range(LARGE)] for more in (0, 0, 0.5))
    assert kolmogorov_smirnov(one, same)[1] > SIGNIFICANT
    assert kolmogorov_smirnov(one, later)[1] < SIGNIFICANT
