"""Modes on the command line, and what settings say of batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner.cli.launch import settled, timing_of
from runner.clock import local_utc_offset_s
from runner.domain.job import BatchSpec, Job
from runner.domain.submission import Timing
from runner.settings import Settings
from tests.cli.conftest import Cli

JOB = Job(name="a", model="claude-haiku-5-5", prompt="x")
ROWS = '{"prompt": "hello"}\n'


@pytest.fixture
def rows(folder: Path) -> str:
    (folder / "rows.jsonl").write_text(ROWS)
    return "rows.jsonl"


def settings(folder: Path, **told: float) -> Settings:
    return Settings(home=folder, database_url="sqlite://", **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of_job", "of_environment", "told"),
    [
        (None, None, None),
        (50, None, 50),
        (None, 70, 70),
        (50, 70, 50),
        (70, 50, 50),
        (None, 200_000, 100_000),
        (100_000, 200_000, 100_000),
    ],
)
def test_of_two_sizes_of_batches_the_smaller_one_holds(
    folder: Path, of_job: int | None, of_environment: int | None, told: int | None
) -> None:
    job = replace(JOB, batch=BatchSpec(max_requests=of_job, probe=False))
    there = settings(folder, **({} if of_environment is None else {"batch_max_requests": of_environment}))
    found = settled(job, there, simulated=False)
    assert found.batch == BatchSpec(max_requests=told, probe=False)
    assert found.identity() == job.identity()


def test_times_of_batches_that_nobody_sets_stay_as_they_are(folder: Path) -> None:
    assert timing_of(settings(folder)) == Timing()
    assert timing_of(settings(folder, batch_poll_s=0.5)) == Timing(poll_s=0.5)
    all_set = settings(folder, batch_poll_s=1.0, batch_window_s=2.0, batch_settle_s=3.0)
    assert timing_of(all_set) == Timing(poll_s=1.0, window_s=2.0, settle_s=3.0)


def test_help_names_the_ways_to_send(cli: Cli) -> None:
    for command in ("run", "check", "preview"):
        shown = " ".join(cli(command, "--help").stdout.split())
        assert "--mode [live|batch|auto]" in shown, command
        assert "live, batch (half the price, within 24 h) or auto" in shown, command
    assert "--finish-by TEXT" in cli("run", "--help").stdout


@pytest.mark.parametrize("text", ["soon", "24:00", "6", "2026-02-30T08:00"])
def test_a_time_to_be_done_that_means_nothing_is_wrong_usage(cli: Cli, rows: str, text: str) -> None:
    done = cli("run", rows, "-m", "claude-haiku-5-5", "--mode", "auto", "--finish-by", text)
    assert done.exit_code == 2
    assert "a time of day such as 08:00" in done.stderr


@pytest.mark.parametrize(("mode", "sent"), [("live", "live"), ("batch", "in batches")])
def test_a_time_to_be_done_that_would_count_for_nothing_is_wrong_usage(
    cli: Cli, rows: str, mode: str, sent: str
) -> None:
    done = cli("run", rows, "-m", "claude-haiku-5-5", "--mode", mode, "--finish-by", "6h", "--simulate")
    assert done.exit_code == 2
    assert f"--finish-by is for auto mode, and this job is sent {sent}." in done.stderr
    assert "--mode auto" in done.stderr


def test_what_a_batch_refuses_ends_a_run_before_it_begins(cli: Cli, folder: Path) -> None:
    (folder / "rows.jsonl").write_text(ROWS)
    asked = 'model: claude-opus-5-5\nprompt: "{{ row }}"\nmode: batch\n'
    text = f"{asked}request: {{ speed: fast }}\ninput: {{ path: rows.jsonl }}\n"
    (folder / "job.yaml").write_text(text)
    for done in (cli("run", "job.yaml", "--simulate"), cli("check", "job.yaml"), cli("preview", "job.yaml")):
        assert done.exit_code == 6
        assert 'error[batch-refuses]: request has "speed", which a batch refuses: remove it' in done.stderr
        assert "mode: live" in done.stderr
    assert cli("check", "job.yaml", "--mode", "live").exit_code == 0
    assert cli("check", "job.yaml", "--mode", "auto").exit_code == 0


def test_a_row_that_a_batch_refuses_is_named_before_anything_is_sent(cli: Cli, folder: Path) -> None:
    bad = '{"prompt": "x", "params": {"fallbacks": "default"}}\n'
    (folder / "rows.jsonl").write_text(ROWS + bad)
    done = cli("run", "rows.jsonl", "-m", "claude-haiku-5-5", "--mode", "batch", "--simulate")
    assert done.exit_code == 6
    assert 'line 2 has "fallbacks", which a batch refuses: remove it, or say mode: live (allow: ' in done.stderr
    assert cli("check", "rows.jsonl", "-m", "claude-haiku-5-5").exit_code == 0
    skipped = cli("check", "rows.jsonl", "-m", "claude-haiku-5-5", "--mode", "batch", "--on-bad-row", "skip")
    assert skipped.exit_code == 0
    assert "1 row" in skipped.stdout


def test_a_preview_shows_what_rides_in_a_batch(cli: Cli, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "x", "params": {"max_tokens": 9000}}\n')
    arguments = ("preview", "rows.jsonl", "-m", "claude-haiku-5-5", "--json")
    live, batch = (json.loads(cli(*arguments, *more).stdout) for more in ((), ("--mode", "batch")))
    assert live["url"].endswith("/v1/messages")
    assert batch["url"].endswith("/v1/messages/batches")
    assert live["requests"][0]["body"] == batch["requests"][0]["body"] | {"stream": True}
    assert batch["requests"][0]["usd_at_most"] < live["requests"][0]["usd_at_most"] * 0.51
    shown = cli("preview", "rows.jsonl", "-m", "claude-haiku-5-5", "--mode", "batch").stdout
    assert "/v1/messages/batches   (the params of one of its requests)\n" in shown


def test_check_counts_a_batch_at_half_the_price(cli: Cli, rows: str) -> None:
    arguments = ("check", rows, "-m", "claude-haiku-5-5", "--json", "--mode")
    live, batch = (json.loads(cli(*arguments, mode).stdout)["usd_at_most"] for mode in ("live", "batch"))
    assert batch == pytest.approx(live / 2)


def test_the_doctor_shows_what_is_set_for_batches(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_BATCH_POLL_S", "2.5")
    monkeypatch.setenv("RUNNER_BATCH_MAX_REQUESTS", "10")
    shown = cli("doctor").stdout
    assert "batch_poll_s 2.5, from RUNNER_BATCH_POLL_S" in shown
    assert "batch_max_requests 10, from RUNNER_BATCH_MAX_REQUESTS" in shown


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")  # the rule itself: no zone files are needed
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_local_clock_is_ahead_by_what_its_rule_says_on_that_day(berlin: None) -> None:
    winter, summer = 1_768_000_000, 1_784_000_000  # 9 January and 14 July 2026
    assert (local_utc_offset_s(winter), local_utc_offset_s(summer)) == (3_600, 7_200)
