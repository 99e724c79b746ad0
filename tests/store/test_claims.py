"""Claims: the first chunk that is due, its fence raised, its past told, and lost calls put in the books."""

from __future__ import annotations

from runner.domain.states import ChunkState, RowStatus
from runner.store.claims import PastTries, StoredTurn
from runner.store.store import Store
from tests.store.building import (
    COST_PICO,
    NOW_US,
    PRICES,
    WORST_PICO,
    budget,
    claim,
    ended,
    execute,
    rows_of,
    send,
    settle_all,
    staged_run,
    stored,
    tried,
    turned,
)


def test_chunks_are_claimed_in_order_each_once(store: Store) -> None:
    run = staged_run(store, 2, 3, 1)
    other = staged_run(store, 4)
    seen = [claim(store, run) for _ in range(3)]
    assert [(c.fence.seq, c.first_idx, c.n, c.first_record) for c in seen] == [
        (0, 0, 2, 0),
        (1, 2, 3, 2),
        (2, 5, 1, 5),
    ]
    assert store.claim_next(run.id, NOW_US, PRICES) is None
    assert claim(store, other).n == 4


def test_the_fence_goes_up_with_every_claim(store: Store) -> None:
    run = staged_run(store, 1, 1)
    for epoch in (1, 2, 3):
        assert [claim(store, run).fence.epoch, claim(store, run).fence.epoch] == [epoch, epoch]
        assert store.release_running(run.id) == 2


def test_released_are_only_chunks_that_run(store: Store) -> None:
    run, other = staged_run(store, 1, 1, 1), staged_run(store, 1)
    done = claim(store, run)
    stored(store, run, ended(done.fence, 0))
    claim(store, run)
    claim(store, other)
    assert store.release_running(run.id) == 1
    states = [row["state"] for row in rows_of(store, "chunks")]
    assert states == [ChunkState.DONE, ChunkState.PENDING, ChunkState.PENDING, ChunkState.RUNNING]


def test_a_chunk_waits_for_its_time(store: Store) -> None:
    run = staged_run(store, 1, 1)
    execute(store, f"UPDATE chunks SET next_at_us = {NOW_US + 10} WHERE seq = 0")
    assert claim(store, run).fence.seq == 1
    assert store.claim_next(run.id, NOW_US + 9, PRICES) is None
    assert claim(store, run, NOW_US + 10).fence.seq == 0


def test_a_chunk_that_is_being_claimed_is_passed_over(pg_url: str) -> None:
    from runner.store import claims
    from tests.store.building import ready_store

    with ready_store(pg_url) as store:
        run = staged_run(store, 1, 1)
        with store.database._writer.begin() as halfway:
            first = claims.claim_next(halfway, run.id, NOW_US, PRICES)
            second = claim(store, run)
    assert first is not None
    assert (first.fence.seq, second.fence.seq) == (0, 1)


def test_rows_that_have_ended_are_left_out(store: Store) -> None:
    run = staged_run(store, 2, 4)
    claim(store, run)
    second = claim(store, run)
    stored(store, run, ended(second.fence, 3), ended(second.fence, 5, RowStatus.REFUSED))
    store.release_running(run.id)
    claim(store, run)
    assert claim(store, run).taken == {3, 5}


def test_a_row_without_a_past_has_none(store: Store) -> None:
    run = staged_run(store, 3)
    assert claim(store, run).past == {}


def test_a_lost_call_is_booked_once_at_its_worst_and_uses_up_no_attempt(store: Store) -> None:
    run = staged_run(store, 3)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0, try_=4), send(fence, 2, worst_pico=None))
    assert budget(store, run) == (0, WORST_PICO)
    for _ in range(2):
        store.release_running(run.id)
        again = claim(store, run, NOW_US + 7)
    lines = [(row["idx"], row["kind"], row["cost_pico"], row["bound_pico"]) for row in rows_of(store, "ledger")]
    assert lines == [(0, "unknown", None, WORST_PICO), (2, "unknown", None, None)]
    assert rows_of(store, "sends") == []
    assert budget(store, run) == (0, WORST_PICO)
    assert {idx: (past.last_try, past.history.counted) for idx, past in again.past.items()} == {0: (4, 0), 2: (1, 0)}
    money = store.money(run.id)
    assert (money.unknown_calls, money.unknown_bound_pico, money.unbounded) == (2, WORST_PICO, 1)


def test_a_lost_call_without_a_bound_is_booked_where_no_cap_is_set(store: Store) -> None:
    run = staged_run(store, 1)
    stored(store, run, send(claim(store, run).fence, 0, worst_pico=None))
    store.release_running(run.id)
    claim(store, run)
    assert [row["bound_pico"] for row in rows_of(store, "ledger")] == [None]


def test_only_lost_calls_of_the_claimed_chunk_are_booked(store: Store) -> None:
    run = staged_run(store, 1, 1)
    first, second = claim(store, run).fence, claim(store, run).fence
    stored(store, run, send(first, 0), send(second, 1))
    store.release_running(run.id)
    claim(store, run)
    assert [row["idx"] for row in rows_of(store, "ledger")] == [0]
    assert [row["idx"] for row in rows_of(store, "sends")] == [1]


def test_the_past_counts_tries_that_used_up_an_attempt_in_this_round(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, tried(fence, 0, try_=1), tried(fence, 0, try_=2, counted=False), tried(fence, 0, try_=5))
    store.release_running(run.id)
    past = claim(store, run).past
    assert set(past) == {0}
    assert (past[0].last_try, past[0].history.counted, past[0].history.last_try_us) == (5, 2, NOW_US + 1)


def test_attempts_are_counted_afresh_in_a_new_round_while_tries_go_on(store: Store) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    stored(store, run, tried(fence, 0, try_=1), ended(fence, 0, RowStatus.ERRORED, try_=2))
    store.move_run(run.id, "all rows ended")
    assert store.open_round(run.id) == 1
    past = claim(store, run).past[0]
    assert (past.last_try, past.history.counted) == (2, 0)


def test_turns_of_an_unfinished_row_are_gone_on_with_across_tries(store: Store) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    stored(store, run, turned(fence, 0, try_=1, turn=0))
    stored(store, run, turned(fence, 0, try_=1, turn=1))
    stored(store, run, tried(fence, 0, try_=1))
    stored(store, run, turned(fence, 0, try_=2, turn=2), send(fence, 0, try_=2, turn=3))
    store.release_running(run.id)
    past = claim(store, run).past[0]
    assert [turn.message for turn in past.turns] == [b"turn 1.0", b"turn 1.1", b"turn 2.2"]
    assert (past.last_try, past.history.turns, past.history.counted) == (2, 3, 1)
    assert past.turns[0] == StoredTurn(message=b"turn 1.0", usage=b"{}", cost_pico=COST_PICO)


def test_turns_of_a_failed_row_are_not_taken_into_the_next_round(store: Store) -> None:
    run = staged_run(store, 1)
    fence = claim(store, run).fence
    stored(store, run, turned(fence, 0, try_=1, turn=0), tried(fence, 0, try_=1))
    stored(store, run, turned(fence, 0, try_=2, turn=1))
    stored(store, run, ended(fence, 0, RowStatus.ERRORED, try_=2, turn=2))
    store.move_run(run.id, "all rows ended")
    store.open_round(run.id)
    past: PastTries = claim(store, run).past[0]
    assert (past.turns, past.history.turns, past.last_try) == ((), 0, 2)


def test_a_claim_whose_answer_was_lost_is_told_again(store: Store) -> None:
    from tests.store.building import every_answer_lost_once

    run = staged_run(store, 1, 1)
    stored(store, run, send(claim(store, run).fence, 0))
    store.release_running(run.id)
    with every_answer_lost_once(store):
        again = claim(store, run)
        assert (again.fence.seq, again.fence.epoch, again.past[0].last_try) == (0, 2, 1)
        assert claim(store, run).fence.seq == 1
        assert store.claim_next(run.id, NOW_US, PRICES) is None
    assert len(rows_of(store, "ledger")) == 1


def test_a_finished_run_has_nothing_to_claim(store: Store) -> None:
    run = staged_run(store, 2, 2)
    settle_all(store, run)
    assert (store.unfinished_chunks(run.id), store.claim_next(run.id, NOW_US, PRICES)) == (0, None)


def test_a_lost_call_in_a_chunk_that_another_answer_has_closed_is_booked_too(store: Store) -> None:
    """A call of the dead holder is in flight while the late answer of the one before ends the chunk's last row: no
    claim finds it any more."""
    run = staged_run(store, 1)
    first = claim(store, run).fence
    stored(store, run, send(first, 0))
    store.release_running(run.id)
    second = claim(store, run).fence
    stored(store, run, send(second, 0, try_=2))
    store.commit_group(run.id, [ended(first, 0)])
    assert store.unfinished_chunks(run.id) == 0
    assert store.money(run.id).unknown_calls == 1

    store.book_left_over(run.id, NOW_US, PRICES)
    store.book_left_over(run.id, NOW_US, PRICES)
    money = store.money(run.id)
    assert (money.unknown_calls, money.unknown_bound_pico) == (2, 2 * WORST_PICO)
    assert money.committed_pico == money.unknown_bound_pico


def test_a_call_in_flight_in_an_open_chunk_is_left_alone(store: Store) -> None:
    run = staged_run(store, 2)
    fence = claim(store, run).fence
    stored(store, run, send(fence, 0), send(fence, 1))
    stored(store, run, ended(fence, 0))
    store.book_left_over(run.id, NOW_US, PRICES)
    assert store.money(run.id).unknown_calls == 0
