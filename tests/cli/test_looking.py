"""status, show, failures, export, pause and cancel, over a store with runs in it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from runner.domain.run import Run
from runner.domain.states import PauseReason, RowStatus
from runner.store.store import Store
from tests.cli.conftest import Cli
from tests.store import building

MESSAGE = b'{"id":"msg_1","content":[{"type":"text","text":"It is \\u001b[31mred"}]}'


@pytest.fixture
def run(store: Store) -> Run:
    """Four rows: two succeeded, one failed, one waits."""
    run = building.staged_run(store, 4)
    fence = building.claim(store, run).fence
    building.stored(store, run, *(building.send(fence, idx) for idx in range(3)))
    building.stored(
        store,
        run,
        building.ended(fence, 0, message=MESSAGE),
        building.ended(fence, 1, message=MESSAGE),
        building.ended(fence, 2, RowStatus.ERRORED),
    )
    return store.run_by_id(run.id)


def test_an_empty_machine_has_no_runs_and_gets_no_store(cli: Cli, folder: Path) -> None:
    done = cli("status")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "there are no runs yet" in done.stderr
    assert json.loads(cli("status", "--json").stdout) == {"schema": 1, "runs": [], "caps": [], "database_bytes": 0}
    assert not (folder / "state").exists()


def test_status_lists_real_and_simulated_runs(cli: Cli, run: Run, simulated_store: Store) -> None:
    rehearsal = building.staged_run(simulated_store, 1, simulated=True)
    shown = cli("status").stdout
    assert f"nobody works on it: runner resume {run.label}" in shown
    assert f"{rehearsal.label}  letters  running, simulated" in shown
    only = json.loads(cli("status", "--simulate", "--json").stdout)
    assert [one["run"] for one in only["runs"]] == [rehearsal.label]


def test_status_in_plain_text_has_tabs(cli: Cli, run: Run) -> None:
    lines = cli("status", "--plain").stdout.splitlines()
    assert [len(line.split("\t")) for line in lines] == [8, 8]


def test_show_finds_a_run_by_prefix_in_either_store(cli: Cli, run: Run, simulated_store: Store) -> None:
    rehearsal = building.staged_run(simulated_store, 1, simulated=True)
    assert run.label in cli("show", run.label[:5]).stdout
    assert "SIMULATED" in cli("show", rehearsal.label).stdout
    told = json.loads(cli("show", run.label, "--json").stdout)
    assert told["schema"] == 1
    assert told["rows"] == {"total": 4, "done": 2, "failed": 1, "waiting": 1, "copied": 0}
    assert told["worked_on_by"] is None


def test_tags_of_a_job_are_told(cli: Cli, store: Store) -> None:
    tags = {"team": "support", "cost_centre": "4711"}
    run = building.staged_run(store, 1, tags=tags)
    assert "cost_centre=4711   team=support" in cli("show", run.label).stdout
    assert json.loads(cli("show", run.label, "--json").stdout)["tags"] == tags
    assert json.loads(cli("status", "--json").stdout)["runs"][0]["tags"] == tags


def test_show_names_who_works_on_a_run(cli: Cli, run: Run, store: Store) -> None:
    hold = store.hold(run, lambda: building.NOW_US)
    assert "worked on by" in cli("show", run.label).stdout
    hold.release()
    assert "nobody works on it" in cli("show", run.label).stdout


def test_a_misspelt_label_is_answered_with_the_nearest(cli: Cli, run: Run) -> None:
    wrong = run.label[:-1] + ("2" if run.label[-1] != "2" else "3")
    done = cli("show", wrong)
    assert done.exit_code == 2
    assert f"did you mean {run.label} ?" in done.stderr


def test_failures_are_grouped_with_a_way_out(cli: Cli, run: Run) -> None:
    shown = cli("failures", run.label).stdout
    assert "invalid_request_error" in shown
    assert "said: no" in shown
    assert f"one:  runner failures {run.label} --row 2" in shown
    told = json.loads(cli("failures", run.label, "--json").stdout)
    assert told["failures"][0]["example"]["key"] == "key-2"


@pytest.mark.parametrize("row", ["0", "key-0"])
def test_one_row_in_full_by_key_or_number(cli: Cli, run: Run, row: str) -> None:
    shown = cli("failures", run.label, "--row", row).stdout
    assert '"n": 0' in shown
    assert "It is \\x1b[31mred" in shown
    assert "req_1" in shown
    told = json.loads(cli("failures", run.label, "--row", row, "--json").stdout)
    assert told["text"] == "It is \x1b[31mred"
    assert told["row"] == {"n": 0}


def test_a_row_that_waits_can_be_looked_at(cli: Cli, run: Run) -> None:
    assert "has not ended" in cli("failures", run.label, "--row", "3").stdout


def test_a_row_that_is_not_there(cli: Cli, run: Run) -> None:
    done = cli("failures", run.label, "--row", "17")
    assert done.exit_code == 2
    assert "they are numbered 0 to 3" in done.stderr


def test_export_says_how_many_are_missing(cli: Cli, run: Run, folder: Path) -> None:
    done = cli("export", run.label, "-o", "out.jsonl")
    assert done.exit_code == 3
    assert "1 row is not in it" in done.stderr
    assert len((folder / "out.jsonl").read_text().splitlines()) == 3


def test_export_of_a_whole_run_is_exit_0_although_rows_failed(cli: Cli, store: Store, folder: Path) -> None:
    run = building.staged_run(store, 2)
    building.settle_all(store, run, RowStatus.ERRORED)
    done = cli("export", run.label, "-o", "out.jsonl", "--as", "anthropic", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "schema": 1, "run": run.label, "output": "out.jsonl", "rows": 2, "failed": 2, "missing": 0,
    }  # fmt: skip
    assert "custom_id" in (folder / "out.jsonl").read_text()


def test_a_run_that_nobody_holds_is_paused_at_once(cli: Cli, run: Run, store: Store) -> None:
    done = cli("pause", run.label)
    assert done.exit_code == 0
    assert f"run {run.label} is paused (requested): 3 rows are kept." in done.stderr
    assert store.run(run.label).state == "paused"
    assert "already paused" in cli("pause", run.label).stderr


def test_a_run_is_canceled_from_any_unfinished_state(cli: Cli, store: Store, run: Run) -> None:
    store.pause_run(run.id, PauseReason.BUDGET, "enough")
    told = json.loads(cli("cancel", run.label, "--json").stdout)
    assert (told["state"], told["done"]) == ("canceled", True)
    assert store.unfinished_chunks(run.id) == 0
    assert cli("pause", run.label).exit_code == 2


def test_a_cancel_that_died_half_way_is_taken_to_its_end(cli: Cli, store: Store, run: Run) -> None:
    store.move_run(run.id, "cancel asked")
    assert cli("cancel", run.label).exit_code == 0
    assert store.run(run.label).state == "canceled"


def test_the_holder_is_asked_and_its_obedience_told(cli: Cli, run: Run, store: Store) -> None:
    hold = store.hold(run, lambda: building.NOW_US)
    obeyed: list[str | None] = []

    def obey() -> None:
        while (wanted := store.wanted(run.id)) is None:
            time.sleep(0.01)
        obeyed.append(wanted)
        store.pause_run(run.id, PauseReason.REQUESTED, "stopped by `runner pause`")

    holder = threading.Thread(target=obey)
    holder.start()
    done = cli("pause", run.label)
    holder.join()
    hold.release()
    assert obeyed == ["pause"]
    assert "is paused (requested)" in done.stderr


def test_a_holder_that_takes_its_time_is_not_said_to_have_obeyed(cli: Cli, run: Run, store: Store) -> None:
    hold = store.hold(run, lambda: building.NOW_US)
    done = cli("pause", run.label, "--wait", "0.1")
    hold.release()
    assert done.exit_code == 0
    assert "was asked to pause" in done.stderr
    assert store.wanted(run.id) == "pause"


def test_a_finished_run_has_nothing_to_cancel(cli: Cli, store: Store) -> None:
    run = building.staged_run(store, 1)
    building.settle_all(store, run)
    store.move_run(run.id, "all rows succeeded")
    done = cli("cancel", run.label)
    assert done.exit_code == 2
    assert "is done: there is nothing to cancel" in done.stderr
