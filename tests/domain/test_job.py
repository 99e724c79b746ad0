"""The identity of a job, and the snapshot that a run keeps of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from runner.domain.budget import Reserve
from runner.domain.job import (
    CHANGEABLE_FIELDS,
    IDENTITY_FIELDS,
    AnswerSpec,
    AutoSpec,
    BatchSpec,
    BudgetSpec,
    DeleteAfter,
    FilesSpec,
    FilesStay,
    InputSpec,
    Job,
    Limits,
    Match,
    Mode,
    OnBadRow,
    OutputSpec,
    PromptCache,
    Variant,
    WarmCache,
)
from runner.domain.notify import NotifyRule, Occasion
from runner.domain.packing import Packer
from runner.domain.schedule import ScheduleSpec
from runner.domain.submission import OnUnknown

JOB = Job(
    name="tickets",
    model="claude-haiku-5-5",
    prompt="Say something about {{ text }}",
    system="Kurz, bitte.",
    request={"max_tokens": 100, "metadata": {"user_id": "u", "b": 1}, "stop_sequences": ["§"]},
    params={"date": "2026-11-21", "n": 3},
    input=InputSpec(path="rows.jsonl", id="ticket"),
    betas=("a-2026-01-01",),
    headers={"x-team": "support"},
    output=OutputSpec(path="out.jsonl"),
    limits=Limits(rpm=50, max_failures_share=0.01),
    budget_pico=5 * 10**12,
    tags={"team": "support"},
)

OTHER_QUESTIONS: dict[str, object] = {
    "name": "other",
    "model": "claude-opus-5-5",
    "prompt": "Say something else about {{ text }}",
    "system": None,
    "request": {"max_tokens": 101},
    "params": {"date": "2026-11-22", "n": 3},
    "variants": (Variant(name="dear", model="claude-opus-5-5"),),
    "match": Match.FIRST,
    "repeat": 2,
    "answer": AnswerSpec(reask=5),
    "input": InputSpec(path="other.jsonl", id="ticket"),
    "api_version": "2023-06-01",
    "betas": (),
    "ask_once": True,
    "answer_cache": True,
    "answer_max_age_s": 86_400.0,
    "headers": {},
    "base_url": "http://127.0.0.1:8080",
    "simulated": True,
}
OTHER_WAYS: dict[str, object] = {
    "mode": Mode.BATCH,
    "output": OutputSpec(path="elsewhere.jsonl"),
    "limits": Limits(concurrency=1),
    "budget_pico": None,
    "budget": BudgetSpec(per_day_pico=5, reserve=Reserve.LIKELY),
    "tags": {},
    "prompt_cache": PromptCache.NEVER,
    "batch": BatchSpec(max_requests=10, on_unknown=OnUnknown.RESUBMIT),
    "auto": AutoSpec(threshold=1, finish_by="6h"),
    "schedule": ScheduleSpec(cron="30 2 * * *"),
    "notify": (NotifyRule(on=(Occasion.FAILED,), command=("page",)),),
    "files": FilesSpec(max_bytes=5, delete_after=FilesStay.RUN),
    "allow": ("prefill",),
    "instead": Variant(name="retry", model="claude-opus-5-5"),
    "later": ("eval",),
}


def test_every_field_is_either_identity_or_may_change() -> None:
    assert set(OTHER_QUESTIONS) == {*IDENTITY_FIELDS, "input"}
    assert set(OTHER_WAYS) == set(CHANGEABLE_FIELDS)
    assert {*OTHER_QUESTIONS, *OTHER_WAYS} == {f.name for f in fields(Job)}


@pytest.mark.parametrize("name", sorted(OTHER_QUESTIONS))
def test_asking_something_else_is_another_identity(name: str) -> None:
    assert replace(JOB, **{name: OTHER_QUESTIONS[name]}).identity() != JOB.identity()


@pytest.mark.parametrize(
    "change",
    [{"path": "b.jsonl"}, {"id": "number"}, {"limit": 10}, {"on_bad_row": OnBadRow.SKIP}],
    ids=lambda change: next(iter(change)),
)
def test_each_part_of_the_input_belongs_to_the_identity(change: dict[str, object]) -> None:
    assert replace(JOB, input=replace(JOB.input, **change)).identity() != JOB.identity()


@pytest.mark.parametrize("name", sorted(OTHER_WAYS))
def test_how_fast_how_dear_and_where_to_is_no_part_of_the_identity(name: str) -> None:
    assert replace(JOB, **{name: OTHER_WAYS[name]}).identity() == JOB.identity()


def test_the_order_of_keys_is_no_part_of_the_identity() -> None:
    turned = {key: JOB.request[key] for key in reversed(JOB.request)}
    assert replace(JOB, request=turned).identity() == JOB.identity()


def test_the_identity_is_the_same_on_every_day_and_machine() -> None:
    """If this value changes, an unfinished run of the release before is no longer found by its job."""
    assert Job(name="a", model="b", prompt="c").identity() == PINNED


PINNED = "194575c6ccee37ad81fb3811bd8f896e"


NAMES = st.text(min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
JOBS = st.builds(
    Job,
    name=NAMES,
    model=st.none() | NAMES,
    prompt=st.none() | st.text(),
    system=st.none() | st.text(),
    request=st.dictionaries(NAMES, JSON, max_size=3),
    params=st.dictionaries(NAMES, JSON, max_size=3),
    repeat=st.integers(1, 9),
    input=st.builds(
        InputSpec, path=st.none() | NAMES, on_bad_row=st.sampled_from(OnBadRow), limit=st.none() | st.integers(1)
    ),
    betas=st.lists(NAMES, max_size=2).map(tuple),
    headers=st.dictionaries(NAMES, NAMES, max_size=2),
    mode=st.sampled_from(Mode),
    output=st.builds(OutputSpec, path=st.none() | NAMES),
    limits=st.builds(Limits, rpm=st.none() | st.integers(1), stall_s=st.floats(1, 1e6)),
    budget_pico=st.none() | st.integers(0),
    budget=st.builds(BudgetSpec, per_month_pico=st.none() | st.integers(0), reserve=st.sampled_from(Reserve)),
    tags=st.dictionaries(NAMES, NAMES, max_size=2),
    batch=st.builds(
        BatchSpec,
        max_requests=st.none() | st.integers(1, 100_000),
        max_bytes=st.integers(1, 256_000_000),
        max_queued=st.none() | st.integers(1),
        on_unknown=st.sampled_from(OnUnknown),
        workspace_exclusive=st.booleans(),
        delete_after=st.sampled_from(DeleteAfter),
        probe=st.booleans(),
        warm_cache=st.sampled_from(WarmCache),
    ),
    prompt_cache=st.sampled_from(PromptCache),
    auto=st.builds(AutoSpec, threshold=st.integers(1), finish_by=st.none() | st.sampled_from(["6h", "08:00"])),
)


@given(JOBS)
def test_a_snapshot_gives_back_the_same_job(job: Job) -> None:
    again = Job.from_json(job.to_json())
    assert again == job
    assert again.identity() == job.identity()
    assert (type(again.mode), type(again.input.on_bad_row)) == (Mode, OnBadRow)
    words = (again.batch.on_unknown, again.batch.delete_after, again.batch.warm_cache)
    assert tuple(map(type, words)) == (OnUnknown, DeleteAfter, WarmCache)


def test_a_snapshot_from_before_there_were_batches_is_read() -> None:
    told = json.loads(JOB.to_json())
    del told["batch"], told["auto"], told["prompt_cache"]
    assert Job.from_json(json.dumps(told)) == JOB


def test_a_snapshot_with_some_of_the_batch_keys_has_the_defaults_for_the_others() -> None:
    told = json.loads(JOB.to_json())
    told["batch"], told["auto"] = {"on_unknown": "cancel", "workspace_exclusive": True}, {"threshold": 5}
    job = Job.from_json(json.dumps(told))
    assert job.batch == BatchSpec(on_unknown=OnUnknown.CANCEL, workspace_exclusive=True)
    assert job.auto == AutoSpec(threshold=5)


def test_what_a_job_says_of_batches_by_default_a_packer_takes() -> None:
    assert Packer(max_bytes=BatchSpec().max_bytes).max_bytes == BatchSpec().max_bytes


@given(st.text(max_size=5))
def test_a_snapshot_can_always_be_stored(text: str) -> None:
    """Lone surrogates are what YAML escapes can hold and no database will take."""
    told = Job(name="a", prompt=text + "\ud800").to_json()
    assert Job.from_json(told.encode().decode()).prompt == text + "\ud800"


def test_a_resumed_run_keeps_its_question_and_takes_the_new_ways() -> None:
    other = replace(JOB, **OTHER_QUESTIONS, **OTHER_WAYS)
    resumed = JOB.with_changes_of(other)
    assert resumed.identity() == JOB.identity()
    assert resumed == replace(JOB, **OTHER_WAYS)


def test_the_retry_policy_takes_its_bounds_from_the_limits() -> None:
    policy = Limits(max_attempts=2, max_turns=3).policy()
    assert (policy.max_attempts, policy.max_turns) == (2, 3)
