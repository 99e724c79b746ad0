"""Final is final; what failed goes again in a round of its own, its past kept."""

from __future__ import annotations

import pytest

from runner.domain.states import ChunkState, RowStatus, RunState
from runner.errors import StoreFault
from runner.store.store import Store
from tests.store.building import (
    NOW_US,
    claim,
    ended,
    every_answer_lost_once,
    execute,
    rows_of,
    settle_all,
    staged_run,
    stored,
    whole_store,
)

FAILED = [status for status in RowStatus if status is not RowStatus.SUCCEEDED]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE results SET status = 'errored' WHERE idx = 0",
        "UPDATE results SET status = 'succeeded', cost_pico = 1 WHERE idx = 0",
        "UPDATE results SET idx = 77 WHERE idx = 0",
        "DELETE FROM results WHERE idx = 0",
        "DELETE FROM results",
    ],
)
def test_the_database_refuses_to_change_a_succeeded_result(store: Store, statement: str) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0), ended(fence, 1, RowStatus.ERRORED))
    before = whole_store(store)
    with pytest.raises(StoreFault, match="a succeeded result never changes"):
        execute(store, statement)
    assert whole_store(store) == before


@pytest.mark.parametrize("status", FAILED)
def test_a_new_round_moves_a_failed_result_into_the_attempts(store: Store, status: RowStatus) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, ended(fence, 0, message=b"good"), ended(fence, 1, status, try_=3, message=b"cut"))
    store.move_run(run.id, "all rows ended", ended_us=NOW_US)
    assert store.open_round(run.id) == 1
    again = store.run_by_id(run.id)
    assert (again.state, again.round, again.ended_us) == (RunState.RUNNING, 2, None)
    assert [row["idx"] for row in rows_of(store, "results")] == [0]
    assert [row["idx"] for row in rows_of(store, "answers")] == [0]
    (past,) = rows_of(store, "attempts")
    kept = None if status is RowStatus.ERRORED else b"cut"
    assert (past["idx"], past["try"], past["kind"], past["round"], past["counted"]) == (1, 3, status, 1, True)
    assert past["message"] == kept
    assert [(row["state"], row["done"], row["failed"]) for row in rows_of(store, "chunks")] == [
        (ChunkState.PENDING, 1, 0)
    ]
    chunk = claim(store, run)
    assert (chunk.taken, chunk.past[1].last_try) == ({0}, 3)


def test_a_second_round_opened_at_once_changes_nothing(store: Store) -> None:
    run = staged_run(store, 2)
    settle_all(store, run, RowStatus.REFUSED)
    store.move_run(run.id, "all rows ended")
    assert store.open_round(run.id) == 2
    before = whole_store(store)
    assert store.open_round(run.id) == 0
    assert whole_store(store) == before


def test_every_round_counts_up_and_keeps_the_tries_of_those_before(store: Store) -> None:
    run = staged_run(store, 1, 2)
    for round_ in (1, 2, 3):
        settle_all(store, run, RowStatus.TRUNCATED)
        store.move_run(run.id, "all rows ended")
        assert store.run_by_id(run.id).round == round_
        assert store.open_round(run.id) == 3
    settle_all(store, run)
    store.move_run(run.id, "all rows succeeded")
    assert [(past.round, past.try_) for past in store.attempts(run.id, 2)] == [(1, 1), (2, 2), (3, 3)]
    assert {row.result.round for row in store.exported(run)} == {4}
    assert (store.tally(run.id).done, store.tally(run.id).failed) == (3, 0)


def test_rounds_of_one_run_leave_others_alone(store: Store) -> None:
    run, other = staged_run(store, 1), staged_run(store, 1)
    for each in (run, other):
        settle_all(store, each, RowStatus.ERRORED)
        store.move_run(each.id, "all rows ended")
    store.open_round(run.id)
    assert (store.tally(run.id).failed, store.tally(other.id).failed) == (0, 1)
    assert store.run_by_id(other.id).state is RunState.DONE_WITH_FAILURES


def test_a_round_whose_answer_was_lost_still_says_how_many_rows_go_again(store: Store) -> None:
    run = staged_run(store, 3)
    settle_all(store, run, RowStatus.ERRORED)
    store.move_run(run.id, "all rows ended")
    with every_answer_lost_once(store):
        assert store.open_round(run.id) == 3
    assert store.run_by_id(run.id).round == 2


def test_failures_are_told_by_how_they_ended(store: Store) -> None:
    run = staged_run(store, 4)
    fence = claim(store, run).fence
    refused = ended(fence, 3, RowStatus.REFUSED, stop_reason="refusal")
    errored = [ended(fence, 1, RowStatus.ERRORED), ended(fence, 2, RowStatus.ERRORED, attempts=4)]
    stored(store, run, ended(fence, 0), *errored, refused)
    groups = store.failures(run.id)
    assert [(g.status, g.error_type, g.rows, g.attempts, g.example.idx) for g in groups] == [
        (RowStatus.ERRORED, "invalid_request_error", 2, 4, 1),
        (RowStatus.REFUSED, None, 1, 1, 3),
    ]
    told = [(count.status, count.stop_reason, count.rows) for count in store.statuses(run.id)]
    assert told == [
        (RowStatus.ERRORED, None, 2),
        (RowStatus.REFUSED, "refusal", 1),
        (RowStatus.SUCCEEDED, "end_turn", 1),
    ]
    assert (store.tokens(run.id).input_tokens, store.tokens(run.id).output_tokens) == (20, 6)
