"""Old runs taken out: their contents go, their cost stays, and nothing that is still needed goes with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import StoreFault
from runner.store.store import Store
from tests.cli.conftest import Cli
from tests.store.building import COST_PICO, NOW_US, execute, rows_of, settle_all, staged_run


def finished(store: Store, days_ago: int, **job: object) -> str:
    run = staged_run(store, 30, 30, **job)
    settle_all(store, run)
    store.move_run(run.id, "all rows succeeded", ended_us=NOW_US - days_ago * 86_400_000_000)
    return run.label


def test_what_is_older_goes_and_what_is_younger_stays(cli: Cli, store: Store) -> None:
    old, young = finished(store, 4_000), finished(store, 0)
    staged_run(store, 5)  # has not ended
    told = json.loads(cli("purge", "--older-than", "200d", "-y", "--json").stdout)
    assert told["runs"] == [old]
    assert store.tokens(store.run(young).id).input_tokens > 0
    ids = {store.run(old).id}
    for table in ("results", "answers", "payloads"):
        assert not [row for row in rows_of(store, table) if row["run"] in ids], table
    assert store.money(store.run(old).id).spent_pico == 60 * COST_PICO
    assert store.tally(store.run(old).id).done == 60


def test_a_dry_run_and_a_missing_yes_take_nothing_out(cli: Cli, store: Store) -> None:
    old = finished(store, 4_000)
    before = rows_of(store, "results")
    assert old in cli("purge", "--older-than", "200d", "--dry-run").stdout
    assert isinstance(cli("purge", "--older-than", "200d").exception, SystemExit)
    assert rows_of(store, "results") == before


def test_rows_are_written_to_a_folder_first(cli: Cli, store: Store, folder: Path) -> None:
    old = finished(store, 4_000)
    cli("purge", "--older-than", "200d", "--job", "letters", "--export", "archive", "-y")
    lines = (folder / "archive" / f"letters-{old}.jsonl").read_text().splitlines()
    assert len(lines) == 60


def test_only_a_marked_run_may_lose_its_results(store: Store) -> None:
    old = store.run(finished(store, 4_000))
    with pytest.raises(StoreFault, match="never changes"):
        execute(store, f"DELETE FROM results WHERE run = {old.id}")
    store.purge.take_out(old.id, NOW_US)
    assert rows_of(store, "results") == []
    assert store.find_runs(old.identity, None) == []
    assert store.purge.unfinished() == []


def test_a_purge_that_was_cut_short_goes_on(store: Store) -> None:
    old = store.run(finished(store, 4_000))
    execute(store, f"UPDATE runs SET purged_us = 1 WHERE id = {old.id}")
    assert store.purge.unfinished() == [old.id]
    store.purge.take_out(old.id, NOW_US)
    assert store.purge.unfinished() == []


def test_a_run_of_that_name_that_is_unknown_is_no_reason_to_purge(cli: Cli, store: Store) -> None:
    finished(store, 4_000)
    assert "nothing is that old" in cli("purge", "--older-than", "200d", "--job", "other").stderr
