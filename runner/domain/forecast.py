"""What a whole job will cost, from a sample of its rows: a sum, and where it lies nine times of ten. Pure.

Not to be mixed up with `estimates`, which guesses the tokens of one call for the limits. This is for people, before
a run, in dollars.

Costs follow the length of a row, and the length of every row is known. So the sum is a regression estimate: the
mean of the sample, moved along the line of cost over length by as much as the sample's rows are shorter or longer
than all. Its error comes from what lies off that line. The interval is one of the logarithm: costs have a long tail
to the right, which a symmetric interval would cut off. Rows that were answered are known and add nothing to the
error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

CONFIDENCE = 0.90
# With fewer answers nobody can say how much they differ.
ENOUGH_ANSWERS = 10


class Point(NamedTuple):
    """A row of the sample: how long it is, and an amount of it (pico-dollars, tokens)."""

    length: float
    amount: float


class Total(Struct, frozen=True, kw_only=True):
    """A sum over all rows, and between what it lies with CONFIDENCE. Equal ends: it is known."""

    value: float
    low: float
    high: float

    def plus(self, known: float) -> Total:
        return Total(value=self.value + known, low=self.low + known, high=self.high + known)


def total_of(points: Sequence[Point], rows: int, mean_length: float) -> Total | None:
    """The sum over `rows` rows of this mean length, the sample's among them. None where the sample is too small for
    an interval and is not everything."""
    n = len(points)
    if n >= rows:
        known = math.fsum(point.amount for point in points)
        return Total(value=known, low=known, high=known)
    if n < ENOUGH_ANSWERS:
        return None
    slope = _slope(points)
    mean = fmean(point.amount for point in points)
    center = fmean(point.length for point in points)
    value = rows * (mean + slope * (mean_length - center))
    if value <= 0:  # a line through a few strange rows leads anywhere
        slope, value = 0.0, rows * mean
    off = [point.amount - mean - slope * (point.length - center) for point in points]
    freedom = n - 2
    deviation = math.sqrt(math.fsum(one * one for one in off) / freedom)
    error = deviation * math.sqrt(rows * (rows - n) / n)
    return _interval(value, error, freedom, _skewness(off, deviation) / math.sqrt(n))


def _slope(points: Sequence[Point]) -> float:
    """Of amount over length; none where the lengths do not differ."""
    center = fmean(point.length for point in points)
    mean = fmean(point.amount for point in points)
    spread = math.fsum((point.length - center) ** 2 for point in points)
    if spread <= 0:
        return 0.0
    return math.fsum((point.length - center) * (point.amount - mean) for point in points) / spread


def _skewness(off: Sequence[float], deviation: float) -> float:
    if deviation <= 0:
        return 0.0
    return fmean((one / deviation) ** 3 for one in off)


def _interval(value: float, error: float, freedom: int, skew: float) -> Total:
    """Ends of a log interval. A skewed sample has mostly missed the rare dear rows: its upper end moves out by the
    first term of the Edgeworth series."""
    if error <= 0 or value <= 0:
        return Total(value=value, low=value, high=value)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    t = z * (1 + (z * z + 1) / (4 * freedom))
    share = error / value
    outward = max(0.0, skew) * (1 + 2 * z * z) / 6
    return Total(value=value, low=value * math.exp(-t * share), high=value * math.exp((t + outward) * share))


class Forecast(Struct, frozen=True, kw_only=True):
    """What a run is to cost, as it was said before it began; kept with the run and told beside what it did cost.

    `pico` is the likely sum; `low_pico` and `high_pico` its 90% interval, None where nothing was measured and the sum
    is a guess; `worst_pico` what it cannot pass, None where nothing bounds it. `basis` says what it rests on.
    """

    pico: int | None
    low_pico: int | None = None
    high_pico: int | None = None
    worst_pico: int | None = None
    basis: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_guess(self) -> bool:
        return self.low_pico is None


def off_by(forecast: Forecast, actual_pico: int) -> float | None:
    """How far the actual cost was above (+) or below (-) the forecast, as a share of it."""
    return None if not forecast.pico else actual_pico / forecast.pico - 1


# --- batches and the cap


def rows_at_once(room_pico: int | None, worst_pico: int | None, rows: int) -> int | None:
    """How many rows of this worst cost a budget admits at a time; None where nothing can be said."""
    if room_pico is None:
        return rows
    if not worst_pico:
        return None
    return min(rows, max(0, room_pico) // worst_pico)


def batches_in_sequence(
    room_pico: int | None, worst_pico: int | None, cost_pico: int | None, rows: int, most: int = 1_000
) -> int | None:
    """How many times batches are made, one after the other, because each holds back its worst cost until it has
    been read. None where that cannot be said, or where the rows do not fit in at all."""
    if room_pico is None:
        return 1
    if not worst_pico:
        return None
    left, room, waves = rows, room_pico, 0
    while left > 0 and waves < most:
        now = min(left, max(0, room) // worst_pico)
        if now == 0:
            return None
        left, room, waves = left - now, room - now * (cost_pico or worst_pico), waves + 1
    return waves if left <= 0 else None
