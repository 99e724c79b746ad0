"""Token buckets: what they grant in any stretch of time, and how long they make a call wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.limits import BURST_S, Bucket, Buckets

ASKS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), max_size=60)


def test_without_limits_nothing_waits() -> None:
    free = Buckets.of(None, None, None, 0.0)
    assert free.unlimited
    assert [free.take(10**9, 10**9, 0.0) for _ in range(3)] == [0.0] * 3


@pytest.mark.parametrize(
    ("rpm", "itpm", "otpm", "asked", "wait_s"),
    [
        (60, None, None, (0, 0), 1.0),  # one a second
        (600, None, None, (0, 0), 0.0),  # ten a second, and nine are left
        (None, 600, None, (10, 0), 1.0),
        (None, 600, None, (5, 0), 0.5),
        (None, None, 60, (0, 1), 1.0),
        (600, 600, 60, (10, 1), 1.0),  # the slowest dimension decides
    ],
)
def test_a_second_call_waits_for_what_the_first_has_taken(
    rpm: int | None, itpm: int | None, otpm: int | None, asked: tuple[int, int], wait_s: float
) -> None:
    buckets = Buckets.of(rpm, itpm, otpm, 100.0)
    assert not buckets.unlimited
    assert buckets.take(*(10, 1), 100.0) == 0.0
    assert buckets.take(*asked, 100.0) == pytest.approx(wait_s)


def test_a_call_that_must_wait_takes_nothing() -> None:
    buckets = Buckets.of(600, 60, None, 0.0)
    buckets.take(1, 0, 0.0)
    assert buckets.requests is not None
    left = buckets.requests.level
    assert buckets.take(1, 0, 0.0) > 0
    assert buckets.requests.level == left


@given(per_minute=st.integers(1, 100_000), asks=ASKS)
def test_a_bucket_never_grants_more_than_its_rate_and_one_burst(
    per_minute: int, asks: list[tuple[float, int]]
) -> None:
    """A request larger than the whole bucket may pass, but what it took too much must be waited off."""
    buckets, now_s, granted, largest = Buckets.of(None, per_minute, None, 0.0), 0.0, 0, 0
    for pause_s, amount in asks:
        now_s += pause_s
        if buckets.take(amount, 0, now_s) == 0.0:
            granted, largest = granted + amount, max(largest, amount)
    burst = max(per_minute / 60 * BURST_S, 1.0)
    assert granted <= per_minute / 60 * now_s + burst + largest + 1e-6


@given(per_minute=st.integers(1, 100_000), amount=st.integers(1, 10**6), taken=st.integers(0, 10**6))
def test_after_the_wait_there_is_room(per_minute: int, amount: int, taken: int) -> None:
    bucket = Bucket.full(per_minute, 0.0)
    bucket.level -= taken
    wait_s = bucket.wait_s(amount)
    bucket.refill(wait_s + 1e-6 * (1 + wait_s))
    assert bucket.wait_s(amount) == 0.0


def test_time_that_goes_backwards_refills_nothing() -> None:
    bucket = Bucket.full(600, 100.0)
    bucket.level = 0.0
    bucket.refill(50.0)
    assert (bucket.level, bucket.at_s) == (0.0, 100.0)
    bucket.refill(100.5)
    assert bucket.level == pytest.approx(5.0)


def test_an_estimate_is_corrected_in_both_directions() -> None:
    buckets = Buckets.of(None, 6000, 6000, 0.0)
    buckets.take(100, 100, 0.0)
    buckets.correct(40, -30)
    assert buckets.input_tokens is not None
    assert buckets.output_tokens is not None
    assert (buckets.input_tokens.level, buckets.output_tokens.level) == (40.0, -30.0)
