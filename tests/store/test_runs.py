"""Runs: made, found again by what the same command would mean, moved only as the table of states allows."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from runner.domain.job import InputSpec, Limits, Mode, OutputSpec
from runner.domain.states import RUN_MOVES, ChunkState, PauseReason, RunState
from runner.errors import StoreFault, UsageInvalid
from runner.store.runs import MadeMeanwhile
from runner.store.store import Store
from tests.store.building import NOW_US, a_job, budget, execute, new_run, rows_of, settle_all, staged_run

EVENTS = sorted({event for moves in RUN_MOVES.values() for event in moves})


def test_a_new_run_comes_back_as_it_was_made(store: Store) -> None:
    job = a_job(budget_pico=7, repeat=3, tags={"team": "a"}, betas=("b-1",), request={"max_tokens": 9})
    asked = new_run(job, key="nightly", input_digest="d", input_bytes=70, records=5, skipped=2, output="/out.jsonl")
    run = store.create_run(asked, NOW_US)
    assert (run.job, run.key, run.fan, run.state, run.round) == (job, "nightly", 3, RunState.RUNNING, 1)
    assert (run.input_uri, run.input_digest, run.input_bytes) == ("/in/letters.jsonl", "d", 70)
    assert (run.records, run.skipped, run.output, run.created_us) == (5, 2, "/out.jsonl", NOW_US)
    assert (run.ingested_upto, run.ingest_done, run.total_rows, run.identity) == (0, False, 15, job.identity())
    assert re.fullmatch("r_[2-9a-hj-km-np-z]{6}", run.label)
    assert store.run_by_id(run.id) == store.run(run.label) == run


def test_a_run_is_found_by_the_start_of_its_label_in_any_case(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    for typed in (run.label, run.label[:5], run.label[2:], run.label[2:5], run.label.upper(), run.label[2:].upper()):
        assert store.run(typed).id == run.id


def test_a_label_that_fits_no_run_or_several_is_refused(store: Store) -> None:
    store.create_run(new_run(), NOW_US)
    with pytest.raises(UsageInvalid, match="there is no run 'r_0000'"):
        store.run("r_0000")
    for wildcard in ("%", "_", "r_%"):
        with pytest.raises(UsageInvalid, match="there is no run"):
            store.run(wildcard)
    store.create_run(new_run(), NOW_US)
    with pytest.raises(UsageInvalid, match="fits several runs"):
        store.run("r_")


def test_latest_is_the_run_made_last(store: Store) -> None:
    with pytest.raises(UsageInvalid):
        store.run("latest")
    made = [store.create_run(new_run(), NOW_US).id for _ in range(3)]
    assert store.run("latest").id == made[-1]
    assert [run.id for run in store.recent_runs(2)] == [made[2], made[1]]


@pytest.mark.parametrize("key", [None, "nightly"])
def test_a_run_that_another_process_has_made_meanwhile_is_not_made_again(store: Store, key: str | None) -> None:
    first = store.create_run(new_run(key=key), NOW_US, newest=0)
    with pytest.raises(MadeMeanwhile):
        store.create_run(new_run(key=key), NOW_US + 1, newest=0)
    store.create_run(new_run(a_job(prompt="something else")), NOW_US + 2, newest=0)
    assert [run.id for run in store.find_runs(first.identity, key)] == [first.id]


def test_a_run_is_made_again_for_whoever_knows_the_newest_one_or_wants_another_anyway(store: Store) -> None:
    first = store.create_run(new_run(), NOW_US, newest=0)
    second = store.create_run(new_run(), NOW_US + 1, newest=first.id)
    third = store.create_run(new_run(), NOW_US + 2)
    assert [run.id for run in store.find_runs(first.identity, None)] == [third.id, second.id, first.id]


def test_keyless_runs_are_found_by_what_they_ask_newest_first(store: Store) -> None:
    job, other = a_job(), a_job(prompt="something else")
    first = store.create_run(new_run(job), NOW_US)
    store.create_run(new_run(job, key="k"), NOW_US)
    store.create_run(new_run(other), NOW_US)
    second = store.create_run(new_run(replace(job, limits=Limits(concurrency=3))), NOW_US)
    assert [run.id for run in store.find_runs(job.identity(), None)] == [second.id, first.id]


def test_a_run_with_a_key_is_found_by_it_alone(store: Store) -> None:
    run = store.create_run(new_run(key="k"), NOW_US)
    assert [found.id for found in store.find_runs("any identity", "k")] == [run.id]
    assert store.find_runs(run.identity, "another") == []


def test_a_key_belongs_to_one_run(store: Store) -> None:
    store.create_run(new_run(key="k"), NOW_US)
    with pytest.raises(StoreFault):
        store.create_run(new_run(key="k"), NOW_US)
    assert len(store.recent_runs(9)) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_a_run_moves_exactly_as_the_table_of_states_says(store: Store, event: str) -> None:
    run = store.create_run(new_run(), NOW_US)
    for state in RunState:
        execute(store, f"UPDATE runs SET state = '{state}'")
        if event in RUN_MOVES[state]:
            assert store.move_run(run.id, event).state is RUN_MOVES[state][event]
        else:
            with pytest.raises(UsageInvalid, match=f"is {state}"):
                store.move_run(run.id, event)
            assert store.run_by_id(run.id).state is state


def test_a_refused_move_changes_nothing_else_either(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    with pytest.raises(UsageInvalid):
        store.move_run(run.id, "nothing in flight", ended_us=5)
    assert store.run_by_id(run.id) == run


def test_a_pause_says_why_and_a_resume_forgets_it(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    store.ask(run.id, "pause")
    assert store.wanted(run.id) == "pause"
    paused = store.pause_run(run.id, PauseReason.BILLING, "credit\0 is \udcff gone")
    assert (paused.state, paused.pause_reason, paused.wanted) == (RunState.PAUSED, PauseReason.BILLING, None)
    assert paused.pause_message == "credit\\u0000 is \\udcff gone"
    resumed = store.resume_run(paused, paused.job)
    assert (resumed.state, resumed.pause_reason, resumed.pause_message) == (RunState.RUNNING, None, None)


def test_a_resume_takes_over_what_may_change_and_nothing_of_what_is_asked(store: Store) -> None:
    job = a_job(budget_pico=10, input=InputSpec(path="a.jsonl"))
    run = store.create_run(new_run(job), NOW_US)
    wish = a_job(
        prompt="another question",
        model="another-model",
        repeat=9,
        input=InputSpec(path="b.jsonl"),
        mode=Mode.BATCH,
        output=OutputSpec(path="/new.jsonl"),
        limits=Limits(concurrency=99),
        budget_pico=20,
        tags={"a": "b"},
    )
    changed = store.resume_run(run, wish)
    assert (changed.identity, changed.job.identity(), changed.fan) == (run.identity, run.identity, 1)
    assert (changed.job.prompt, changed.job.model, changed.job.input) == (job.prompt, job.model, job.input)
    assert (changed.job.mode, changed.job.limits, changed.job.tags) == (wish.mode, wish.limits, wish.tags)
    assert (changed.job.budget_pico, changed.output) == (20, "/new.jsonl")
    assert store.money(run.id).cap_pico == 20


def test_a_resume_without_an_output_keeps_the_run_s_own(store: Store) -> None:
    run = store.create_run(new_run(output="/first.jsonl"), NOW_US)
    assert store.resume_run(run, a_job()).output == "/first.jsonl"


@pytest.mark.parametrize("cap", [None, 0, 1, 10**18])
def test_a_changed_cap_leaves_what_is_spent_and_committed(store: Store, cap: int | None) -> None:
    run = staged_run(store, 2, budget_pico=5_000)
    settle_all(store, run)
    before = budget(store, run)
    store.resume_run(run, a_job(budget_pico=cap))
    assert (store.money(run.id).cap_pico, budget(store, run)) == (cap, before)


def test_whose_key_answered_is_noted(store: Store) -> None:
    run = store.create_run(new_run(), NOW_US)
    store.note_origin(run.id, "org", "wrkspc")
    noted = store.run_by_id(run.id)
    assert (noted.organization, noted.workspace) == ("org", "wrkspc")


def test_canceling_takes_out_what_has_not_ended_and_a_new_round_puts_it_back(store: Store) -> None:
    run = staged_run(store, 1, 1, 1)
    first = store.claim_next(run.id, NOW_US, "p")
    assert first is not None
    execute(store, "UPDATE chunks SET state = 'done', done = 1 WHERE seq = 2")
    store.move_run(run.id, "cancel asked")
    store.cancel_rows(run.id, NOW_US, "2026-11-21")
    store.move_run(run.id, "nothing in flight")
    states = [row["state"] for row in rows_of(store, "chunks")]
    assert states == [ChunkState.CANCELED, ChunkState.CANCELED, ChunkState.DONE]
    assert store.unfinished_chunks(run.id) == 0
    assert store.claim_next(run.id, NOW_US, "p") is None
    store.open_round(run.id)
    assert store.unfinished_chunks(run.id) == 2
    assert store.run_by_id(run.id).state is RunState.RUNNING
