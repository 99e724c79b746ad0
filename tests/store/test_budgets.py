"""Budgets of a run, of its job's days and months, and of the whole store, in one table that all processes share."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner.domain.budget import BudgetKey, Level
from runner.domain.listings import Listing
from runner.domain.outcome import Usage
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.store.group import Fence, Verdict
from runner.store.store import Store
from tests.store.building import (
    COST_PICO,
    NOW_US,
    PRICES,
    WORST_PICO,
    claim,
    ended,
    packing,
    remote,
    rows_of,
    send,
    spend,
    staged_run,
    stored,
)

DAY_US = 86_400_000_000
DAY, NEXT_DAY, MONTH = "2027-01-15", "2027-01-16", "2027-01"
OVER = Verdict.OVER_BUDGET


def books(store: Store) -> dict[tuple[str, str], tuple[int, int]]:
    rows = rows_of(store, "budgets")
    return {(row["scope"], row["period"]): (row["spent_pico"], row["committed_pico"]) for row in rows}


def cap(store: Store, scope: str, period: str, pico: int | None) -> None:
    store.set_cap(BudgetKey(scope, period), pico)


def asked(store: Store, run: Run, *idxs: int, at_us: int = NOW_US) -> list[Verdict]:
    """Calls of the run's only chunk, which is claimed the first time."""
    claimed = store.claim_next(run.id, NOW_US, PRICES)
    fence = claimed.fence if claimed is not None else Fence(seq=0, epoch=1)
    return store.commit_group(run.id, [replace(send(fence, idx), at_us=at_us) for idx in idxs])


def test_every_cent_is_booked_wherever_it_counts(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0), send(fence, 1))
    stored(store, run, ended(fence, 0, booking=spend()))
    both = (COST_PICO, WORST_PICO)
    assert books(store) == {
        (f"run:{run.id}", "all"): both,
        ("job:letters", DAY): both,
        ("job:letters", MONTH): both,
        ("all", DAY): both,
        ("all", MONTH): both,
    }


def test_a_call_that_ends_after_midnight_is_paid_by_the_day_on_which_it_was_sent(store: Store) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    stored(store, run, replace(ended(fence, 0, booking=spend()), at_us=NOW_US + DAY_US))
    assert books(store)["all", DAY] == (COST_PICO, 0)
    assert ("all", NEXT_DAY) not in books(store)


@pytest.mark.parametrize(("scope", "period"), [("job:letters", "day"), ("all", "month"), ("all", "day")])
def test_a_cap_holds_for_all_runs_together(store: Store, scope: str, period: str) -> None:
    one, other = staged_run(store, 2), staged_run(store, 2)
    cap(store, scope, period, 3 * WORST_PICO)
    assert asked(store, one, 0, 1) == [Verdict.STORED, Verdict.STORED]
    assert asked(store, other, 0, 1) == [Verdict.STORED, OVER]
    cap(store, scope, period, 4 * WORST_PICO)
    assert asked(store, other, 1) == [Verdict.STORED]


def test_the_cap_of_a_day_is_whole_again_the_next_day_and_that_of_a_month_is_not(store: Store) -> None:
    run = staged_run(store, 4)
    cap(store, "all", "day", WORST_PICO)
    assert asked(store, run, 0, 1) == [Verdict.STORED, OVER]
    assert asked(store, run, 1, 2, at_us=NOW_US + DAY_US) == [Verdict.STORED, OVER]
    cap(store, "all", "month", 2 * WORST_PICO)
    assert asked(store, run, 2, at_us=NOW_US + 2 * DAY_US) == [OVER]


def test_another_job_has_days_of_its_own(store: Store) -> None:
    letters, mails = staged_run(store, 1), staged_run(store, 1, name="mails")
    cap(store, "job:letters", "day", WORST_PICO - 1)
    assert asked(store, letters, 0) == [OVER]
    assert asked(store, mails, 0) == [Verdict.STORED]


def test_a_cap_that_is_set_later_counts_what_was_spent_before(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    stored(store, run, ended(fence, 0, booking=spend()))
    store.set_job_caps("letters", COST_PICO + WORST_PICO - 1, None)
    assert store.commit_group(run.id, [send(fence, 1)]) == [OVER]
    store.set_job_caps("letters", None, None)
    assert store.commit_group(run.id, [send(fence, 1)]) == [Verdict.STORED]


def test_a_batch_is_paid_by_the_day_of_its_intent_and_gives_back_as_it_is_read(store: Store) -> None:
    run = staged_run(store, 3)
    chunk = claim(store, run)
    assert store.intend(packing(run, "a" * 10, (chunk, [0, 1, 2]), worst_pico=3 * WORST_PICO), 0) == "stored"
    assert books(store)["all", DAY] == (0, 3 * WORST_PICO)
    store.received("a" * 10, remote("msgbatch_1", 3), NOW_US)
    (submission,) = store.take_up_submissions(run.id)
    store.batch_ended(submission.id, remote("msgbatch_1", 3, "ended"))
    late = NOW_US + DAY_US
    line = replace(ended(chunk.fence, 0, booking=spend(key="a-0")), at_us=late)
    assert store.ingest(run.id, submission.id, submission.epoch, [line])
    assert books(store)["all", DAY] == (COST_PICO, 3 * WORST_PICO - COST_PICO), "nothing is counted twice"
    assert store.ingested(run.id, submission.id, submission.epoch, late)
    assert books(store)["all", DAY] == (COST_PICO, 0)
    assert ("all", NEXT_DAY) not in books(store)


def test_what_was_reserved_may_be_less_than_the_worst_and_then_holds_to_the_end(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=500)
    chunk = claim(store, run)
    new = replace(packing(run, "a" * 10, (chunk, [0, 1]), worst_pico=2 * WORST_PICO), reserved_pico=500)
    assert store.intend(new, 0) == "stored"
    store.received(new.intent.submission, remote("msgbatch_1", 2), NOW_US)
    (submission,) = store.take_up_submissions(run.id)
    assert (submission.worst_pico, submission.reserved_pico) == (2 * WORST_PICO, 500)
    store.batch_ended(submission.id, remote("msgbatch_1", 2, "ended"))
    lines = [ended(chunk.fence, idx, booking=spend(key=f"a-{idx}")) for idx in (0, 1)]
    assert store.ingest(run.id, submission.id, submission.epoch, lines)
    assert store.ingested(run.id, submission.id, submission.epoch, NOW_US)
    assert books(store)[f"run:{run.id}", "all"] == (2 * COST_PICO, 0), (
        "more than was reserved, and nothing below zero"
    )


def test_what_is_let_go_stays_committed_at_its_worst(store: Store) -> None:
    run = staged_run(store, 2)
    new = replace(packing(run, "a" * 10, (claim(store, run), [0, 1]), worst_pico=900), reserved_pico=500)
    store.intend(new, 0)
    store.end_unknown(new.intent.submission)
    assert store.let_go(run.id, new.intent.submission, model="m", price_version="p", now_us=NOW_US)
    assert books(store)["all", DAY] == (0, 900)


def test_what_was_let_go_and_turned_up_is_given_back_on_its_day(store: Store) -> None:
    run = staged_run(store, 2)
    new = replace(packing(run, "a" * 10, (claim(store, run), [0, 1]), worst_pico=900), reserved_pico=500)
    store.intend(new, 0)
    store.end_unknown(new.intent.submission)
    store.let_go(run.id, new.intent.submission, model="m", price_version="p", now_us=NOW_US + DAY_US)
    seen = (remote("msgbatch_1", 2),)
    store.note_listing(Listing(taken_us=NOW_US, server_us=NOW_US, batches=seen, complete_since_us=0))
    for _ in range(2):
        store.note_duplicate(run.id, "msgbatch_1", new.intent.submission, exact=True)
        assert books(store)["all", DAY] == (0, 0)
    assert ("all", NEXT_DAY) not in books(store)


def test_prices_put_right_change_the_day_on_which_the_batch_was_sent(store: Store) -> None:
    run = staged_run(store, 1)
    chunk = claim(store, run)
    store.intend(packing(run, "a" * 10, (chunk, [0]), worst_pico=WORST_PICO), 0)
    store.received("a" * 10, remote("msgbatch_1", 1), NOW_US)
    (submission,) = store.take_up_submissions(run.id)
    store.batch_ended(submission.id, remote("msgbatch_1", 1, "ended"))
    late = NOW_US + DAY_US
    unpriced = spend(None, key="a-0", batch="msgbatch_1", at_us=late, bound_pico=7, usage=Usage(output_tokens=1))
    assert store.ingest(run.id, submission.id, submission.epoch, [ended(chunk.fence, 0, booking=unpriced)])
    assert store.ingested(run.id, submission.id, submission.epoch, late)
    assert books(store)["all", DAY] == (0, 7)
    for _page in store.reprice(run.id, shipped_prices(), write=True):
        pass
    spent, committed = books(store)["all", DAY]
    assert spent > 0
    assert committed == 0
    assert ("all", NEXT_DAY) not in books(store)


def test_standing_budgets_are_told_with_what_is_used_of_them(store: Store) -> None:
    run = staged_run(store, 1)
    cap(store, "all", "month", 10_000)
    store.set_job_caps("letters", 5_000, None)
    cap(store, "job:mails", "day", 7)
    asked(store, run, 0)
    assert store.standing_budgets(NOW_US) == [
        Level(key=BudgetKey("all", MONTH), cap_pico=10_000, spent_pico=0, committed_pico=WORST_PICO),
        Level(key=BudgetKey("job:letters", DAY), cap_pico=5_000, spent_pico=0, committed_pico=WORST_PICO),
        Level(key=BudgetKey("job:mails", DAY), cap_pico=7, spent_pico=0, committed_pico=0),
    ]
