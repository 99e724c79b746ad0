"""Amounts are never rounded to nothing; times are short and in order."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.quantity import of_rows
from runner.views.durations import duration, moment, stopwatch, utc
from runner.views.money import dollars, usd
from runner.views.numbers import brief, percent

USD = 10**12


@pytest.mark.parametrize(
    ("pico", "shown"),
    [
        (0, "$0.00"),
        (None, "unknown"),
        (1, "$0.000000000001"),
        (15, "$0.000000000015"),
        (7_100_000, "$0.0000071"),
        (123_456_789, "$0.00012"),
        (999_900_000, "$0.001"),
        (12_300_000_000, "$0.0123"),
        (USD // 10, "$0.10"),
        (USD // 2, "$0.50"),
        (USD - 1, "$1.00"),
        (USD, "$1.00"),
        (1_199_999_999_999, "$1.20"),
        (22_625_000_000_000, "$22.63"),
        (1_204 * USD + USD // 2, "$1,204.50"),
        (-12_300_000_000, "-$0.0123"),
    ],
)
def test_dollars(pico: int | None, shown: str) -> None:
    assert dollars(pico) == shown


@given(st.integers(min_value=1, max_value=10**18))
def test_an_amount_is_never_shown_as_nothing(pico: int) -> None:
    digits = dollars(pico).removeprefix("$").replace(",", "")
    assert float(digits) > 0
    assert abs(float(digits) * USD - pico) <= max(pico * 0.05, 5e9 if pico >= USD else 5e7)


def test_usd_for_machines() -> None:
    assert usd(12_300_000_000) == 0.0123
    assert usd(None) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (-3, "0.0s"),
        (0, "0.0s"),
        (2.14, "2.1s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (756, "12m 36s"),
        (3599.7, "1h 00m"),
        (7500, "2h 05m"),
        (90_000, "1d 1h"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_stopwatch_grows_past_a_day() -> None:
    assert stopwatch(760.9) == "00:12:40"
    assert stopwatch(100 * 3600) == "100:00:00"
    assert stopwatch(-1) == "00:00:00"


def test_moments() -> None:
    assert moment(1_800_000_000_000_000, UTC) == "2027-01-15 08:00:00"
    assert utc(1_800_000_000_000_000) == "2027-01-15T08:00:00Z"
    assert utc(None) is None


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"), (380.4, "380"), (1000, "1,000"), (9_999, "9,999"), (9_999.6, "10k"), (68_200, "68.2k"),
        (551_000, "551k"), (999_600, "1M"), (1_450_000, "1.45M"), (362_500_000, "362M"), (2_000_000_000_000, "2000G"),
    ],
)  # fmt: skip
def test_brief_numbers(number: float, shown: str) -> None:
    assert brief(number) == shown


def test_a_hundred_percent_means_all_and_nothing_means_none() -> None:
    assert percent(0, 1000) == "0.0%"
    assert percent(1, 1_000_000) == "0.1%"
    assert percent(999_999, 1_000_000) == "99.9%"
    assert percent(5, 5) == "100.0%"
    assert percent(0, 0) == "0.0%"


def test_rows_in_words() -> None:
    assert [of_rows(number) for number in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
