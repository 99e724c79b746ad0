"""Sums of the books by whatever is asked, and days as people say them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.spending import (
    BY_HAND,
    UNTAGGED,
    By,
    Spending,
    Sums,
    date_of,
    day_number,
    grouped,
    since_day,
    total,
)

TODAY = day_number(date(2026, 11, 21))
NOW_US = int(datetime(2026, 11, 21, 17, 5, tzinfo=UTC).timestamp()) * 10**6


def spent(run: str, cost: int, **told: object) -> Spending:
    plain: dict[str, object] = {"job": "letters", "day": TODAY, "kind": "spend", "model": "m", "batch": False}
    sums = Sums(calls=1, rows=1, cost_pico=cost, unbatched_pico=cost, list_pico=cost)
    return Spending(run=run, sums=sums, **(plain | told))  # type: ignore[arg-type]


ALL = [
    spent("r_1", 5, tags={"team": "support", "cost_centre": "4711"}),
    spent("r_1", 2, day=TODAY - 1, model="n", tags={"team": "support", "cost_centre": "4711"}),
    spent("r_2", 9, job="essays", tags={"team": "law"}, schedule="nightly"),
    spent("r_3", 1, job="essays", day=TODAY - 30),
]


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (By.JOB, [("essays", 2, 10), ("letters", 1, 7)]),
        (By.MODEL, [("m", 3, 15), ("n", 1, 2)]),
        (By.DAY, [("2026-10-22", 1, 1), ("2026-11-20", 1, 2), ("2026-11-21", 2, 14)]),
        (By.RUN, [("r_2", 1, 9), ("r_1", 1, 7), ("r_3", 1, 1)]),
        (By.SCHEDULE, [("nightly", 1, 9), (BY_HAND, 2, 8)]),
        (By.TAG, [("team=law", 1, 9), ("cost_centre=4711", 1, 7), ("team=support", 1, 7), (UNTAGGED, 1, 1)]),
    ],
)
def test_spending_is_added_up_by_what_is_asked(by: By, told: list[tuple[str, int, int]]) -> None:
    assert [(group.name, group.runs, group.sums.cost_pico) for group in grouped(ALL, by)] == told


def test_one_tag_alone_puts_every_run_in_one_group() -> None:
    groups = grouped(ALL, By.TAG, "team")
    assert [(group.name, group.sums.cost_pico) for group in groups] == [("law", 9), ("support", 7), ("(no team)", 1)]
    assert total(ALL).sums.cost_pico == sum(group.sums.cost_pico for group in groups)


@given(st.lists(st.builds(Sums, **dict.fromkeys(Sums.__struct_fields__, st.integers(0, 10**15))), max_size=9))
def test_what_is_saved_and_paid_is_the_list_price(all_sums: list[Sums]) -> None:
    sums = total([spent("r", 0)]).sums
    for one in all_sums:
        sums = sums.plus(one)
    assert sums.cost_pico + sums.saved_by_batch_pico + sums.saved_by_cache_pico == sums.list_pico


def test_a_thousand_rows_cost_no_less_than_they_do() -> None:
    assert Sums(rows=3, cost_pico=10).per_thousand_pico == 3_334
    assert Sums(rows=0, cost_pico=10).per_thousand_pico is None


@pytest.mark.parametrize(
    ("told", "day"),
    [
        ("today", "2026-11-21"),
        ("Yesterday", "2026-11-20"),
        ("month", "2026-11-01"),
        ("2026-10", "2026-10-01"),
        ("2026-02-28", "2026-02-28"),
        ("7d", "2026-11-14"),
        ("2w", "2026-11-07"),
        ("0d", "2026-11-21"),
        ("99999999d", "1970-01-01"),
    ],
)
def test_days_as_people_say_them(told: str, day: str) -> None:
    assert date_of(since_day(told, NOW_US)).isoformat() == day


@pytest.mark.parametrize("told", ["", "d", "tomorrow", "2026-13", "2026-02-30", "7h", "-3d", "21.11.2026"])
def test_what_is_no_day_is_refused(told: str) -> None:
    with pytest.raises(ValueError):
        since_day(told, NOW_US)
