"""Auto mode: a table of runs and what is chosen for them; and late batches are taken back in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.choice import CANCEL_S, FAIR_TIME_S, UNMEASURED_ROWS_PER_MIN, cancel_at_us, choose
from runner.domain.job import Mode

USD = 10**12
MINUTE_US = 60 * 10**6
HOUR_US = 60 * MINUTE_US
NOW_US = 1_795_255_200_000_000

HALF = {"batch_pico": 6120 * USD // 100, "live_pico": 12240 * USD // 100}

CHOICES = [
    ({"rows": 0}, "live: 0 rows, fewer than 2,000"),
    ({"rows": 1}, "live: 1 row, fewer than 2,000"),
    ({"rows": 1_999, **HALF}, "live: 1,999 rows, fewer than 2,000"),
    ({"rows": 2_000}, "batch: 2,000 rows, half the price, no deadline"),
    ({"rows": 41_200, **HALF}, "batch: 41,200 rows, half the price ($61.20 instead of $122.40), no deadline"),
    (
        {"rows": 41_200, "batch_pico": 9 * USD, "live_pico": 10 * USD},
        "batch: 41,200 rows, 90% of the price ($9.00 instead of $10.00), no deadline",
    ),
    (
        {"rows": 41_200, "batch_pico": 11 * USD, "live_pico": 10 * USD},
        "live: 41,200 rows, and batches would save nothing ($11.00 instead of $10.00)",
    ),
    ({"rows": None}, "batch: rows not counted yet, half the price, no deadline"),
    (
        {"rows": 41_200, "batch_refused": "its rows have client tools"},
        "live: 41,200 rows, but not in batches: its rows have client tools",
    ),
    ({"rows": 10, "batch_refused": "its rows have client tools"}, "live: 10 rows, fewer than 2,000"),
    # 41,200 rows at 1,000 a minute take 0.7 h live; with the time to cancel and a fair time that makes 2.2 h.
    (
        {"rows": 41_200, "hours": 12, "live_rows_per_min": 1_000},
        "batch: 41,200 rows, half the price, deadline in 12.0 h",
    ),
    (
        {"rows": 41_200, "hours": 2.3, "live_rows_per_min": 1_000},
        "batch: 41,200 rows, half the price, deadline in 2.3 h",
    ),
    (
        {"rows": 41_200, "hours": 2.1, "live_rows_per_min": 1_000},
        "live: 41,200 rows, but the deadline is in 2.1 h and rows of a late batch would need 0.7 h live",
    ),
    (
        {"rows": 41_200, "hours": 1.4, "live_rows_per_min": 1_000},
        "live: 41,200 rows, but the deadline in 1.4 h is too near for a batch",
    ),
    ({"rows": 41_200, "hours": -1}, "live: 41,200 rows, but the deadline has passed"),
    # Live calls could not do it in any case: the batch is the better hope.
    (
        {"rows": 400_000, "hours": 6, "live_rows_per_min": 1_000},
        "batch: 400,000 rows, half the price, live calls would hardly meet the deadline in 6.0 h",
    ),
    (
        {"rows": None, "hours": 6, "live_rows_per_min": 1_000},
        "batch: rows not counted yet, half the price, live calls would hardly meet the deadline in 6.0 h",
    ),
    (
        {"rows": None, "hours": 1},
        "live: rows not counted yet, but the deadline in 1.0 h is too near for a batch",
    ),
]


@pytest.mark.parametrize(("told", "reason"), CHOICES, ids=[reason for _, reason in CHOICES])
def test_auto_chooses_and_says_why(told: dict[str, object], reason: str) -> None:
    told = dict(told)
    hours = told.pop("hours", None)
    deadline_us = None if hours is None else NOW_US + round(hours * HOUR_US)
    choice = choose(told.pop("rows"), threshold=2_000, now_us=NOW_US, deadline_us=deadline_us, **told)
    assert choice.reason == reason
    assert choice.mode == (Mode.BATCH if reason.startswith("batch") else Mode.LIVE)


@given(
    rows=st.integers(1, 10**6),
    hours=st.floats(0, 72),
    pace=st.none() | st.floats(10, 10_000),
)
def test_a_batch_chosen_under_a_deadline_has_a_fair_time_before_it_is_cancelled(
    rows: int, hours: float, pace: float | None
) -> None:
    deadline_us = NOW_US + round(hours * HOUR_US)
    choice = choose(rows, threshold=1, now_us=NOW_US, deadline_us=deadline_us, live_rows_per_min=pace)
    if choice.mode is Mode.BATCH:
        at_us = cancel_at_us(deadline_us, rows, pace, created_us=NOW_US)
        assert NOW_US + FAIR_TIME_S * 10**6 - 1 <= at_us <= deadline_us - CANCEL_S * 10**6


def test_a_late_batch_is_cancelled_half_an_hour_and_the_live_time_before_the_deadline() -> None:
    deadline_us = NOW_US + 12 * HOUR_US
    assert cancel_at_us(deadline_us, 0, 600) == deadline_us - 30 * MINUTE_US
    assert cancel_at_us(deadline_us, 6_000, 600) == deadline_us - 40 * MINUTE_US
    assert cancel_at_us(deadline_us, 100 * 60, None) == deadline_us - 90 * MINUTE_US
    assert UNMEASURED_ROWS_PER_MIN == 100


def test_as_batches_end_the_rest_may_stay_longer() -> None:
    deadline_us = NOW_US + 12 * HOUR_US
    times = [cancel_at_us(deadline_us, rows, 600) for rows in (100_000, 50_000, 1)]
    assert times == sorted(times)


def test_rows_that_live_calls_could_never_finish_stay_until_the_last_moment() -> None:
    deadline_us = NOW_US + 6 * HOUR_US
    assert cancel_at_us(deadline_us, 400_000, 1_000, created_us=NOW_US) == deadline_us - 30 * MINUTE_US
    assert cancel_at_us(deadline_us, 400_000, 1_000) < NOW_US
