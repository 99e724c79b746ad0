"""A job that marks nothing, and what people are told of the mark that it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

ROWS = 400
RULES = "Weigh each word that you read, and answer with one label. " * 250
FOUND = "about 3,625 tokens"


@pytest.fixture
def job(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text("".join(f'{{"n": "{n}"}}\n' for n in range(ROWS)))
    path = folder / "job.yaml"
    told = {
        "name": "labels",
        "model": "claude-sonnet-5-5",
        "system": RULES,
        "prompt": "Label {{ n }}.",
        "request": {"max_tokens": 1_000},
        "input": {"path": "rows.jsonl"},
    }
    path.write_text(json.dumps(told))  # which is YAML too
    return path


def forbid(job: Path) -> None:
    job.write_text(json.dumps(json.loads(job.read_text()) | {"prompt_cache": "never"}))


def body(cli: Cli, *arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    shown = json.loads(cli("preview", "job.yaml", "-n", "1", "--json", *arguments).stdout)["requests"][0]
    return shown, shown["body"]


def test_preview_shows_the_mark_and_says_that_it_is_ours(cli: Cli, job: Path) -> None:
    shown, sent = body(cli)
    assert shown["cache_control_added"]
    assert sent["system"] == [{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral"}}]
    page = " ".join(cli("preview", "job.yaml", "-n", "1").stdout.split())
    assert f"cache_control was added: what all requests begin with, to the end of the system prompt, {FOUND}" in page
    assert "prompt_cache: never leaves it out" in page


def test_check_says_what_it_saves(cli: Cli, job: Path) -> None:
    page = cli("check", "job.yaml").stdout
    assert FOUND in page
    # 400 times 3,625 tokens at $2 a million, less one write and 399 reads.
    assert "saves about $2.75 of $2.90 live" in page
    (told,) = json.loads(cli("check", "job.yaml", "--json").stdout)["prompt_cache"]
    assert told == {"variant": 0, "upto": "system", "tokens": 3_625, "saves_usd": pytest.approx(2.747, abs=0.01)}


def test_a_job_that_wants_none_is_told_of_none(cli: Cli, job: Path) -> None:
    forbid(job)
    shown, sent = body(cli)
    assert (shown["cache_control_added"], sent["system"]) == (False, RULES)
    assert "prompt cache" not in cli("check", "job.yaml").stdout
    assert json.loads(cli("check", "job.yaml", "--json").stdout)["prompt_cache"] == []


def test_in_batches_so_few_rows_are_not_worth_a_wait(cli: Cli, job: Path) -> None:
    shown, sent = body(cli, "--mode", "batch")
    assert (shown["cache_control_added"], sent["system"]) == (False, RULES)
    (job.parent / "rows.jsonl").write_text("".join(f'{{"n": "{n}"}}\n' for n in range(4_000)))
    shown, sent = body(cli, "--mode", "batch")
    assert sent["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    page = cli("check", "job.yaml", "--mode", "batch").stdout
    assert "in batches, behind one row that goes ahead, if 65% of the others find it" in page


def test_an_estimate_and_the_report_of_the_run_know_of_it(cli: Cli, job: Path) -> None:
    with_cache = json.loads(cli("estimate", "job.yaml", "--simulate", "--json", "--answer", "40").stdout)
    assert with_cache["tokens"]["cache_read"] > 0.9 * 3_600 * ROWS
    done = cli("run", "job.yaml", "--simulate", "-o", "out.jsonl", "--json", "-y")
    assert done.exit_code == 0, done.stderr
    shown = json.loads(cli("show", "latest", "--json").stdout)
    assert shown["cost"]["saved_by_cache_usd"] == pytest.approx(2.74, abs=0.05)
    assert shown["cost"]["spent_usd"] == pytest.approx(with_cache["live"]["usd"], rel=0.1)
    page = cli("show", "latest").stdout
    assert "saved $2.7" in page
    assert "by the prompt cache" in page


def test_marks_of_the_jobs_own_are_left_alone(cli: Cli, job: Path) -> None:
    own = [{"type": "text", "text": RULES, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    told = json.loads(job.read_text())
    del told["system"]
    job.write_text(json.dumps(told | {"request": {"max_tokens": 1_000, "system": own}}))
    shown, sent = body(cli)
    assert (shown["cache_control_added"], sent["system"]) == (False, own)


def test_rules_inside_the_prompt_are_told_where_they_would_be_kept(cli: Cli, job: Path) -> None:
    told = json.loads(job.read_text())
    job.write_text(json.dumps(told | {"system": "Be brief.", "prompt": RULES + "Label {{ n }}."}))
    (warned,) = [one for one in warnings(cli) if one["name"] == "could-be-cached"]
    assert "as system: they would save about $2.7" in warned["message"]
    job.write_text(json.dumps(told))
    assert "could-be-cached" not in [one["name"] for one in warnings(cli)]


def warnings(cli: Cli) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(cli("check", "job.yaml", "--json").stdout)["warnings"]
    return found


def test_a_job_that_forbids_it_asks_the_same_question(cli: Cli, job: Path) -> None:
    forbid(job)
    plain = json.loads(cli("check", "job.yaml", "--json").stdout)["identity"]
    job.write_text(job.read_text().replace("never", "auto"))
    assert json.loads(cli("check", "job.yaml", "--json").stdout)["identity"] == plain
