"""SQLite and PostgreSQL hold the same: after any steps, for any bytes, and after answers that were lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from runner.domain.outcome import Usage
from runner.domain.result import ExportedRow
from runner.domain.states import PauseReason, RowStatus
from runner.store.staging import pack
from runner.store.store import Store
from tests.store.batch_machine import BatchesOfTwoStores
from tests.store.building import (
    NOW_US,
    a_job,
    claim,
    ended,
    every_answer_lost_once,
    new_run,
    ready_store,
    send,
    settle_all,
    staged_run,
    tried,
    turned,
    whole,
    whole_store,
)
from tests.store.machine import RunsOfTwoStores

LIMITS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much)


@pytest.fixture
def both(tmp_path: Path, pg_url: str) -> Iterator[tuple[Store, Store]]:
    with ready_store(f"sqlite:///{tmp_path / 'alike.db'}") as sqlite, ready_store(pg_url) as postgresql:
        yield sqlite, postgresql


@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 15), pytest.param(300, 40, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_any_steps_leave_both_stores_as_the_model_says(both: tuple[Store, Store], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: RunsOfTwoStores(both),
        settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=LIMITS),
    )


@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 20), pytest.param(300, 50, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_any_steps_leave_sqlite_as_the_model_says(tmp_path: Path, examples: int, steps: int) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        run_state_machine_as_test(
            lambda: RunsOfTwoStores([store]),
            settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=LIMITS),
        )


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 20), pytest.param(300, 50, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_any_steps_of_submissions_leave_both_stores_as_the_model_says(
    both: tuple[Store, Store], examples: int, steps: int
) -> None:
    run_state_machine_as_test(
        lambda: BatchesOfTwoStores(both),
        settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=LIMITS),
    )


@pytest.mark.parametrize(
    ("examples", "steps"), [(25, 25), pytest.param(500, 60, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_any_steps_of_submissions_leave_sqlite_as_the_model_says(tmp_path: Path, examples: int, steps: int) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        run_state_machine_as_test(
            lambda: BatchesOfTwoStores([store]),
            settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=LIMITS),
        )


nasty_text = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["\0", "\udcff", "\u2028", "'\"\\"])
nasty_bytes = st.binary(max_size=30) | st.sampled_from([b"", b"\0", b"\xff\xfe", "\u2028\u0085".encode()])
counts = st.integers(0, 2**40)


def usages() -> st.SearchStrategy[Usage | None]:
    names = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens")
    return st.none() | st.builds(Usage, **dict.fromkeys(names, counts), web_searches=st.integers(0, 99))


results: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "status": st.sampled_from(RowStatus),
        "message": st.none() | nasty_bytes,
        "key": st.none() | nasty_text,
        "stop_reason": st.none() | nasty_text,
        "model": st.none() | nasty_text,
        "error_type": st.none() | nasty_text,
        "error_message": st.none() | nasty_text,
        "request_id": st.none() | nasty_text,
        "usage": usages(),
        "cost_pico": st.none() | st.integers(0, 2**62),
        "latency_us": st.none() | counts,
    }
)
lines = nasty_bytes.map(lambda line: line.replace(b"\n", b" "))


@settings(max_examples=40, suppress_health_check=LIMITS)
@given(rows=st.lists(st.tuples(lines, results), min_size=1, max_size=5))
def test_any_bytes_come_out_of_both_stores_as_they_went_in(
    both: tuple[Store, Store], rows: list[tuple[bytes, dict[str, Any]]]
) -> None:
    exports: list[list[ExportedRow]] = []
    for store in both:
        run = store.create_run(new_run(), NOW_US)
        store.stage(run, [pack(0, 0, [line for line, _ in rows])], whole(len(rows)))
        fence = claim(store, run).fence
        ends = [ended(fence, idx, **{"message": None, **told}) for idx, (_, told) in enumerate(rows)]
        store.commit_group(run.id, ends)
        exports.append(list(store.exported(run)))
        assert [(row.row, row.message) for row in exports[-1]] == [
            (line, end.message) for (line, _), end in zip(rows, ends, strict=True)
        ]
        assert [row.result.key for row in exports[-1]] == [told["key"] for _, told in rows]
        assert [store.exported_row(run, idx) for idx in range(len(rows))] == exports[-1]
    assert exports[0] == exports[1]


def a_whole_life(store: Store) -> list[Any]:
    """Every transaction that there is, and what it gave."""
    told: list[Any] = []
    run = store.create_run(new_run(a_job(budget_pico=10**6)), NOW_US)
    store.stage(run, [pack(0, 0, [b"{}"] * 3)], whole(3))
    first = claim(store, run)
    told += [first, store.commit_group(run.id, [send(first.fence, idx) for idx in range(3)])]
    told.append(store.commit_group(run.id, [ended(first.fence, 0), turned(first.fence, 1, try_=1, turn=0)]))
    store.ask(run.id, "pause")
    store.note_origin(run.id, "org", None)
    store.pause_scope("org/haiku", NOW_US + 5)
    store.release_running(run.id)
    paused = store.pause_run(run.id, PauseReason.REQUESTED, "as asked")
    resumed = store.resume_run(paused, a_job(budget_pico=10**7))
    told += [paused.state, resumed.state, resumed.job]
    again = claim(store, run)
    told += [again, store.commit_group(run.id, [tried(again.fence, 1, try_=2), ended(first.fence, 2)])]
    told.append(store.commit_group(run.id, [ended(again.fence, 1, RowStatus.REFUSED, try_=3)]))
    told.append(store.move_run(run.id, "all rows ended", ended_us=NOW_US).state)
    told.append(store.open_round(run.id))
    settle_all(store, run)
    told.append(store.move_run(run.id, "all rows succeeded").state)
    other = staged_run(store, 2)
    store.move_run(other.id, "cancel asked")
    store.cancel_rows(other.id, NOW_US, "2026-11-21")
    told.append(store.move_run(other.id, "nothing in flight").state)
    return [*told, list(store.exported(run)), store.money(run.id), store.tally(run.id), store.statuses(run.id)]


def test_a_life_in_which_every_answer_is_lost_once_is_the_same_life(store: Store, tmp_path: Path) -> None:
    with ready_store(f"sqlite:///{tmp_path / 'plain.db'}") as plain:
        expected, tables = a_whole_life(plain), whole_store(plain)
    with every_answer_lost_once(store):
        told = a_whole_life(store)
    assert told == expected
    assert whole_store(store) == tables


def test_both_stores_live_the_same_life(both: tuple[Store, Store]) -> None:
    sqlite, postgresql = both
    assert a_whole_life(sqlite) == a_whole_life(postgresql)
    assert whole_store(sqlite) == whole_store(postgresql)
