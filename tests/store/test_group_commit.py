"""The group commit: reserve, settle, book, each exactly once, whoever still holds the fence."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner.domain.booking import BookingKind
from runner.domain.states import ChunkState, RowStatus
from runner.store.group import Operation, SendIntent, Settlement, Verdict
from runner.store.store import Store
from tests.store.building import (
    COST_PICO,
    MODEL,
    NOW_US,
    WORST_PICO,
    a_job,
    budget,
    claim,
    ended,
    rows_of,
    send,
    spend,
    staged_run,
    stored,
    tried,
    turned,
    whole_store,
)

STORED, FENCED = Verdict.STORED, Verdict.FENCED
OVER_BUDGET, UNBOUNDED = Verdict.OVER_BUDGET, Verdict.UNBOUNDED


def kinds(store: Store) -> list[tuple[int, str, int | None, int | None]]:
    return [(row["idx"], row["kind"], row["cost_pico"], row["bound_pico"]) for row in rows_of(store, "ledger")]


def chunk_rows(store: Store) -> list[tuple[str, int, int]]:
    return [(row["state"], row["done"], row["failed"]) for row in rows_of(store, "chunks")]


# -- a call and its end -------------------------------------------------------------------------------------------


def test_a_send_reserves_its_worst_and_its_end_books_what_it_cost(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0), send(fence, 1, worst_pico=7))
    assert budget(store, run) == (0, WORST_PICO + 7)
    assert len(rows_of(store, "sends")) == 2
    stored(store, run, ended(fence, 0))
    assert budget(store, run) == (COST_PICO, 7)
    stored(store, run, ended(fence, 1))
    assert budget(store, run) == (2 * COST_PICO, 0)
    assert rows_of(store, "sends") == []
    assert kinds(store) == [(0, "spend", COST_PICO, None), (1, "spend", COST_PICO, None)]


def test_a_released_call_leaves_nothing(store: Store) -> None:
    run = staged_run(store, 1, budget_pico=10**6)
    fence = claim(store, run).fence
    before = whole_store(store)
    stored(store, run, send(fence, 0))
    stored(store, run, Settlement(fence=fence, idx=0, try_=1, turn=0, at_us=NOW_US))
    assert whole_store(store) == before


def test_a_call_of_unknown_cost_keeps_its_bound_committed(store: Store) -> None:
    run = staged_run(store, 1, budget_pico=10**6)
    fence = claim(store, run).fence
    unknown = spend(None, kind=BookingKind.UNKNOWN, bound_pico=WORST_PICO)
    stored(store, run, send(fence, 0))
    stored(store, run, tried(fence, 0, booking=unknown))
    assert (budget(store, run), kinds(store)) == ((0, WORST_PICO), [(0, "unknown", None, WORST_PICO)])
    money = store.money(run.id)
    assert (money.unknown_calls, money.unknown_bound_pico, money.uncosted) == (1, WORST_PICO, 0)


def test_an_answer_without_a_price_counts_as_uncosted(store: Store) -> None:
    run = staged_run(store, 1, budget_pico=10**6)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    stored(store, run, ended(fence, 0, booking=spend(None, bound_pico=WORST_PICO), cost_pico=None))
    money = store.money(run.id)
    assert (money.uncosted, money.unbounded, money.spent_pico, money.committed_pico) == (1, 0, 0, WORST_PICO)


def test_each_end_is_stored_whole(store: Store) -> None:
    run = staged_run(store, 3)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0, message=b"a"), tried(fence, 1), turned(fence, 2, try_=1, turn=0))
    assert [(row["idx"], row["message"]) for row in rows_of(store, "answers")] == [(0, b"a")]
    assert [(row["idx"], row["try"], row["counted"], row["kind"]) for row in rows_of(store, "attempts")] == [
        (1, 1, True, "server")
    ]
    assert [(row["idx"], row["turn"], row["message"]) for row in rows_of(store, "turns")] == [(2, 0, b"turn 1.0")]
    (found,) = store.exported(run)
    assert (found.result, found.message) == (ended(fence, 0).result, b"a")
    assert [past.error_message for past in store.attempts(run.id, 1)] == ["500"]


def test_a_row_may_end_and_another_try_be_sent_in_one_group(store: Store) -> None:
    run = staged_run(store, 1, budget_pico=WORST_PICO + COST_PICO)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    stored(store, run, turned(fence, 0, try_=1, turn=0), send(fence, 0, turn=1))
    assert budget(store, run) == (COST_PICO, WORST_PICO)
    assert [(row["try"], row["turn"]) for row in rows_of(store, "sends")] == [(1, 1)]


# -- budgets ------------------------------------------------------------------------------------------------------


def test_sends_are_admitted_in_order_as_far_as_the_budget_reaches(store: Store) -> None:
    run = staged_run(store, 5, budget_pico=100)
    fence = claim(store, run).fence
    sends = [send(fence, idx, worst_pico=worst) for idx, worst in enumerate((60, 50, 40, 1, 0))]
    assert store.commit_group(run.id, sends) == [STORED, OVER_BUDGET, STORED, OVER_BUDGET, STORED]
    assert [row["idx"] for row in rows_of(store, "sends")] == [0, 2, 4]
    assert budget(store, run) == (0, 100)


def test_what_settles_in_a_group_makes_room_for_its_sends(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=WORST_PICO)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    assert store.commit_group(run.id, [send(fence, 1, worst_pico=600)]) == [OVER_BUDGET]
    assert store.commit_group(run.id, [send(fence, 1, worst_pico=600), ended(fence, 0)]) == [STORED, STORED]
    assert budget(store, run) == (COST_PICO, 600)


def test_a_call_without_a_bound_is_not_sent_under_a_cap(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    fence = claim(store, run).fence
    assert store.commit_group(run.id, [send(fence, 0, worst_pico=None), send(fence, 1)]) == [UNBOUNDED, STORED]
    store.resume_run(run, a_job(budget_pico=None))
    assert store.commit_group(run.id, [send(fence, 0, worst_pico=None)]) == [STORED]


def test_a_cap_that_was_lowered_below_what_is_spent_admits_nothing(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0))
    store.resume_run(run, a_job(budget_pico=1))
    assert store.commit_group(run.id, [send(fence, 1, worst_pico=1)]) == [OVER_BUDGET]
    assert store.commit_group(run.id, [ended(fence, 0)]) == [STORED]


# -- tallies ------------------------------------------------------------------------------------------------------


def test_the_last_row_closes_its_chunk_exactly_once(store: Store) -> None:
    run = staged_run(store, 2, 2)
    first, second = claim(store, run).fence, claim(store, run).fence
    stored(store, run, ended(first, 0), ended(second, 2, RowStatus.ERRORED))
    assert chunk_rows(store) == [(ChunkState.RUNNING, 1, 0), (ChunkState.RUNNING, 0, 1)]
    stored(store, run, ended(first, 1, RowStatus.TRUNCATED))
    assert chunk_rows(store) == [(ChunkState.DONE, 1, 1), (ChunkState.RUNNING, 0, 1)]
    store.commit_group(run.id, [ended(first, 1, RowStatus.TRUNCATED), ended(second, 3)])
    assert chunk_rows(store) == [(ChunkState.DONE, 1, 1), (ChunkState.DONE, 1, 1)]
    tally = store.tally(run.id)
    assert (tally.staged, tally.done, tally.failed, tally.ended) == (4, 2, 2, 4)


def test_a_group_may_mix_chunks_fences_and_kinds_of_operations(store: Store) -> None:
    run = staged_run(store, 2, 2, budget_pico=10**6)
    zombie, held = claim(store, run).fence, claim(store, run).fence
    stored(store, run, send(zombie, 0), send(zombie, 1), send(held, 2))
    store.database.write(lambda c: c.exec_driver_sql("UPDATE chunks SET state = 'pending' WHERE seq = 0"))
    fresh = claim(store, run).fence
    assert (fresh.seq, fresh.epoch, held.epoch) == (0, 2, 1)
    group: list[Operation] = [
        ended(zombie, 0),
        send(fresh, 1, try_=2),
        ended(held, 2, RowStatus.REFUSED),
        send(zombie, 1, try_=2),
        tried(zombie, 1),
        send(held, 3),
    ]
    assert store.commit_group(run.id, group) == [FENCED, STORED, STORED, FENCED, FENCED, STORED]
    assert [(row["idx"], row["status"]) for row in rows_of(store, "results")] == [(0, "succeeded"), (2, "refused")]
    assert chunk_rows(store) == [(ChunkState.RUNNING, 1, 0), (ChunkState.RUNNING, 0, 1)]
    assert [(row["idx"], row["epoch"]) for row in rows_of(store, "sends")] == [(1, 2), (3, 1)]
    assert budget(store, run) == (COST_PICO, 4 * WORST_PICO)


# -- writers that lost their claim --------------------------------------------------------------------------------


@pytest.mark.parametrize("retaken", [False, True])
def test_a_fenced_writer_sends_nothing_and_its_failures_are_dropped(store: Store, retaken: bool) -> None:
    run = staged_run(store, 3)
    fence = claim(store, run).fence
    store.release_running(run.id)
    if retaken:
        claim(store, run)
    group = [send(fence, 0), ended(fence, 1, RowStatus.ERRORED), tried(fence, 2), turned(fence, 2, try_=1, turn=0)]
    assert store.commit_group(run.id, group) == [FENCED] * 4
    for table in ("sends", "results", "attempts", "turns"):
        assert rows_of(store, table) == []
    assert kinds(store) == [(2, "spend", COST_PICO, None)]


@pytest.mark.parametrize("retaken", [False, True])
def test_a_fenced_writer_s_answer_is_taken_where_there_is_none(store: Store, retaken: bool) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    store.release_running(run.id)
    if retaken:
        claim(store, run)
    assert store.commit_group(run.id, [ended(fence, 0, message=b"paid for")]) == [FENCED]
    assert [row.message for row in store.exported(run)] == [b"paid for"]
    assert store.unfinished_chunks(run.id) == 0
    assert store.tally(run.id).done == 1


def test_an_answer_that_another_one_beat_is_booked_as_duplicate(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    zombie = claim(store, run).fence
    store.release_running(run.id)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0, message=b"first"))
    assert store.commit_group(run.id, [ended(zombie, 0, message=b"late")]) == [FENCED]
    assert [row.message for row in store.exported(run)] == [b"first"]
    assert kinds(store) == [(0, "spend", COST_PICO, None), (0, "duplicate", COST_PICO, None)]
    assert budget(store, run) == (2 * COST_PICO, 0)
    assert store.money(run.id).duplicate_pico == COST_PICO
    assert store.tally(run.id).done == 1


def test_a_late_answer_to_a_call_that_was_booked_as_unknown_adds_no_second_line(store: Store) -> None:
    run = staged_run(store, 1, budget_pico=10**6)
    zombie = claim(store, run).fence
    stored(store, run, send(zombie, 0))
    store.release_running(run.id)
    claim(store, run)
    store.commit_group(run.id, [ended(zombie, 0)])
    assert kinds(store) == [(0, "unknown", None, WORST_PICO)]
    assert budget(store, run) == (0, WORST_PICO)
    assert store.tally(run.id).done == 1


@pytest.mark.parametrize("late_first", [False, True])
def test_of_two_ends_of_a_row_in_one_group_one_counts(store: Store, late_first: bool) -> None:
    run = staged_run(store, 2)
    zombie = claim(store, run).fence
    store.release_running(run.id)
    fence = claim(store, run).fence
    failed, late = ended(fence, 0, RowStatus.ERRORED, booking=spend(5)), ended(zombie, 0, message=b"late")
    group = [late, failed] if late_first else [failed, late]
    before_verdicts = [FENCED, STORED] if late_first else [STORED, FENCED]
    assert store.commit_group(run.id, group) == before_verdicts
    (found,) = store.exported(run)
    tally = store.tally(run.id)
    assert (tally.done, tally.failed) == ((1, 0) if late_first else (0, 1))
    assert (found.result.status, found.message) == (
        (RowStatus.SUCCEEDED, b"late") if late_first else (RowStatus.ERRORED, None)
    )
    assert sorted(kind for _, kind, _, _ in kinds(store)) == ["duplicate", "spend"]
    assert chunk_rows(store)[0][0] is not ChunkState.DONE


def test_calls_of_unknown_end_are_booked_when_a_run_is_canceled_and_their_late_answers_are_kept(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0), send(fence, 1))
    store.cancel_rows(run.id, NOW_US, "2026-11-21")
    assert [kind for _, kind, _, _ in kinds(store)] == ["unknown", "unknown"]
    assert store.commit_group(run.id, [ended(fence, 0), ended(fence, 1, RowStatus.ERRORED)]) == [FENCED, FENCED]
    assert [row.result.idx for row in store.exported(run)] == [0]
    assert [kind for _, kind, _, _ in kinds(store)] == ["unknown", "unknown"]
    assert budget(store, run) == (0, 2 * WORST_PICO)


# -- a commit whose answer was lost -------------------------------------------------------------------------------


def lost_answer(store: Store, run_id: int, group: list[Operation]) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts of a group and of its replay, which changes nothing."""
    first = store.commit_group(run_id, group)
    after = whole_store(store)
    second = store.commit_group(run_id, group)
    assert whole_store(store) == after
    return first, second


def test_a_replayed_group_changes_nothing_and_says_the_same(store: Store) -> None:
    run = staged_run(store, 4, 2, budget_pico=10**6)
    first, second = claim(store, run).fence, claim(store, run).fence
    stored(store, run, *(send(first, idx) for idx in range(4)))
    group = [
        ended(first, 0),
        ended(first, 1, RowStatus.REFUSED),
        tried(first, 2, booking=spend(None, kind=BookingKind.UNKNOWN, bound_pico=9)),
        send(first, 2, try_=2, worst_pico=11),
        turned(first, 3, try_=1, turn=0),
        send(first, 3, turn=1),
        send(second, 4),
    ]
    before, again = lost_answer(store, run.id, group)
    assert before == again == [STORED] * 7


def test_a_replayed_group_that_closed_its_chunk_is_still_stored(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0), send(fence, 1))
    before, again = lost_answer(store, run.id, [ended(fence, 0), ended(fence, 1, RowStatus.ERRORED)])
    assert before == again == [STORED, STORED]
    assert store.commit_group(run.id, [send(fence, 0, try_=2)]) == [FENCED]


@pytest.mark.parametrize("cap", [100, 120, 160])
def test_a_replayed_send_is_not_refused_for_the_room_that_it_took_itself(store: Store, cap: int) -> None:
    run = staged_run(store, 3, budget_pico=cap)
    fence = claim(store, run).fence
    sends: list[Operation] = [send(fence, idx, worst_pico=60) for idx in range(3)]
    before, again = lost_answer(store, run.id, sends)
    assert before == again
    assert before.count(STORED) == cap // 60


def test_a_replayed_group_of_a_fenced_writer_changes_nothing(store: Store) -> None:
    run = staged_run(store, 3)
    zombie = claim(store, run).fence
    store.release_running(run.id)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0))
    group = [ended(zombie, 0), ended(zombie, 1), tried(zombie, 2, booking=spend(3))]
    before, again = lost_answer(store, run.id, group)
    assert before == again == [FENCED] * 3


# -- words of a server --------------------------------------------------------------------------------------------


def test_words_that_no_database_can_hold_fail_no_group(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    nasty = "a\0b\udcffc\u2028"
    intent = SendIntent(fence=fence, idx=0, try_=1, turn=0, model=MODEL + nasty, worst_pico=1, at_us=1)
    words = dict.fromkeys(("key", "stop_reason", "model", "error_message", "request_id", "organization"), nasty)
    end = ended(fence, 0, booking=spend(model=nasty, request_id=nasty), **words)
    failed = tried(fence, 1)
    assert failed.attempt is not None
    stored(store, run, intent)
    stored(store, run, end, replace(failed, attempt=replace(failed.attempt, error_message=nasty)))
    (found,) = store.exported(run)
    readable = "a\\u0000b\\udcffc\u2028"
    assert (found.result.key, found.result.stop_reason, found.result.error_message) == (nasty, readable, readable)
    assert store.row_of_key(run.id, nasty) == 0
    assert store.attempts(run.id, 1)[0].error_message == readable


def test_an_empty_group_is_nothing(store: Store) -> None:
    run = staged_run(store, 1)
    assert store.commit_group(run.id, []) == []


def test_a_large_group_is_one_transaction(store: Store) -> None:
    rows = 512
    run = staged_run(store, rows, budget_pico=10**9)
    fence = claim(store, run).fence
    stored(store, run, *(send(fence, idx) for idx in range(rows)))
    stored(store, run, *(ended(fence, idx) for idx in range(rows)))
    assert (store.tally(run.id).done, store.unfinished_chunks(run.id)) == (rows, 0)
    assert budget(store, run) == (rows * COST_PICO, 0)
