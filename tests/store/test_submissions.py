"""Submissions: rows bound and freed, moves that bear to be done twice, fences, and what listings have shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from runner.domain.listings import Listing
from runner.domain.run import Run
from runner.domain.states import BATCH_MOVES, BatchState, ChunkState, PauseReason, RowStatus
from runner.errors import RunLocked, UsageInvalid
from runner.store import batch_queries, submissions
from runner.store.group import Fence, Settlement
from runner.store.store import Store
from runner.store.submissions import IntentVerdict, Submission
from tests.store import building
from tests.store.building import (
    COST_PICO,
    NOW_US,
    PRICES,
    WORST_PICO,
    budget,
    claim,
    ended,
    every_answer_lost_once,
    execute,
    free_chunk,
    intent_of,
    line_of,
    packing,
    read,
    ready_store,
    remote,
    rows_of,
    send,
    settle_all,
    spend,
    staged_run,
    stored,
    submitted,
    tried,
    whole_store,
)

STORED, FENCED = IntentVerdict.STORED, IntentVerdict.FENCED
OVER_BUDGET, BUSY = IntentVerdict.OVER_BUDGET, IntentVerdict.BUSY
A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"
NOBODY_OVERDUE = 0


def chunk_rows(store: Store) -> list[tuple[str, int, int, int]]:
    return [(row["state"], row["done"], row["failed"], row["riding"]) for row in rows_of(store, "chunks")]


def state(store: Store, submission: str) -> BatchState:
    return store.submission(submission).state


def unchanged(store: Store, deed: Callable[[], object]) -> object:
    """Do it; nothing in the store may have changed."""
    before = whole_store(store)
    told = deed()
    assert whole_store(store) == before
    return told


def sent(store: Store, run: Run, submission: str, **told: Any) -> None:
    """All free rows of the first free chunk are being sent."""
    chunk = free_chunk(store, run)
    assert chunk is not None
    rows = [idx for idx in range(chunk.first_idx, chunk.first_idx + chunk.n) if idx not in chunk.taken]
    assert store.intend(packing(run, submission, (chunk, rows), **told), NOBODY_OVERDUE) is STORED


# -- an intent ----------------------------------------------------------------------------------------------------


def test_an_intent_binds_rows_and_reserves_what_they_may_cost(store: Store) -> None:
    run = staged_run(store, 3, 2, budget_pico=10**6)
    first, second = claim(store, run), claim(store, run)
    new = packing(run, A, (first, [0, 2]), (second, [3, 4]), worst_pico=700)
    assert store.intend(new, NOBODY_OVERDUE) is STORED
    assert budget(store, run) == (0, 700)
    assert chunk_rows(store) == [("in_batch", 0, 0, 2), ("in_batch", 0, 0, 2)]
    told = store.submission(A)
    assert (told.state, told.n, told.worst_pico, told.intent) == (BatchState.SENDING, 4, 700, new.intent)
    assert [(one.seq, one.idxs) for one in store.riding(A)] == [(0, (0, 2)), (1, (3, 4))]
    assert store.has_riding(run.id)
    assert unchanged(store, lambda: store.intend(new, NOBODY_OVERDUE)) is STORED


def test_an_intent_under_a_lost_fence_changes_nothing(store: Store) -> None:
    run = staged_run(store, 2, 2, budget_pico=10**6)
    first, second = claim(store, run), claim(store, run)
    store.release_running(run.id)
    again = claim(store, run)
    for rows in ([(first, [0])], [(again, [0]), (second, [2])], [(second, [3])]):
        told = packing(run, A, *rows)  # type: ignore[arg-type]
        assert unchanged(store, lambda new=told: store.intend(new, NOBODY_OVERDUE)) is FENCED  # type: ignore[misc]
    assert store.intend(packing(run, A, (again, [1])), NOBODY_OVERDUE) is STORED


@pytest.mark.parametrize(
    ("cap", "worst", "verdict"), [(700, 700, STORED), (699, 700, OVER_BUDGET), (10, None, OVER_BUDGET)]
)
def test_an_intent_needs_room_in_the_budget(
    store: Store, cap: int, worst: int | None, verdict: IntentVerdict
) -> None:
    run = staged_run(store, 2, budget_pico=cap)
    new = packing(run, A, (claim(store, run), [0, 1]), worst_pico=worst)
    before = whole_store(store)
    assert store.intend(new, NOBODY_OVERDUE) is verdict
    assert (whole_store(store) == before) is (verdict is OVER_BUDGET)


def test_without_a_cap_a_row_without_a_bound_may_ride(store: Store) -> None:
    run = staged_run(store, 2)
    sent(store, run, A, worst_pico=None)
    assert store.submission(A).worst_pico is None
    store.not_made(run.id, A, BatchState.REFUSED)
    assert budget(store, run) == (0, 0)


@pytest.mark.parametrize("workspace", ["w", None])
def test_one_post_at_a_time_in_a_workspace(store: Store, workspace: str | None) -> None:
    one, other = staged_run(store, 2), staged_run(store, 2)
    sent(store, one, A, workspace=workspace)
    chunk = claim(store, other)
    later = packing(other, B, (chunk, [0, 1]), workspace=workspace, at_us=NOW_US + 50)
    assert unchanged(store, lambda: store.intend(later, NOW_US - 1)) is BUSY
    elsewhere = replace(later, intent=intent_of(C, 2, workspace="v"))
    assert store.intend(elsewhere, NOW_US - 1) is STORED
    store.not_made(other.id, C, BatchState.NOT_SENT)
    again = replace(later, riders=packing(other, B, (claim(store, other), [0, 1])).riders)
    store.received(A, remote("msgbatch_a", 2), NOW_US + 1)
    assert store.intend(again, NOW_US - 1) is STORED


def test_a_post_that_must_be_over_by_now_is_of_unknown_end(store: Store) -> None:
    dead, run = staged_run(store, 2), staged_run(store, 2)
    sent(store, dead, A)
    new = packing(run, B, (claim(store, run), [0, 1]), at_us=NOW_US + 10**9)
    assert store.intend(new, NOW_US) is STORED
    assert (state(store, A), state(store, B)) == (BatchState.UNKNOWN, BatchState.SENDING)


def test_of_two_stores_that_send_at_once_one_waits(store_url: str) -> None:
    with ready_store(store_url) as one, Store.open(store_url) as other:
        runs = [staged_run(one, 2), staged_run(one, 2)]
        packed = [packing(run, name, (claim(one, run), [0, 1])) for run, name in zip(runs, (A, B), strict=True)]
        barrier, verdicts = threading.Barrier(2), {}

        def intend(store: Store, number: int) -> None:
            barrier.wait()
            verdicts[number] = store.intend(packed[number], NOW_US - 1)

        threads = [threading.Thread(target=intend, args=told) for told in ((one, 0), (other, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(verdicts.values()) == [BUSY, STORED]
        assert len(one.recent_submissions(9)) == 1


# -- done twice ---------------------------------------------------------------------------------------------------


def accepted(store: Store) -> Run:
    run = staged_run(store, 4, budget_pico=10**6)
    submitted(store, run, A)
    return run


def unknown(store: Store) -> Run:
    run = staged_run(store, 4, budget_pico=10**6)
    sent(store, run, A)
    store.end_unknown(A)
    store.note_listing(listing(remote("msgbatch_x", 4)))
    store.claim_provisionally(A, ["msgbatch_x"])
    return run


def sending(store: Store) -> Run:
    run = staged_run(store, 4, budget_pico=10**6)
    sent(store, run, A)
    return run


def half_read(store: Store) -> Run:
    run = accepted(store)
    store.batch_ended(A, remote(f"msgbatch_{A}", 4, status="ended"))
    assert store.ingest(run.id, A, 1, LINES[:2])
    return run


def let_go(store: Store) -> Run:
    run = unknown(store)
    assert store.let_go(run.id, A, **LET_GO)  # type: ignore[arg-type]
    return run


LINES: list[Settlement] = [
    line_of(A, "success", 0, 0),
    line_of(A, "again", 0, 1),
    line_of(A, "turn", 0, 2),
    line_of(A, "lost", 0, 3),
]
LET_GO = {"model": "m", "price_version": PRICES, "now_us": NOW_US}
MOVES: dict[str, tuple[Callable[[Store], Run], Callable[[Store, Run], object]]] = {
    "received": (sending, lambda store, _: store.received(A, remote("msgbatch_a", 4), NOW_US)),
    "received late": (unknown, lambda store, _: store.received(A, remote("msgbatch_a", 4), NOW_US)),
    "refused": (sending, lambda store, run: store.not_made(run.id, A, BatchState.REFUSED)),
    "not sent": (sending, lambda store, run: store.not_made(run.id, A, BatchState.NOT_SENT)),
    "end unknown": (sending, lambda store, _: store.end_unknown(A)),
    "claimed provisionally": (unknown, lambda store, _: store.claim_provisionally(A, ["msgbatch_x"])),
    "claimed": (unknown, lambda store, _: store.claim_batch(A, remote("msgbatch_x", 4))),
    "absent": (unknown, lambda store, run: store.absent(run.id, A)),
    "let go": (unknown, lambda store, run: store.let_go(run.id, A, **LET_GO)),  # type: ignore[arg-type]
    "gone": (accepted, lambda store, run: store.gone(run.id, A)),
    "ended": (accepted, lambda store, _: store.batch_ended(A, remote(f"msgbatch_{A}", 4, status="ended"))),
    "lines": (half_read, lambda store, run: store.ingest(run.id, A, 1, LINES)),
    "all lines": (half_read, lambda store, run: store.ingested(run.id, A, 1, NOW_US)),
    "foreign": (unknown, lambda store, _: store.note_foreign("msgbatch_x")),
    "duplicate": (unknown, lambda store, run: store.note_duplicate(run.id, "msgbatch_x", A, exact=True)),
    "priced": (let_go, lambda store, run: store.note_duplicate(run.id, "msgbatch_x", A, exact=True)),
    "question": (unknown, lambda store, _: store.ask_about(A, "why?")),
    "forgotten": (accepted, lambda store, _: store.forget_batch("msgbatch_x")),
}
# What these tell the second time is not what they told the first: somebody has done it already.
ONLY_ONCE = {"claimed", "absent", "let go", "gone"}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_whose_answer_was_lost_changes_nothing_the_second_time(store: Store, name: str) -> None:
    before, deed = MOVES[name]
    run = before(store)
    first = deed(store, run)
    second = unchanged(store, lambda: deed(store, run))
    assert second == (False if name in ONLY_ONCE else first)


@pytest.mark.parametrize("name", MOVES)
def test_a_move_that_is_replayed_inside_the_store_tells_the_same(store: Store, tmp_path: Path, name: str) -> None:
    """The database did it and lost the connection before it could say so: whoever asked hears what it did."""
    before, deed = MOVES[name]
    with ready_store(f"sqlite:///{tmp_path / 'plain.db'}") as plain:
        expected = deed(plain, before(plain))
        run = before(store)
        with every_answer_lost_once(store):
            told = deed(store, run)
        assert whole_store(store) == whole_store(plain)
    assert told == expected


def test_the_database_makes_the_moves_of_the_table_and_no_other(store: Store) -> None:
    run = accepted(store)
    events = sorted({event for row in BATCH_MOVES.values() for event in row})
    for was in BatchState:
        for event in events:
            set_state(store, A, was)
            made = store.database.write(lambda c, event=event: submissions.move(c, A, event))  # type: ignore[misc]
            expected = BATCH_MOVES[was].get(event)
            assert (made, state(store, A)) == (expected is not None, expected or was), (was, event)
    assert [one.id for one in store.submissions_of(run.id)] == [A]


def set_state(store: Store, submission: str, to: BatchState) -> None:
    sql = text("UPDATE batches SET state = :to WHERE submission = :one")
    store.database.write(lambda c: c.execute(sql, {"to": to.value, "one": submission}))


def test_moves_that_a_state_does_not_have_are_passed_over(store: Store) -> None:
    run = accepted(store)
    for deed in (
        lambda: store.not_made(run.id, A, BatchState.REFUSED),
        lambda: store.end_unknown(A),
        lambda: store.claim_batch(A, remote("msgbatch_x", 4)),
        lambda: store.absent(run.id, A),
        lambda: store.ingest(run.id, A, 1, LINES),
        lambda: store.ingested(run.id, A, 1, NOW_US),
    ):
        unchanged(store, deed)
    assert state(store, A) is BatchState.ACCEPTED


def test_a_batch_that_is_read_leaves_no_question(store: Store) -> None:
    run = half_read(store)
    store.ask_about(A, "where are its results?")
    assert store.ingested(run.id, A, 1, NOW_US)
    assert store.submission(A).question is None


def test_an_accepted_batch_that_is_let_go_is_nobodys_any_more(store: Store) -> None:
    """Somebody has deleted it, or it is out of reach. If it turns up again, the sweep has to see it as a stranger."""
    run = accepted(store)
    assert store.let_go(run.id, A, **LET_GO)  # type: ignore[arg-type]
    told = store.submission(A)
    assert (told.state, told.provider_id) == (BatchState.ABSENT, None)
    assert store.known_batches("o", "w", 0).owned == frozenset()
    assert store.money(run.id).unknown_bound_pico == WORST_PICO


def test_a_batch_that_has_begun_to_be_read_is_not_let_go(store: Store) -> None:
    """What is stored of it is paid for once, and would look like a duplicate."""
    run = half_read(store)
    assert not unchanged(store, lambda: store.let_go(run.id, A, **LET_GO))  # type: ignore[arg-type]


def test_an_id_that_comes_after_the_submission_was_given_up_is_nobodys(store: Store) -> None:
    run = unknown(store)
    assert store.absent(run.id, A)
    assert unchanged(store, lambda: store.received(A, remote("msgbatch_a", 4), NOW_US)) is BatchState.ABSENT
    assert store.submission(A).provider_id is None


def test_an_id_that_comes_while_somebody_settles_ends_the_settling(store: Store) -> None:
    unknown(store)
    store.ask_about(A, "why?")
    assert store.received(A, remote("msgbatch_a", 4), NOW_US) is BatchState.CLAIMED
    told = store.submission(A)
    assert (told.provider_id, told.question, told.provisional) == ("msgbatch_a", None, ())
    assert rows_of(store, "candidates") == []


# -- budgets ------------------------------------------------------------------------------------------------------


def test_what_a_batch_does_not_need_is_given_back_when_it_has_been_read(store: Store) -> None:
    run = staged_run(store, 4, budget_pico=10**6)
    submitted(store, run, A, worst_pico=4 * WORST_PICO)
    assert (budget(store, run), store.budget_room(run.id, NOW_US)) == ((0, 4_000), 10**6 - 4_000)
    read(store, run, A, *LINES)
    assert budget(store, run) == (2 * COST_PICO, WORST_PICO), "two answers, and one that may have been billed"


@pytest.mark.parametrize("end", ["refused", "not sent"])
def test_what_was_not_made_gives_all_back(store: Store, end: str) -> None:
    run = staged_run(store, 3, budget_pico=10**6)
    sent(store, run, A)
    store.not_made(run.id, A, BatchState.REFUSED if end == "refused" else BatchState.NOT_SENT)
    assert budget(store, run) == (0, 0)
    assert chunk_rows(store) == [("pending", 0, 0, 0)]


def test_what_is_absent_gives_all_back_and_what_is_let_go_nothing(store: Store) -> None:
    run = staged_run(store, 2, 2, budget_pico=10**6)
    for name in (A, B):
        sent(store, run, name)
        store.end_unknown(name)
    assert budget(store, run) == (0, 2 * WORST_PICO)
    assert store.absent(run.id, A)
    assert store.let_go(run.id, B, **LET_GO)  # type: ignore[arg-type]
    assert budget(store, run) == (0, WORST_PICO)
    (line,) = rows_of(store, "ledger")
    assert (line["kind"], line["idx"], line["cost_pico"], line["bound_pico"]) == ("unknown", None, None, WORST_PICO)
    money = store.money(run.id)
    assert (money.unknown_calls, money.unknown_bound_pico) == (1, WORST_PICO)
    assert [row[0] for row in chunk_rows(store)] == ["pending", "pending"]


def test_what_was_let_go_and_is_priced_holds_no_room_back_any_more(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    sent(store, run, A)
    store.end_unknown(A)
    assert store.let_go(run.id, A, **LET_GO)  # type: ignore[arg-type]
    store.note_duplicate(run.id, "b1", A, exact=False)
    assert budget(store, run) == (0, WORST_PICO), "a line has no price: the bound stays"
    store.note_duplicate(run.id, "b1", A, exact=True)
    assert budget(store, run) == (0, 0)
    money = store.money(run.id)
    assert (money.unknown_calls, money.unknown_bound_pico, money.uncosted, money.unbounded) == (0, 0, 0, 0)


# -- riding -------------------------------------------------------------------------------------------------------


def test_rows_left_over_are_packed_while_the_others_are_out(store: Store) -> None:
    run = staged_run(store, 6)
    submitted(store, run, A, 0, 1)
    submitted(store, run, B, 2, 4)
    assert chunk_rows(store) == [("in_batch", 0, 0, 4)]
    assert store.fresh_rows(run.id, NOW_US) == 2
    assert store.claim_next(run.id, NOW_US, PRICES) is None, "not for a live call, while others of it ride"
    chunk = free_chunk(store, run)
    assert chunk is not None
    assert chunk.taken == {0, 1, 2, 4}
    store.release_chunks(run.id, [chunk.fence])
    submitted(store, run, C)
    assert [one.idxs for one in store.riding(C)] == [(3, 5)]
    assert chunk_rows(store) == [("in_batch", 0, 0, 6)]
    assert (free_chunk(store, run), store.fresh_rows(run.id, NOW_US)) == (None, 0)


def test_a_chunk_waits_again_when_the_last_of_its_batches_has_been_read(store: Store) -> None:
    run = staged_run(store, 4)
    submitted(store, run, A, 0, 1)
    submitted(store, run, B, 2, 3)
    read(store, run, A, line_of(A, "success", 0, 0), line_of(A, "again", 0, 1))
    assert chunk_rows(store) == [("in_batch", 1, 0, 2)]
    chunk = free_chunk(store, run)
    assert chunk is not None
    assert chunk.taken == {0, 2, 3}
    assert chunk.past[1].history.counted == 1
    assert store.intend(packing(run, C, (chunk, [1])), NOBODY_OVERDUE) is STORED
    store.received(C, remote("msgbatch_c", 1), NOW_US)
    read(store, run, B, line_of(B, "success", 0, 2), line_of(B, "failure", 0, 3))
    assert chunk_rows(store) == [("in_batch", 2, 1, 1)]
    read(store, run, C, line_of(C, "success", 0, 1, try_=2))
    assert chunk_rows(store) == [("done", 3, 1, 0)]
    assert store.unfinished_chunks(run.id) == 0


def test_rows_that_go_again_are_free_only_when_the_whole_batch_has_been_read(store: Store) -> None:
    run = half_read(staged := store)
    assert chunk_rows(staged) == [("in_batch", 1, 0, 4)]
    assert free_chunk(store, run) is None
    assert store.fresh_rows(run.id, NOW_US) <= 0
    assert store.ingest(run.id, A, 1, LINES)
    assert store.ingested(run.id, A, 1, NOW_US)
    assert chunk_rows(store) == [("pending", 1, 1, 0)]
    assert store.fresh_rows(run.id, NOW_US) == 2


def test_what_rides_in_one_chunk_does_not_hide_what_is_free_in_another(store: Store) -> None:
    """While a batch is being read, its rows count as ended and as riding: no other chunk pays for that."""
    run = staged_run(store, 4, 3)
    submitted(store, run, A)
    store.batch_ended(A, remote(f"msgbatch_{A}", 4, status="ended"))
    assert store.ingest(run.id, A, 1, [line_of(A, "success", 0, idx) for idx in (0, 1, 2)])
    assert store.fresh_rows(run.id, NOW_US) == 3


def test_running_chunks_are_released_to_what_they_were(store: Store) -> None:
    run = staged_run(store, 4, 2)
    submitted(store, run, A, 0, 1)
    first, second = free_chunk(store, run), free_chunk(store, run, 0)
    assert first is not None
    assert second is not None
    assert [row[0] for row in chunk_rows(store)] == ["running", "running"]
    assert store.release_running(run.id) == 2
    assert chunk_rows(store) == [("in_batch", 0, 0, 2), ("pending", 0, 0, 0)]


def test_a_chunk_in_hand_whose_batch_has_been_read_meanwhile_stays_in_hand(store: Store) -> None:
    run = staged_run(store, 4)
    submitted(store, run, A, 0, 1)
    chunk = free_chunk(store, run)
    assert chunk is not None
    read(store, run, A, line_of(A, "success", 0, 0), line_of(A, "again", 0, 1))
    assert chunk_rows(store) == [("running", 1, 0, 0)]
    assert store.intend(packing(run, B, (chunk, [2, 3])), NOBODY_OVERDUE) is STORED
    assert chunk_rows(store) == [("in_batch", 1, 0, 2)]
    again = free_chunk(store, run)
    assert again is not None
    assert again.taken == {0, 2, 3}


def test_rows_of_a_chunk_end_live_while_others_ride(store: Store) -> None:
    run = staged_run(store, 3)
    submitted(store, run, A, 0, 1)
    chunk = free_chunk(store, run)
    assert chunk is not None
    stored(store, run, send(chunk.fence, 2), ended(chunk.fence, 2))
    store.release_chunks(run.id, [chunk.fence])
    assert chunk_rows(store) == [("in_batch", 1, 0, 2)]
    read(store, run, A, line_of(A, "success", 0, 0), line_of(A, "success", 0, 1))
    assert chunk_rows(store) == [("done", 3, 0, 0)]


def test_rows_with_a_paused_turn_are_claimed_for_live_calls_only(store: Store) -> None:
    run = staged_run(store, 3, 3)
    for name in (A, B):
        submitted(store, run, name)
    read(store, run, A, *(line_of(A, "again", 0, idx) for idx in (0, 1, 2)))
    read(store, run, B, line_of(B, "turn", 1, 3), line_of(B, "again", 1, 4), line_of(B, "success", 1, 5))
    chunk = store.claim_next(run.id, NOW_US, PRICES, building.Wanted.CONTINUED)
    assert chunk is not None
    assert (chunk.fence.seq, chunk.taken) == (1, {5})
    assert [len(chunk.past[idx].turns) for idx in (3, 4)] == [1, 0]
    stored(store, run, send(chunk.fence, 3, try_=2, turn=1), ended(chunk.fence, 3, try_=2, turn=1))
    store.release_chunks(run.id, [chunk.fence])
    assert store.claim_next(run.id, NOW_US, PRICES, building.Wanted.CONTINUED) is None


# -- results ------------------------------------------------------------------------------------------------------


def test_lines_become_results_tries_turns_and_bookings(store: Store) -> None:
    run = accepted(store)
    read(store, run, A, *LINES)
    assert [(row.result.idx, row.result.status, row.message) for row in store.exported(run)] == [
        (0, RowStatus.SUCCEEDED, b"answer to 0"),
        (3, RowStatus.ERRORED, None),
    ]
    assert [(row["idx"], row["counted"]) for row in rows_of(store, "attempts")] == [(1, True)]
    assert [(row["idx"], row["turn"]) for row in rows_of(store, "turns")] == [(2, 0)]
    lines = sorted((row["key"], row["kind"], row["cost_pico"], row["bound_pico"]) for row in rows_of(store, "ledger"))
    assert lines == [
        (f"{A}-0", "spend", COST_PICO, None),
        (f"{A}-2", "spend", COST_PICO, None),
        (f"{A}-3", "unknown", None, WORST_PICO),
    ]
    told = store.submission(A)
    assert (told.state, told.ended_us, told.ingested_us) == (BatchState.INGESTED, NOW_US + 9, NOW_US + 10)
    money = store.money_by_batch(run.id)[f"msgbatch_{A}"]
    assert (money.cost_pico, money.bound_pico) == (2 * COST_PICO, WORST_PICO)


def test_lines_that_are_read_again_after_a_crash_are_no_second_try(store: Store) -> None:
    run = half_read(store)
    assert store.submission(A).read_upto == 2
    (again,) = [one for one in store.take_up_submissions(run.id) if one.id == A]
    twice = [replace(one, try_=one.try_ + 1) for one in LINES]
    assert store.ingest(run.id, A, again.epoch, twice)
    assert [(row["idx"], row["try"]) for row in rows_of(store, "attempts")] == [(1, 1)]
    assert [(row["idx"], row["try"]) for row in rows_of(store, "turns")] == [(2, 2)]
    assert store.submission(A).read_upto == 4


@pytest.mark.parametrize("lines", [LINES, []])
def test_an_older_fence_stores_nothing(store: Store, lines: list[Settlement]) -> None:
    run = accepted(store)
    store.batch_ended(A, remote(f"msgbatch_{A}", 4, status="ended"))
    (ours,) = store.take_up_submissions(run.id)
    assert (ours.state, ours.epoch) == (BatchState.ENDED, 2)
    assert unchanged(store, lambda: store.ingest(run.id, A, 1, lines)) is False
    assert unchanged(store, lambda: store.ingested(run.id, A, 1, NOW_US)) is False
    assert store.ingest(run.id, A, 2, lines)
    assert store.ingested(run.id, A, 2, NOW_US)
    assert store.ingested(run.id, A, 1, NOW_US) is False


def test_what_is_taken_up_gets_a_new_fence_and_what_was_being_sent_is_of_unknown_end(store: Store) -> None:
    run = staged_run(store, 1, 1, 1, 1)
    submitted(store, run, A)
    submitted(store, run, B)
    read(store, run, B, line_of(B, "success", 1, 1))
    sent(store, run, C)
    told = {one.id: (one.state, one.epoch) for one in store.take_up_submissions(run.id)}
    assert told == {A: (BatchState.ACCEPTED, 2), B: (BatchState.INGESTED, 1), C: (BatchState.UNKNOWN, 2)}


def test_a_succeeded_row_keeps_its_answer_and_the_second_one_is_booked_as_a_duplicate(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    submitted(store, run, A, 0)
    chunk = free_chunk(store, run)
    assert chunk is not None
    other = spend(key=f"{B}-0", batch="msgbatch_b")
    stored(store, run, ended(chunk.fence, 0, message=b"live", booking=other))
    read(store, run, A, line_of(A, "success", 0, 0))
    (row,) = store.exported(run)
    assert row.message == b"live"
    kinds = sorted((line["key"], line["kind"]) for line in rows_of(store, "ledger"))
    assert kinds == [(f"{A}-0", "duplicate"), (f"{B}-0", "spend")]
    assert budget(store, run) == (2 * COST_PICO, 0)


# -- the hold -----------------------------------------------------------------------------------------------------


def test_whoever_has_lost_the_run_binds_nothing_and_reads_nothing(pg_url: str) -> None:
    with ready_store(pg_url) as store, Store.open(pg_url) as other:
        run = staged_run(store, 2, 2)
        store.hold(run, lambda: NOW_US)
        submitted(store, run, A)
        store.batch_ended(A, remote(f"msgbatch_{A}", 2, status="ended"))
        chunk = claim(store, run)
        sending_ = packing(run, B, (chunk, [2, 3]))
        assert store.intend(sending_, NOBODY_OVERDUE) is STORED
        assert store.is_sending(run, B)
        other.hold(run, lambda: NOW_US + 10**9)
        assert not store.is_sending(run, B)
        for deed in (
            lambda: store.take_up_submissions(run.id),
            lambda: store.intend(packing(run, C, (chunk, [2])), NOBODY_OVERDUE),
            lambda: store.ingest(run.id, A, 1, [line_of(A, "success", 0, 0)]),
        ):
            with pytest.raises(RunLocked):
                unchanged(store, deed)
        # What the service has answered is a fact, whoever holds the run by now.
        other.take_up_submissions(run.id)
        assert store.received(B, remote("msgbatch_b", 2), NOW_US) is BatchState.CLAIMED


def test_what_somebody_gave_up_is_not_sent(store: Store) -> None:
    run = staged_run(store, 2)
    sent(store, run, A)
    assert store.is_sending(run, A)
    store.end_unknown(A)
    assert not store.is_sending(run, A)
    assert not store.is_sending(run, B)


# -- rounds and cancels -------------------------------------------------------------------------------------------


def test_failed_rows_of_a_batch_ride_again_in_a_new_round(store: Store) -> None:
    run = staged_run(store, 3)
    submitted(store, run, A)
    read(store, run, A, line_of(A, "success", 0, 0), line_of(A, "failure", 0, 1), line_of(A, "lost", 0, 2))
    store.move_run(run.id, "all rows ended")
    assert store.open_round(run.id) == 2
    run = store.run_by_id(run.id)
    assert chunk_rows(store) == [("pending", 1, 0, 0)]
    chunk = free_chunk(store, run)
    assert chunk is not None
    assert (chunk.taken, chunk.past[1].last_try, chunk.past[1].history.counted) == ({0}, 1, 0)
    assert store.intend(packing(run, B, (chunk, [1, 2])), NOBODY_OVERDUE) is STORED
    assert store.submission(B).round == 2
    store.received(B, remote("msgbatch_b", 2), NOW_US)
    told = {"try_": 2, "round": 2}
    read(store, run, B, line_of(B, "success", 0, 1, **told), line_of(B, "success", 0, 2, **told))
    assert chunk_rows(store) == [("done", 3, 0, 0)]
    assert [row.result.round for row in store.exported(run)] == [1, 2, 2]


def test_a_canceled_run_keeps_what_its_batch_has_finished(store: Store) -> None:
    run = staged_run(store, 4, 2, budget_pico=10**6)
    submitted(store, run, A)
    store.cancel_rows(run.id, NOW_US, PRICES)
    assert [row[0] for row in chunk_rows(store)] == ["canceled", "canceled"]
    read(store, run, A, *LINES)
    assert chunk_rows(store)[0] == ("canceled", 1, 1, 0)
    assert budget(store, run) == (2 * COST_PICO, WORST_PICO)
    assert free_chunk(store, run) is None
    store.move_run(run.id, "cancel asked")
    store.move_run(run.id, "nothing in flight")
    store.open_round(run.id)
    assert [row[0] for row in chunk_rows(store)] == ["pending", "pending"]
    assert store.fresh_rows(run.id, NOW_US) == 5


def test_a_chunk_that_is_done_while_its_rows_ride_in_what_was_let_go_stays_done(store: Store) -> None:
    run = staged_run(store, 2, budget_pico=10**6)
    sent(store, run, A)
    store.end_unknown(A)
    store.let_go(run.id, A, **LET_GO)  # type: ignore[arg-type]
    settle_all(store, run)
    assert chunk_rows(store) == [("done", 2, 0, 0)]
    lines = [(0, replace(spend(), key=f"{A}-0@msgbatch_a", batch="msgbatch_a", kind=building.BookingKind.DUPLICATE))]
    store.note_listing(listing(remote("msgbatch_a", 2)))
    for _ in range(2):
        store.book_duplicates(run.id, lines, NOW_US)
        store.note_duplicate(run.id, "msgbatch_a", A, exact=False)
    assert budget(store, run) == (3 * COST_PICO, WORST_PICO)
    (found,) = store.duplicates_of(run.id)
    assert (found.provider_id, found.submission, found.cost_pico) == ("msgbatch_a", A, COST_PICO)


# -- what listings show -------------------------------------------------------------------------------------------


def listing(*batches: Any, taken_us: int = NOW_US, workspace: str | None = "w") -> Listing:
    return Listing(
        taken_us=taken_us,
        server_us=taken_us,
        batches=batches,
        complete_since_us=0,
        organization="o",
        workspace=workspace,
    )


def test_who_was_seen_before_keeps_his_first_time(store: Store) -> None:
    store.note_listing(listing(remote("b1", 1), remote("b2", 2)))
    store.note_listing(listing(remote("b2", 2), remote("b3", 3), taken_us=NOW_US + 7))
    store.note_listing(listing())
    known = store.known_batches("o", "w", 0)
    assert {name: one.seen_us - NOW_US for name, one in known.witnesses.items()} == {"b1": 0, "b2": 0, "b3": 7}


def test_a_long_list_is_remembered_whole(store: Store) -> None:
    batches = [remote(f"b{number}", 1) for number in range(1_201)]
    store.note_listing(listing(*batches))
    store.note_listing(listing(*batches[::-1]))
    assert len(store.known_batches("o", "w", 0).witnesses) == 1_201


def test_witnesses_are_those_of_the_place_and_not_too_old(store: Store) -> None:
    store.note_listing(listing(remote("old", 1, at_us=NOW_US - 100), remote("young", 1)))
    store.note_listing(listing(remote("elsewhere", 1), workspace="v"))
    store.note_listing(listing(remote("nowhere", 1), workspace=None))
    store.note_listing(listing(remote("timeless", 1, created_us=None)))
    assert set(store.known_batches("o", "w", NOW_US - 50).witnesses) == {"young"}
    assert set(store.known_batches("o", None, 0).witnesses) == {"nowhere"}


def test_what_is_known_of_all_runs_is_told(store: Store) -> None:
    one, other = staged_run(store, 3), staged_run(store, 2)
    submitted(store, one, A)
    sent(store, other, B)
    store.note_listing(listing(remote("b1", 3), remote("b2", 2), remote("b3", 2)))
    store.note_foreign("b1")
    store.note_duplicate(one.id, "b2", A, exact=False)
    store.claim_provisionally(B, ["b3"])
    known = store.known_batches("o", "w", 0)
    assert known.owned == {f"msgbatch_{A}"}
    assert (known.foreign, known.duplicates, known.sizes) == ({"b1"}, {"b2"}, {2, 3})
    assert [intent.submission for intent in known.unsettled] == [B]
    assert (known.claimed_elsewhere(A), known.claimed_elsewhere(B)) == ({"b3"}, frozenset())
    assert store.submission(A).provisional == ()


def test_a_batch_that_has_an_owner_is_nobodys_candidate(store: Store) -> None:
    one, other = staged_run(store, 2), staged_run(store, 2)
    for run, name in ((one, A), (other, B)):
        sent(store, run, name)
        store.end_unknown(name)
    store.note_listing(listing(remote("b1", 2), remote("b2", 2)))
    for name in (A, B):
        store.claim_provisionally(name, ["b1", "b2"])
    assert store.claim_batch(A, remote("b1", 2))
    assert store.known_batches("o", "w", 0).candidates == {B: {"b2"}}
    store.forget_batch("b1")
    assert set(store.known_batches("o", "w", 0).witnesses) == {"b2"}


def test_a_deleted_batch_is_no_witness_but_a_duplicate_stays_known(store: Store) -> None:
    run = staged_run(store, 2)
    submitted(store, run, A)
    store.note_listing(listing(remote("b1", 2), remote("b2", 2)))
    store.note_duplicate(run.id, "b2", A, exact=False)
    for name in ("b1", "b2", "never seen"):
        store.forget_batch(name)
    known = store.known_batches("o", "w", 0)
    assert (set(known.witnesses), known.duplicates) == ({"b2"}, {"b2"})


# -- by name ------------------------------------------------------------------------------------------------------


def test_a_submission_is_found_by_a_beginning_of_its_id_or_by_that_of_the_service(store: Store) -> None:
    run = staged_run(store, 1, 1)
    submitted(store, run, A)
    submitted(store, run, "aaaaaaaaab")
    assert store.submission(A).id == A
    assert store.submission(f"msgbatch_{A}").id == A
    for name, error in (("aaa", "ambiguous-batch"), ("zzz", "no-batch"), ("", "ambiguous-batch"), ("%", "no-batch")):
        with pytest.raises(UsageInvalid) as told:
            store.submission(name)
        assert told.value.name == error
    assert store.submission_or_none("aaa") is None


def test_submissions_are_told_oldest_first_of_a_run_and_newest_first_of_all(store: Store) -> None:
    one, other = staged_run(store, 1, 1), staged_run(store, 1)
    for number, (run, name) in enumerate(((one, A), (other, B), (one, C))):
        sent(store, run, name, at_us=NOW_US + number, workspace=name)
    assert [told.id for told in store.submissions_of(one.id)] == [A, C]
    assert [told.id for told in store.recent_submissions(2)] == [C, B]


def test_a_pause_leaves_what_rides_alone(store: Store) -> None:
    run = staged_run(store, 2, 2)
    submitted(store, run, A)
    store.pause_run(run.id, PauseReason.SUBMITTED, "2 rows")
    assert store.has_riding(run.id)
    assert chunk_rows(store) == [("in_batch", 0, 0, 2), ("pending", 0, 0, 0)]


def test_the_database_keeps_a_second_post_out_whatever_anybody_thinks(store: Store) -> None:
    """Should the look before the intent ever miss one, the index does not."""
    one, other = staged_run(store, 1), staged_run(store, 1)
    sent(store, one, A)
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        execute(
            store,
            "INSERT INTO batches (submission, run, round, n, state, epoch, body_hash, body_bytes, reserved_pico,"
            f" key_fingerprint, workspace) VALUES ('{B}', {other.id}, 1, 1, 'sending', 1, 'h', 1, 0, 'k', 'w')",
        )


def value_of(store: Store, submission: str) -> Submission:
    return store.submission(submission)


def test_riding_states_are_those_with_rows_in_them(store: Store) -> None:
    run = staged_run(store, 2)
    sent(store, run, A)
    for event, riding in (("end unknown", True), ("settled and not listed", False)):
        store.database.write(lambda c, name=event: c.execute(batch_queries.move_batch(A, name)))  # type: ignore[misc]
        assert store.has_riding(run.id) is riding
    assert Fence(seq=0, epoch=0) != claim_or_none(store, run)
    assert chunk_rows(store)[0][0] == ChunkState.IN_BATCH


def claim_or_none(store: Store, run: Run) -> Fence | None:
    found = store.claim_next(run.id, NOW_US, PRICES)
    return None if found is None else found.fence


def test_a_try_of_a_row_before_it_rides_is_told_with_it(store: Store) -> None:
    run = staged_run(store, 2)
    chunk = claim(store, run)
    stored(store, run, send(chunk.fence, 0), tried(chunk.fence, 0))
    store.release_running(run.id)
    submitted(store, run, A)
    lines, past, ended_ = store.riding_records(run.id, store.riding(A))
    assert lines == {0: [b'{"n":0}', b'{"n":1}']}
    assert (past[0].last_try, past[0].history.counted) == (1, 1)
    assert ended_ == frozenset()
