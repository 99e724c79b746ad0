"""A run's summary, page and tables, from a store with rows that ended in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner.domain.booking import BookingKind
from runner.domain.run import Run
from runner.domain.states import PauseReason, RowStatus
from runner.store.store import Store
from runner.views.run_facts import run_facts
from runner.views.run_page import page_json, page_lines
from runner.views.run_tables import StatusRow, failure_json, failure_table, status_table
from runner.views.summary import summary_lines
from tests.store import building

USD = 10**12


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with building.ready_store(f"sqlite:///{tmp_path / 'runner.db'}") as store:
        yield store


@pytest.fixture
def run(store: Store) -> Run:
    """Six rows: three succeeded, one cut off, one refused by the API, one of unknown end that waits."""
    run = building.staged_run(store, 6, budget_pico=USD)
    fence = building.claim(store, run).fence
    building.stored(store, run, *(building.send(fence, idx) for idx in range(6)))
    unknown = building.spend(None, kind=BookingKind.UNKNOWN, bound_pico=120_000_000_000)
    building.stored(
        store,
        run,
        *(building.ended(fence, idx) for idx in range(3)),
        building.ended(fence, 3, RowStatus.TRUNCATED, stop_reason="max_tokens"),
        building.ended(fence, 4, RowStatus.ERRORED),
        building.tried(fence, 5, booking=unknown),
    )
    return store.run_by_id(run.id)


def test_the_summary_of_a_paused_run(store: Store, run: Run) -> None:
    paused = store.pause_run(run.id, PauseReason.BUDGET, "the budget is reached")
    lines = summary_lines(run_facts(store, paused), elapsed_s=756)
    assert lines == [
        f"letters  run {run.label}  paused (budget)",
        "rows    6: 3 succeeded, 1 errored, 1 truncated, 1 waiting",
        "tokens  in 40   out 12",
        "cost    $0.0000000016 of $1.00",
        "        and at most $0.12 for 1 call of unknown end",
        "time    12m 36s",
        f"next    runner resume {run.label} --max-usd X   with a higher limit",
    ]


def test_the_summary_of_a_simulated_run_that_is_done(store: Store) -> None:
    run = building.staged_run(store, 2, simulated=True)
    building.settle_all(store, run)
    done = store.move_run(run.id, "all rows succeeded")
    assert summary_lines(run_facts(store, done), output="/tmp/out.jsonl") == [
        f"letters  run {run.label}  done  SIMULATED",
        "rows    2: 2 succeeded",
        "tokens  in 20   out 6",
        "cost    $0.0000000008   simulated: nothing is billed",
        "output  /tmp/out.jsonl",
    ]


def test_the_page_of_a_run_tells_what_is_not_known(store: Store, run: Run) -> None:
    page = "\n".join(page_lines(run_facts(store, run), worked_on_by=None))
    assert "rows        6: 3 succeeded, 1 errored, 1 truncated, 1 waiting" in page
    assert "1 errored: invalid_request_error" in page
    assert "and at most $0.12 for 1 call of unknown end" in page
    assert "paid twice  nothing" in page
    assert "tries       api_error x1" in page
    assert f"next        nobody works on it: runner resume {run.label}" in page


def test_a_run_that_is_worked_on_needs_nothing(store: Store, run: Run) -> None:
    page = "\n".join(page_lines(run_facts(store, run), worked_on_by="etl-3 (pid 4121)"))
    assert "state       running   worked on by etl-3 (pid 4121)" in page
    assert "next " not in page


def test_the_page_as_values(store: Store, run: Run) -> None:
    told = page_json(run_facts(store, run), worked_on_by=None)
    assert told["rows"] == {"total": 6, "done": 3, "failed": 2, "waiting": 1, "copied": 0}
    assert told["cost"]["unknown_usd_at_most"] == 0.12
    assert told["cost"]["budget_usd"] == 1.0


def test_a_canceled_run_is_no_longer_paused_for_anything(store: Store, run: Run) -> None:
    store.pause_run(run.id, PauseReason.BUDGET, "the budget is reached")
    store.move_run(run.id, "cancel asked")
    canceled = store.move_run(run.id, "nothing in flight")
    assert page_json(run_facts(store, canceled), worked_on_by=None)["pause_reason"] is None


def status_row(store: Store, run: Run, *, left_alone: bool = False) -> StatusRow:
    return StatusRow(run=run, tally=store.tally(run.id), money=store.money(run.id), left_alone=left_alone)


def test_the_list_of_runs(store: Store, run: Run) -> None:
    lines = status_table([status_row(store, run, left_alone=True)], 200)
    assert lines[0].split() == ["RUN", "JOB", "STATE", "ROWS", "FAILED", "SPENT", "STARTED", "NOTE"]
    assert f"nobody works on it: runner resume {run.label}" in lines[1]
    assert "5/6" in lines[1]
    assert "$0.0000000016+?" in lines[1]


def test_a_narrow_terminal_sees_the_first_columns(store: Store, run: Run) -> None:
    lines = status_table([status_row(store, run)], 40)
    assert lines[0].split() == ["RUN", "JOB", "STATE", "ROWS", "FAILED"]
    assert all(len(line) <= 40 for line in lines)


def test_failures_by_reason(store: Store, run: Run) -> None:
    groups = store.failures(run.id)
    lines = failure_table(groups, None)
    assert {line.split()[1] for line in lines[1:]} == {"truncated", "errored"}
    told = [failure_json(group, run.label) for group in groups]
    assert {one["example"]["key"] for one in told} == {"key-3", "key-4"}
    assert all(one["fix"] for one in told)


def test_a_row_s_own_text_is_inert(store: Store, run: Run) -> None:
    hostile = replace(run, job=replace(run.job, name="a\x1b]0;pwned\x07"), input_uri="/in/\u202etxt")
    page = "\n".join(page_lines(run_facts(store, hostile), worked_on_by=None))
    assert "\x1b" not in page
    assert "\u202e" not in page
