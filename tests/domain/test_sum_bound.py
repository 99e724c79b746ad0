"""A batch that holds back what its sum will likely stay below: how seldom that fails, and how much sooner it ends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate

import pytest

from runner.domain.outcome import Usage
from runner.domain.packing import Fits, Packer
from runner.domain.pricing import shipped_prices
from runner.domain.sum_bound import ENOUGH_ROWS, RISK, Coming, LikelyHeld, Shares, WorstHeld, coming, risk_of

Draw = Callable[[random.Random], float]
# Shares of the worst cost, between 0 and 1; the last two are what a bound has to fear.
SHAPES: dict[str, Draw] = {
    "even": lambda dice: dice.random() / 4,
    "heavy tail": lambda dice: min(1.0, dice.lognormvariate(math.log(0.02), 1.5)),
    "one of fifty at full length": lambda dice: 1.0 if dice.random() < 0.02 else 0.01,
    "one of five hundred at full length": lambda dice: 1.0 if dice.random() < 0.002 else 0.01,
}
WORST = 10**9
MODEL = "claude-haiku-5-5"


def shares_of(values: list[float]) -> Shares:
    return Shares(rows=len(values), total=sum(values), squares=sum(value * value for value in values))


def admitted(known: Coming | None, room: int, most: int) -> int:
    """How many of `most` equal rows fit."""

    def held(n: int) -> int:
        return n * WORST if known is None else known.sum_pico(n * WORST, float(WORST) ** 2 * n, WORST)

    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if held(middle) <= room else (low, middle - 1)
    return low


def run(dice: random.Random, draw: Draw, rows: int, cap_share: float) -> tuple[int, bool]:
    """Waves until all rows have ended or there is no room; how many, and whether the cap was kept."""
    costs = [round(WORST * draw(dice)) for _ in range(rows)]
    sums = [0, *accumulate(costs)]
    cap, settled, done, waves = round(cap_share * sums[-1]), Shares(), 0, 0
    while done < rows:
        n = admitted(coming(settled, risk_of(waves + 1)), cap - sums[done], rows - done)
        if n == 0:
            break
        settled = settled.plus(shares_of([cost / WORST for cost in costs[done : done + n]]))
        done, waves = done + n, waves + 1
    return waves, sums[done] <= cap


@pytest.mark.parametrize("name", SHAPES)
def test_a_bound_fails_less_often_than_it_says(name: str) -> None:
    """Of 1,000 batches after 300 settled rows."""
    failed = 0
    for seed in range(1_000):
        dice = random.Random(f"{name}{seed}")
        settled = shares_of([SHAPES[name](dice) for _ in range(300)])
        known = coming(settled, RISK)
        assert known is not None
        total = sum(WORST * SHAPES[name](dice) for _ in range(500))
        failed += total > known.sum_pico(500 * WORST, 500 * float(WORST) ** 2, WORST)
    assert failed <= 1


def test_of_a_thousand_runs_one_passes_its_cap_at_most() -> None:
    names = list(SHAPES)
    passed = 0
    for seed in range(1_000):
        dice = random.Random(seed)
        _, kept = run(dice, SHAPES[names[seed % len(names)]], 700, dice.choice([0.7, 1.0, 1.05, 1.2, 2.0]))
        passed += not kept
    assert passed <= 1


@pytest.mark.parametrize(("mean", "sigma"), [(800, 1.0), (300, 1.5), (80, 1.5)])
def test_a_long_batch_job_with_little_room_ends_in_three_batches_in_sequence(mean: int, sigma: float) -> None:
    """400,000 rows of at most 16,000 tokens, which take some hundred, under a cap of 1.2 times their cost; packed,
    priced and bounded by the real parts, at most 100,000 a batch. Batches that lie with the API at once are one wave.

    Reserved at worst the same takes dozens of batches, one after the other.
    """
    dice, prices = random.Random(mean), shipped_prices()
    few = [min(16_000, round(dice.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma))) for _ in range(20_000)]
    costs = [prices.cost_pico(MODEL, Usage(input_tokens=300, output_tokens=out), batch=True) or 0 for out in few]
    rows = dice.choices(costs, k=400_000)
    worst = prices.bound_pico(MODEL, prompt_tokens=2_300, max_tokens=16_000, batch=True)
    assert worst is not None
    room = cap = sum(rows) * 12 // 10
    settled, done, waves, batches = Shares(), 0, 0, 0
    while done < len(rows):
        held, first = 0, done
        while done < len(rows) and (n := _packed(settled, batches + 1, room - held, len(rows) - done, worst)):
            held, done, batches = held + n[1], done + n[0], batches + 1
        assert done > first, f"no room after {waves} waves"
        settled = settled.plus(shares_of([cost / worst for cost in rows[first:done]]))
        room, waves = room - sum(rows[first:done]), waves + 1
        assert room >= 0, "the cap is passed"
    assert waves <= 3, (waves, batches, room / cap)


def _packed(settled: Shares, batch: int, room: int, left: int, worst: int) -> tuple[int, int] | None:
    """Rows of the next batch, and what they hold back; None where not one fits."""
    packer = Packer(max_pico=room, held=LikelyHeld({"a": settled} if settled.rows else {}, batch))
    for idx in range(left):
        if not isinstance(packer.offer(idx, 2_000, worst, "a"), Fits):
            break
    return (len(packer), packer.held.pico) if len(packer) else None


def test_at_worst_the_same_job_would_take_dozens() -> None:
    cap, room, waves, left = 1.2 * 0.05, 0.0, 0, 1.0
    room = cap
    while left > 1e-6 and waves < 100:
        part = min(left, room)  # each row holds 20 times what it costs
        left, room, waves = left - part, room - part * 0.05, waves + 1
    assert waves > 24


def test_few_rows_or_a_shape_that_is_not_known_hold_their_worst() -> None:
    few = Shares(rows=ENOUGH_ROWS - 1, total=1.0, squares=0.1)
    assert coming(few, RISK) is None
    held = LikelyHeld({"a": few}, 1)
    assert [held.with_row(5, shape) for shape in ("a", "b", None)] == [5, 5, 5]


def test_rows_of_several_shapes_hold_the_sum_of_their_bounds() -> None:
    known = shares_of([0.01] * 5_000)
    both, one = LikelyHeld({"a": known, "b": known}, 1), LikelyHeld({"a": known, "b": known}, 1)
    for _ in range(500):
        for held, shapes in ((both, "ab"), (one, "a")):
            for shape in shapes:
                held.take(WORST, shape, held.with_row(WORST, shape))
    assert both.pico == 2 * one.pico
    assert one.pico < 500 * WORST / 4


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_never_shrinks_with_a_row_and_never_passes_the_worst(seed: int) -> None:
    dice = random.Random(seed)
    known = {"a": shares_of([dice.random() ** 4 for _ in range(dice.randrange(100, 3_000))])}
    likely, worst = LikelyHeld(known, dice.randrange(1, 5)), WorstHeld()
    for _ in range(300):
        row, shape = dice.randrange(1, WORST), dice.choice(["a", "a", "a", None])
        before = likely.pico
        for held in (likely, worst):
            held.take(row, shape, held.with_row(row, shape))
        assert before <= likely.pico <= worst.pico


def test_a_packer_takes_more_rows_where_they_hold_less() -> None:
    known = {"a": shares_of([0.02] * 10_000)}
    packers = [Packer(max_pico=100 * WORST), Packer(max_pico=100 * WORST, held=LikelyHeld(known, 1))]
    for packer in packers:
        idx = 0
        while idx < 10_000 and isinstance(packer.offer(idx, 10, WORST, "a"), Fits):
            idx += 1
    assert len(packers[0]) == 100
    assert len(packers[1]) > 1_500
    assert packers[1].held.pico <= 100 * WORST < (packers[1].worst_pico or 0)


def test_the_risks_of_all_batches_of_a_run_stay_within_one_in_a_thousand() -> None:
    assert sum(risk_of(batch) for batch in range(1, 10_000)) <= RISK
