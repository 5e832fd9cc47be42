"""Token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.grant import Rate
from gateway.flow.rates import Rates
from gateway.flow.request import Quota


class Bucket:
    """One bucket and its clock."""

    def __init__(self, rate: Rate) -> None:
        self.rate, self.now, self.key = rate, 1000.0, "partner:swiftbook"
        self.rates = Rates(lambda: self.now)

    def take(self) -> tuple[bool, Quota]:
        return self.rates.take(self.key, "partner", self.rate)


RATES = st.builds(Rate, st.integers(1, 1000), st.integers(1, 3600))


@given(RATES)
def test_a_bucket_is_full_at_start_and_holds_no_more(rate: Rate) -> None:
    bucket = Bucket(rate)

    assert [bucket.take()[0] for _ in range(rate.requests + 1)] == [True] * rate.requests + [False]


@given(RATES)
def test_one_that_waits_as_long_as_it_was_told_gets_in(rate: Rate) -> None:
    bucket = Bucket(rate)
    while (taken := bucket.take())[0]:
        pass

    bucket.now += taken[1].reset

    assert bucket.take()[0]


@given(RATES, st.lists(st.floats(0, 100), max_size=60))
def test_nobody_gets_more_than_the_capacity_and_what_is_refilled(rate: Rate, pauses: list[float]) -> None:
    bucket = Bucket(rate)
    granted = 0
    for pause in pauses:
        bucket.now += pause
        granted += bucket.take()[0]

    assert granted <= rate.requests + sum(pauses) * rate.requests / rate.seconds + 1e-6


def test_a_bucket_is_refilled_evenly() -> None:
    bucket = Bucket(Rate(60, 60))
    for _ in range(60):
        bucket.take()
    assert not bucket.take()[0]

    bucket.now += 0.5
    assert not bucket.take()[0]
    bucket.now += 0.5
    assert bucket.take()[0]
    assert not bucket.take()[0]


def test_a_bucket_left_alone_for_long_is_full_and_no_fuller() -> None:
    bucket = Bucket(Rate(2, 60))
    bucket.take()

    bucket.now += 86_400

    assert [bucket.take()[0] for _ in range(3)] == [True, True, False]


def test_a_quota_tells_what_is_left_and_when_it_is_full_again() -> None:
    bucket = Bucket(Rate(3, 60))

    assert bucket.take() == (True, Quota("partner", 3, 60, 2, 20))
    assert bucket.take() == (True, Quota("partner", 3, 60, 1, 40))
    assert bucket.take() == (True, Quota("partner", 3, 60, 0, 60))
    assert bucket.take() == (False, Quota("partner", 3, 60, 0, 20))


def test_a_changed_rate_starts_with_a_full_bucket() -> None:
    bucket = Bucket(Rate(1, 60))
    bucket.take()
    assert not bucket.take()[0]

    bucket.rate = Rate(2, 60)

    assert [bucket.take()[0] for _ in range(3)] == [True, True, False]


def test_buckets_do_not_share() -> None:
    bucket = Bucket(Rate(1, 60))
    bucket.take()

    bucket.key = "partner:cardiolink"

    assert bucket.take()[0]


def test_a_clock_that_steps_back_takes_nothing_away() -> None:
    bucket = Bucket(Rate(2, 60))
    bucket.take()

    bucket.now -= 500

    assert bucket.take() == (True, Quota("partner", 2, 60, 0, 60))
