"""Budgets as arithmetic: what is spent and held back never passes a cap, and belongs to the day it was sent on."""

from __future__ import annotations

import random

import pytest

from runner.domain.budget import (
    Account,
    Admission,
    BudgetKey,
    Changes,
    Level,
    Payer,
    day_of,
    name_of,
    reached_words,
    tightest,
    warned,
    warning_words,
)
from runner.views.budget_words import raise_advice, raised_usd, rest_pico

USD = 10**12
PAYER = Payer(run=7, job="letters")
DAY = "2026-11-21"
RUN_KEY, JOB_DAY, JOB_MONTH, ALL_DAY, ALL_MONTH = PAYER.keys(DAY)


def level(key: BudgetKey, cap: int | None, spent: int = 0, committed: int = 0) -> Level:
    return Level(key=key, cap_pico=cap, spent_pico=spent, committed_pico=committed)


def test_a_call_is_paid_by_its_run_its_job_and_everything() -> None:
    assert PAYER.keys(DAY) == (
        ("run:7", "all"),
        ("job:letters", "2026-11-21"),
        ("job:letters", "2026-11"),
        ("all", "2026-11-21"),
        ("all", "2026-11"),
    )
    assert [key.cap_key.period for key in PAYER.keys(DAY)] == ["all", "day", "month", "day", "month"]


@pytest.mark.parametrize(
    ("at_us", "day"),
    [(0, "1970-01-01"), (1_795_305_599_999_999, "2026-11-21"), (1_795_305_600_000_000, "2026-11-22")],
)
def test_days_are_those_of_utc(at_us: int, day: str) -> None:
    assert day_of(at_us) == day


@pytest.mark.parametrize("key", PAYER.keys(DAY))
def test_every_cap_holds_by_itself(key: BudgetKey) -> None:
    account = Account(PAYER, [level(key, 100, spent=60, committed=10)])
    assert account.room_pico(DAY) == 30
    assert account.reserve(DAY, 31) is Admission.OVER
    assert account.reserve(DAY, 30) is Admission.TAKEN
    assert account.reserve(DAY, 1) is Admission.OVER


def test_without_a_cap_there_is_room_for_all_and_it_is_counted() -> None:
    account = Account(PAYER, [level(key, None, spent=5) for key in PAYER.keys(DAY)])
    assert account.reserve(DAY, 10**15) is Admission.TAKEN
    assert account.reserve(DAY, None) is Admission.TAKEN
    assert {key: change.committed_pico for key, change in account.by_key().items()} == dict.fromkeys(
        PAYER.keys(DAY), 10**15
    )


def test_what_has_no_bound_is_not_admitted_where_there_is_a_cap() -> None:
    assert Account(PAYER, [level(ALL_MONTH, 10**15)]).reserve(DAY, None) is Admission.UNBOUNDED


def test_at_midnight_each_side_is_booked_on_its_own_day() -> None:
    changes = Changes()
    changes.commit("2026-11-30", -50)
    changes.spend("2026-11-30", 40)
    account = Account(PAYER, [level(ALL_DAY, 10)], changes)
    assert account.reserve("2026-12-01", 70) is Admission.TAKEN
    told = {tuple(key): (change.spent_pico, change.committed_pico) for key, change in account.by_key().items()}
    assert told["all", "2026-11"] == (40, -50)
    assert told["all", "2026-12"] == (0, 70)
    assert told["run:7", "all"] == (40, 20)


@pytest.mark.parametrize("first", range(0, 4_000, 200))
def test_no_path_of_reservations_ends_and_kills_passes_a_cap(first: int) -> None:
    """Three runs of one job, one transaction after the other in any order, over two midnights. With what a call
    costs never above what it reserved, spent + committed stays within every cap; and so does the bill, whoever is
    killed."""
    for seed in range(first, first + 200):
        _play(random.Random(f"budgets {seed}"), seed)


def _play(dice: random.Random, seed: int) -> None:
    days = ["2026-11-29", "2026-11-30", "2026-12-01"]
    payers = [Payer(run=run, job="letters") for run in (7, 8, 9)]
    keys = {key for payer in payers for day in days for key in payer.keys(day)}
    caps = {key: dice.choice([None, None, dice.randrange(1, 3_000)]) for key in keys}
    books, bill = {key: [0, 0] for key in keys}, dict.fromkeys(keys, 0)
    held: dict[Payer, list[tuple[str, int]]] = {payer: [] for payer in payers}
    for _ in range(60):
        payer, changes = dice.choice(payers), Changes()
        if dice.random() < 0.05:
            held[payer] = _killed(held[payer], payer, bill, dice)
        for _ in range(min(dice.randrange(4), len(held[payer]))):
            day, worst = held[payer].pop(dice.randrange(len(held[payer])))
            cost = dice.choice([worst, dice.randint(0, worst)])
            changes.commit(day, -worst)
            changes.spend(day, cost)
            _charge(bill, payer, day, cost)
        levels = [level(key, caps[key], *books[key]) for key in keys]
        account = Account(payer, levels, changes)
        for _ in range(dice.randrange(5)):
            day, worst = dice.choice(days), dice.randrange(1, 400)
            if account.reserve(day, worst) is Admission.TAKEN:
                held[payer].append((day, worst))
        for key, change in account.by_key().items():
            books[key][0] += change.spent_pico
            books[key][1] += change.committed_pico
        for key, cap in caps.items():
            assert bill[key] <= sum(books[key]), f"seed {seed}: {key}"
            assert cap is None or sum(books[key]) <= cap, f"seed {seed}: {key}"


def _killed(
    held: list[tuple[str, int]], payer: Payer, bill: dict[BudgetKey, int], dice: random.Random
) -> list[tuple[str, int]]:
    """Nobody hears any more how these calls end: what they reserved stays held back, and they may be billed."""
    for day, worst in held:
        _charge(bill, payer, day, dice.choice([0, worst]))
    return []


def _charge(bill: dict[BudgetKey, int], payer: Payer, day: str, pico: int) -> None:
    for key in payer.keys(day):
        bill[key] += pico


def test_the_tightest_is_the_one_with_the_least_room() -> None:
    levels = [level(RUN_KEY, 100), level(ALL_DAY, 500, spent=450), level(ALL_MONTH, None, spent=900)]
    assert tightest(levels) == levels[1]
    assert tightest(levels[2:]) is None


def test_a_warning_is_for_what_is_spent_not_for_what_is_held_back() -> None:
    levels = [level(RUN_KEY, 100, spent=79, committed=21), level(ALL_DAY, 100, spent=80)]
    assert warned(levels, 0.8) == levels[1:]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (RUN_KEY, "the run's budget"),
        (JOB_DAY, "the budget of job letters for 2026-11-21"),
        (ALL_MONTH, "the budget for 2026-11"),
        (BudgetKey("all", "day"), "the budget for a day"),
    ],
)
def test_budgets_have_names_that_people_know(key: BudgetKey, name: str) -> None:
    assert name_of(key) == name


def test_a_full_budget_says_what_is_in_it() -> None:
    full = level(RUN_KEY, 48 * USD, 46_780_000_000_000, 1_180_000_000_000)
    assert reached_words(full) == (
        "the run's budget, $48.00, has no room for the next row: $46.78 spent, $1.18 committed"
    )
    assert warning_words(full) == "97% of the run's budget is spent: $46.78 of $48.00"


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        (RUN_KEY, "runner resume r_9q2m --max-usd 49"),
        (JOB_DAY, "raise budget.per.day in the job file and run it again"),
        (ALL_MONTH, "raise RUNNER_MAX_USD_MONTH"),
    ],
)
def test_it_is_said_how_to_go_on(key: BudgetKey, advice: str) -> None:
    full = level(key, 48 * USD, 46 * USD, USD)
    assert raise_advice(full, 7, "r_9q2m", USD // 2).startswith(advice)


@pytest.mark.parametrize("cap", [1, 10**6, 10**9, 5 * USD, 900 * USD])
@pytest.mark.parametrize("rest", [1, 10**6, 10**9, 5 * USD, 900 * USD])
def test_the_proposed_cap_holds_the_rest(cap: int, rest: int) -> None:
    proposed = float(raised_usd(level(RUN_KEY, cap, cap), rest)) * USD
    assert cap + rest <= proposed
    assert proposed <= 1.1 * (cap + 1.1 * rest) + 1


def test_the_rest_is_unknown_while_nothing_has_ended() -> None:
    assert rest_pico(0, 0, 100) is None
    assert rest_pico(500, 10, None) is None
    assert rest_pico(500, 10, 100) == 5_000
