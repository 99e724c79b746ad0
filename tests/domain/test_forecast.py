"""Forecasts of whole jobs: how often the actual sum lies in the interval, and how wide that is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean, median

import pytest

from runner.domain.forecast import Forecast, Point, batches_in_sequence, off_by, rows_at_once, total_of
from runner.domain.outcome import Usage
from runner.domain.pricing import shipped_prices

MODEL = "claude-haiku-5-5"
ROWS, SAMPLE = 6_000, 200
Row = Callable[[random.Random], tuple[int, Usage]]


def labels(dice: random.Random) -> tuple[int, Usage]:
    """Tickets sorted into five drawers: short answers, some thinking, inputs of very different length."""
    length = int(dice.lognormvariate(math.log(900), 0.9))
    return length, Usage(input_tokens=350 + length // 4, output_tokens=12 + int(dice.expovariate(1 / 40)))


def invoices(dice: random.Random) -> tuple[int, Usage]:
    """Mails to fields: the longer the mail the longer the answer."""
    length = int(dice.lognormvariate(math.log(4_000), 0.6))
    return length, Usage(
        input_tokens=1_200 + length // 4, output_tokens=int(60 + length / 30 * dice.lognormvariate(0, 0.4))
    )


def reviews(dice: random.Random) -> tuple[int, Usage]:
    """Short questions, answers with a heavy tail, some at full length."""
    length = dice.randrange(80, 400)
    return length, Usage(
        input_tokens=60 + length // 4, output_tokens=min(4_096, int(dice.lognormvariate(math.log(500), 0.9)))
    )


def population(row: Row, dice: random.Random) -> list[Point]:
    prices = shipped_prices()
    found = []
    for _ in range(ROWS):
        length, usage = row(dice)
        cost = prices.cost_pico(MODEL, usage)
        assert cost is not None
        found.append(Point(length, cost))
    return found


@pytest.mark.parametrize("row", [labels, invoices, reviews])
def test_the_actual_lies_in_the_interval_nine_times_of_ten(row: Row) -> None:
    inside, widths = 0, []
    everything = population(row, random.Random(row.__name__))
    actual = math.fsum(point.amount for point in everything)
    mean_length = fmean(point.length for point in everything)
    for seed in range(100):
        told = total_of(random.Random(seed).sample(everything, SAMPLE), ROWS, mean_length)
        assert told is not None
        inside += told.low <= actual <= told.high
        widths.append((told.high - told.low) / actual)
    assert inside >= 85, inside
    assert median(widths) <= 0.30, median(widths)


def test_lengths_that_are_known_make_the_interval_narrower() -> None:
    everything = population(invoices, random.Random(1))
    sample = random.Random(2).sample(everything, SAMPLE)
    mean_length = fmean(point.length for point in everything)
    with_lengths = total_of(sample, ROWS, mean_length)
    without = total_of([Point(1.0, point.amount) for point in sample], ROWS, 1.0)
    assert with_lengths is not None
    assert without is not None
    assert with_lengths.high - with_lengths.low < 0.7 * (without.high - without.low)


def test_a_sample_of_everything_knows() -> None:
    told = total_of([Point(1, 5), Point(1, 7)], 2, 1.0)
    assert told is not None
    assert (told.low, told.value, told.high) == (12, 12, 12)


def test_a_handful_of_answers_gives_no_interval() -> None:
    assert total_of([Point(1, 5)] * 9, 1_000, 1.0) is None


def test_rows_that_all_cost_the_same_give_an_interval_of_one_point() -> None:
    told = total_of([Point(1, 5)] * 10, 1_000, 1.0)
    assert told is not None
    assert (told.low, told.high) == (5_000, 5_000)


@pytest.mark.parametrize("seed", range(50))
def test_the_interval_holds_its_value_and_stays_above_nothing(seed: int) -> None:
    dice = random.Random(seed)
    points = [Point(dice.randrange(5), dice.paretovariate(1.1)) for _ in range(dice.randrange(10, 60))]
    told = total_of(points, 10_000, dice.random() * 4)
    assert told is not None
    assert 0 < told.low <= told.value <= told.high


@pytest.mark.parametrize(
    ("room", "worst", "rows", "told"),
    [(None, 5, 10, 10), (100, 5, 10, 10), (22, 5, 10, 4), (4, 5, 10, 0), (-3, 5, 10, 0), (100, None, 10, None)],
)
def test_how_many_rows_a_cap_admits_at_once(room: int | None, worst: int | None, rows: int, told: int | None) -> None:
    assert rows_at_once(room, worst, rows) == told


@pytest.mark.parametrize(
    ("room", "worst", "cost", "rows", "told"),
    [
        (None, 10, 1, 100, 1),
        (1_000, 10, 1, 100, 1),
        (500, 10, 1, 100, 3),  # 50, 45 and the last 5
        (100, 10, 10, 100, None),  # the cap is spent before the rows are through
        (100, None, 1, 100, None),
        (500, 10, None, 60, None),
    ],
)
def test_how_many_batches_in_sequence_that_means(
    room: int | None, worst: int | None, cost: int | None, rows: int, told: int | None
) -> None:
    assert batches_in_sequence(room, worst, cost, rows) == told


def test_a_forecast_is_compared_with_what_it_came_to() -> None:
    assert off_by(Forecast(pico=100), 103) == pytest.approx(0.03)
    assert off_by(Forecast(pico=None), 103) is None
