"""`estimate`, the question before a dear run, and what is said of budgets before anything is sent."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

JOB = """\
name: letters
model: claude-haiku-5-5
prompt: "Say {{ n }}."
request: { max_tokens: 2000 }
input: { path: rows.jsonl }
output: { path: out.jsonl }
"""
TOOLS = "request: { max_tokens: 500, tools: [{ type: web_search_20260318, name: web_search }] }"


@pytest.fixture(autouse=True)
def job(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text("".join(f'{{"n": "{n} {"word " * (n % 40)}"}}\n' for n in range(60)))
    path = folder / "job.yaml"
    path.write_text(JOB)
    return path


def told(cli: Cli, *arguments: str) -> dict[str, Any]:
    done = cli("estimate", "job.yaml", "--simulate", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_estimate_counts_for_free_and_keeps_nothing(cli: Cli, folder: Path) -> None:
    page = told(cli)
    assert page["sample"] == {
        "rows": 60, "counted": 60, "answered": 0, "cost_usd": None, "run": None, "not_counted": None,
    }  # fmt: skip
    assert page["live"]["usd"] == pytest.approx(2 * page["batch"]["usd"], rel=0.01)
    assert page["live"]["usd"] < page["live"]["usd_at_most"]
    assert not list(folder.glob("state/*.db"))


def test_every_variant_is_in_the_sample_that_is_priced(cli: Cli, job: Path) -> None:
    variants = "variants: [{ name: small, model: claude-haiku-5-5 }, { name: big, model: claude-opus-5-5 }]\n"
    job.write_text(JOB.replace("model: claude-haiku-5-5\n", variants))
    worst = told(cli, "--no-count")["live"]["usd_at_most"]
    small = json.loads(cli("check", "job.yaml", "--json", "-m", "claude-haiku-5-5").stdout)
    both = json.loads(cli("check", "job.yaml", "--json").stdout)
    assert (both["rows"], both["usd_at_most"]) == (small["rows"], pytest.approx(worst, rel=0.1))
    assert worst > 10 * 60 * 2_000 * 0.5e-6


def test_rows_of_every_variant_are_answered(cli: Cli, job: Path) -> None:
    variants = "variants: [{ name: small, model: claude-haiku-5-5 }, { name: big, model: claude-opus-5-5 }]\n"
    job.write_text(JOB.replace("model: claude-haiku-5-5\n", variants))
    assert told(cli, "--answer", "6")["sample"]["answered"] == 6
    cli("export", "latest", "-o", "some.jsonl")
    answered = [json.loads(line) for line in (job.parent / "some.jsonl").read_text().splitlines()]
    ended = Counter(one["meta"]["variant"] for one in answered if one["status"] == "succeeded")
    assert ended == {"small": 3, "big": 3}


def test_what_nobody_knows_is_null_and_not_nothing(cli: Cli) -> None:
    page = told(cli, "--no-count")
    assert page["tokens"]["output"] is None
    assert (page["live"]["usd_low"], page["live"]["usd_high"]) == (None, None)
    assert page["live"]["basis"].startswith("a guess")
    assert page["live"]["seconds"] is None


def test_without_a_key_tokens_are_guessed_and_that_is_said(cli: Cli) -> None:
    done = cli("estimate", "job.yaml")
    assert done.exit_code == 0
    assert "none counted" in done.stdout
    assert "needs a key" in done.stdout
    assert "out unknown" in done.stdout


def test_a_model_without_a_price_has_an_unknown_cost(cli: Cli, job: Path) -> None:
    job.write_text(JOB.replace("claude-haiku-5-5", "claude-next-9"))
    page = told(cli, "--any-model", "--no-count")
    assert (page["live"]["usd"], page["live"]["usd_at_most"]) == (None, None)
    assert page["live"]["basis"] == "no price is known"


def test_answers_are_kept_and_the_run_does_not_ask_them_again(cli: Cli) -> None:
    page = told(cli, "--answer", "20")
    assert page["sample"]["answered"] == 20
    assert page["live"]["usd_low"] <= page["live"]["usd"] <= page["live"]["usd_high"]
    label = page["sample"]["run"]
    shown = json.loads(cli("show", label, "--json").stdout)
    assert (shown["rows"]["done"], shown["pause_reason"]) == (20, "sampled")
    done = cli("run", "job.yaml", "--simulate", "--progress", "none")
    assert done.exit_code == 0, done.stderr
    shown = json.loads(cli("show", label, "--json").stdout)
    assert (shown["run"], shown["rows"]["done"], shown["failed_tries"]) == (label, 60, [])
    assert shown["estimated_cost"]["basis"] == "20 answers"
    assert "came to" in done.stderr


def test_a_second_estimate_rests_on_the_answers_of_the_first_run(cli: Cli) -> None:
    assert cli("run", "job.yaml", "--simulate", "--progress", "none").exit_code == 0
    page = told(cli)
    assert page["live"]["basis"] == "60 answers of earlier runs"
    assert page["live"]["usd_low"] is not None


def test_rows_at_once_and_batches_in_sequence_are_said_beforehand(cli: Cli) -> None:
    assert cli("run", "job.yaml", "--simulate", "--progress", "none").exit_code == 0
    page = told(cli, "--max-usd", "0.01")
    assert 0 < page["batch"]["rows_at_once"] < 60
    assert page["batch"]["in_sequence"] > 1
    asked = ("check", "job.yaml", "--mode", "batch", "--max-usd", "0.01", "--simulate", "--json")
    checked = json.loads(cli(*asked).stdout)
    assert checked["rows_at_once"] == page["batch"]["rows_at_once"]
    begun = cli("run", "job.yaml", "-n", "5", "--simulate", "--max-usd", "0.01", "--new", "--progress", "none")
    assert "rows at once at their worst" in begun.stderr


def test_a_budget_needs_a_bound_of_every_row(cli: Cli, job: Path) -> None:
    tools = JOB.replace("request: { max_tokens: 2000 }", TOOLS)
    job.write_text(tools + "budget: 1\n")
    for command in ("check", "run"):
        done = cli(command, "job.yaml", "--simulate")
        assert done.exit_code == 6
        assert "limits.row_usd" in done.stderr
    job.write_text(tools + "budget: 1\nlimits: { row_usd: 0.01 }\n")
    assert cli("check", "job.yaml", "--simulate").exit_code == 0
    job.write_text(tools)
    assert cli("check", "job.yaml", "--simulate").exit_code == 0, "without a budget nobody needs to know"


def test_a_dear_run_needs_a_word(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CONFIRM_USD", "0.01")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    done = cli("run", "job.yaml", "--base-url", "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "error[confirm]" in done.stderr
    assert "--yes" in done.stderr
    assert "nothing was sent" in done.stderr
    assert cli("status").stdout == "", "no run was made"


def test_a_rehearsal_is_never_asked_about(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CONFIRM_USD", "0")
    assert cli("run", "job.yaml", "--simulate", "--progress", "none").exit_code == 0


def test_the_caps_of_a_job_hold_over_its_runs_and_raising_them_goes_on(cli: Cli, job: Path) -> None:
    """What the first run spent before there was a cap counts: the second one finds it used up."""
    assert cli("run", "job.yaml", "--simulate", "--progress", "none").exit_code == 0
    spent = json.loads(cli("cost", "--simulate", "--json").stdout)["total"]["paid_usd"]
    job.write_text(JOB + f"budget: {{ per: {{ day: {spent + 0.0001:.6f} }} }}\n")
    again = cli("run", "job.yaml", "--simulate", "--new", "--progress", "none")
    assert again.exit_code == 4
    assert "raise budget.per.day in the job file" in again.stderr
    job.write_text(JOB + "budget: { per: { day: 5 } }\n")
    assert cli("run", "job.yaml", "--simulate", "--progress", "none").exit_code == 0
    (cap,) = json.loads(cli("status", "--simulate", "--json").stdout)["caps"]
    assert (cap["scope"], len(cap["period"]), cap["cap_usd"]) == ("job:letters", len("2026-11-21"), 5.0)
    assert cap["left_usd"] == pytest.approx(5 - 2 * spent, abs=0.01)
    words = "budget    the budget of job letters for 20"
    assert words in cli("status", "--simulate").stderr
    assert words.removeprefix("budget    ") in cli("cost", "--simulate").stdout
