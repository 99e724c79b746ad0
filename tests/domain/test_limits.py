"""Limits: whose word counts, and what a bucket lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.limits import BURST_S, NOT_KNOWN, Bucket, KnownLimits, LimitSource, RateLimits, used_rate

TIER = KnownLimits(limits=RateLimits(1_000, 2_000, 3_000), source=LimitSource.TIER)
HEADERS = KnownLimits(limits=RateLimits(50, 60, None), source=LimitSource.HEADERS)


@pytest.mark.parametrize(
    ("known", "told", "after"),
    [
        (NOT_KNOWN, TIER, TIER),
        (TIER, None, TIER),
        (TIER, HEADERS, KnownLimits(limits=RateLimits(50, 60, 3_000), source=LimitSource.HEADERS)),
        (HEADERS, TIER, HEADERS),
        (HEADERS, NOT_KNOWN, HEADERS),
    ],
)
def test_the_greater_authority_has_the_word(known: KnownLimits, told: KnownLimits | None, after: KnownLimits) -> None:
    assert known.heeding(told) == after


def test_a_run_that_drops_a_limit_of_its_own_has_it_no_more() -> None:
    before = KnownLimits(limits=RateLimits(10, 20, 30), source=LimitSource.RUN)
    after = KnownLimits(limits=RateLimits(10, None, None), source=LimitSource.RUN)
    assert before.heeding(after) == after


@given(rate=st.floats(0.01, 10_000), asks=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), max_size=60))
def test_a_bucket_lets_through_its_rate_and_one_burst(rate: float, asks: list[tuple[float, int]]) -> None:
    """What is larger than the whole bucket may pass, but what it took too much must be waited off."""
    bucket, now_s, granted, largest = Bucket(rate, 0.0), 0.0, 0, 0
    for pause_s, amount in asks:
        now_s += pause_s
        if bucket.wait_s(amount, now_s) == 0.0:
            bucket.level -= amount
            granted, largest = granted + amount, max(largest, amount)
    assert granted <= rate * now_s + max(rate * BURST_S, 1.0) + largest + 1e-6


@given(rate=st.floats(0.01, 10_000), amount=st.integers(1, 10**6), taken=st.integers(0, 10**6))
def test_after_the_wait_there_is_room(rate: float, amount: int, taken: int) -> None:
    bucket = Bucket(rate, 0.0)
    bucket.level -= taken
    wait_s = bucket.wait_s(amount, 0.0)
    assert bucket.wait_s(amount, wait_s + 1e-6 * (1 + wait_s)) == 0.0


def test_time_that_goes_backwards_refills_nothing() -> None:
    bucket = Bucket(10.0, 100.0)
    bucket.level = 0.0
    bucket.refill(50.0)
    assert (bucket.level, bucket.at_s) == (0.0, 100.0)
    bucket.refill(100.3)
    assert bucket.level == pytest.approx(3.0)


def test_a_little_of_each_limit_is_left_unused() -> None:
    assert 0.96 * 50 < used_rate(3_000) < 50
