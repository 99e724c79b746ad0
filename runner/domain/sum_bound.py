"""What the sum of many costs stays below with great probability, learned from rows of the same shape. Pure.

Each row is looked at as a share X of the most that it can cost, so that 0 <= X <= 1 whatever its length. From n
settled rows the mean of X is bounded by the empirical Bernstein inequality (Maurer and Pontil 2009, theorem 4):
with probability 1 - d the true mean is below m + s*sqrt(2 ln(2/d) / n) + 7 ln(2/d) / (3 (n - 1)), with m and s the
mean and standard deviation that were seen; their theorem 10 bounds the true deviation by s + sqrt(2 ln(1/d) / (n -
1)). Given both, Bernstein's inequality bounds how far the sum of the coming rows, each weighted by its worst cost,
may lie above its mean. Each of the three takes a third of the risk. None of them asks what the distribution looks
like: heavy tails are paid for by the terms with 1/n and with the largest row, which is why few rows give a bound
near the worst cost. What they do ask is that the coming rows are drawn like those that were seen. An input that is
sorted, say with its hard rows at the end, breaks that, and then `reserve: worst` is the one to choose.

A run makes several such batches. The j-th may fail with probability RISK / (j (j + 1)); over any number of them that
sums to RISK at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

# The chance that the batches of a run cost more than they hold back; over all of them.
RISK = 0.001
CONFIDENCE_WORDS = "likely, 99.9%"
# With fewer rows of a shape the bound says nothing that the worst cost does not say.
ENOUGH_ROWS = 200


def risk_of(batch: int) -> float:
    """Of the run's `batch`-th batch, counted from 1."""
    return RISK / (batch * (batch + 1))


class Shares(Struct, frozen=True, kw_only=True):
    """Settled rows of one shape: how many, and the sums of their shares of the worst cost and of the squares."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0

    def and_one(self, share: float) -> Shares:
        share = min(max(share, 0.0), 1.0)
        return Shares(rows=self.rows + 1, total=self.total + share, squares=self.squares + share * share)

    def plus(self, other: Shares) -> Shares:
        return Shares(
            rows=self.rows + other.rows, total=self.total + other.total, squares=self.squares + other.squares
        )

    @property
    def mean(self) -> float:
        return self.total / self.rows

    @property
    def deviation(self) -> float:
        return math.sqrt(max(0.0, self.squares - self.total * self.mean) / (self.rows - 1))


class Coming(Struct, frozen=True, kw_only=True):
    """What is known of all coming rows of a shape, with that probability: the mean of their shares is at most `mean`,
    their variance at most `variance`; `log_risk` is what is left for the sum."""

    mean: float
    variance: float
    log_risk: float

    def sum_pico(self, worst_pico: int, squares: float, largest_pico: int) -> int:
        """What rows cost at most together, of whose worst costs the sum, the sum of squares and the largest are
        given. Never more than all of their worst costs."""
        slack = self.log_risk * largest_pico / 3
        above = slack + math.sqrt(slack * slack + 2 * self.log_risk * self.variance * squares)
        return min(worst_pico, math.ceil(self.mean * worst_pico + above))


def coming(shares: Shares, risk: float) -> Coming | None:
    """What the settled rows say of the coming ones; None where they are too few."""
    if shares.rows < ENOUGH_ROWS:
        return None
    third = risk / 3
    log_mean, log_risk = math.log(2 / third), math.log(1 / third)
    n, deviation = shares.rows, shares.deviation
    mean = shares.mean + deviation * math.sqrt(2 * log_mean / n) + 7 * log_mean / (3 * (n - 1))
    mean = min(mean, 1.0)
    variance = (deviation + math.sqrt(2 * log_risk / (n - 1))) ** 2
    # No variable between 0 and 1 varies more than this around its mean, which grows with the mean up to a half.
    return Coming(mean=mean, variance=min(variance, min(mean, 0.5) * (1 - min(mean, 0.5))), log_risk=log_risk)


class _Load(Struct):
    worst_pico: int = 0
    squares: float = 0.0
    largest_pico: int = 0

    def bound_with(self, known: Coming, worst_pico: int) -> int:
        return known.sum_pico(
            self.worst_pico + worst_pico,
            self.squares + float(worst_pico) ** 2,
            max(self.largest_pico, worst_pico),
        )

    def take(self, worst_pico: int) -> None:
        self.worst_pico += worst_pico
        self.squares += float(worst_pico) ** 2
        self.largest_pico = max(self.largest_pico, worst_pico)


class WorstHeld:
    """What the rows of a batch hold back: the most that each can cost."""

    def __init__(self) -> None:
        self.pico = 0

    def with_row(self, worst_pico: int, shape: str | None) -> int:
        """What would be held back with one row more."""
        del shape
        return self.pico + worst_pico

    def take(self, worst_pico: int, shape: str | None, pico: int) -> None:
        """A row more; `pico` is what `with_row` has just said of it."""
        del worst_pico, shape
        self.pico = pico


class LikelyHeld(WorstHeld):
    """The same, where enough is known of a shape: what its rows stay below together. Rows without a shape, those that
    have been tried before among them, hold their worst: what made them fail may be what makes them dear."""

    def __init__(self, settled: Mapping[str, Shares], batch: int) -> None:
        super().__init__()
        risk = risk_of(batch) / max(1, len(settled))
        known = {shape: coming(shares, risk) for shape, shares in settled.items()}
        self._known = {shape: told for shape, told in known.items() if told is not None}
        self._loads = {shape: _Load() for shape in self._known}
        self._bounds = dict.fromkeys(self._known, 0)

    def with_row(self, worst_pico: int, shape: str | None) -> int:
        if shape is None or shape not in self._known:
            return self.pico + worst_pico
        return self.pico - self._bounds[shape] + self._loads[shape].bound_with(self._known[shape], worst_pico)

    def take(self, worst_pico: int, shape: str | None, pico: int) -> None:
        if shape is not None and shape in self._known:
            self._bounds[shape] += pico - self.pico
            self._loads[shape].take(worst_pico)
        self.pico = pico
