"""From a job file, or a row, to the message: what the API would refuse is told before anything is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.trap_examples import ASK, DOUBTFUL, HAIKU_5_5, OPUS_5_5, TRAPPED, Doubt, Example


def name(example: Example) -> str:
    return f"{example.row}-{example.model}"


def flat(text: str) -> str:
    return " ".join(text.split())


def job(folder: Path, example: Example) -> None:
    request = {"max_tokens": 4_000, "messages": [ASK], **example.fields}
    told = {"name": "trap", "model": example.model, "api_version": example.version, "request": request}
    (folder / "job.yaml").write_text(json.dumps(told, indent=1))
    (folder / "rows.jsonl").write_text('{"a": 1}\n')


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_a_job_is_refused_with_its_line_the_rule_and_the_fix(cli: Cli, folder: Path, example: Example) -> None:
    job(folder, example)
    done = cli("check", "job.yaml", "-i", "rows.jsonl")
    assert done.exit_code == 6
    told = flat(done.stderr)
    assert example.said in told
    assert example.fix in told
    assert "job.yaml:" in told


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_a_row_is_refused_with_its_number_the_rule_and_the_fix(cli: Cli, folder: Path, example: Example) -> None:
    params = {"model": example.model, "max_tokens": 4_000, "messages": [ASK], **example.fields}
    good = {"custom_id": "a", "params": {"model": HAIKU_5_5, "max_tokens": 10, "messages": [ASK]}}
    bad = {"custom_id": "b", "params": params}
    (folder / "rows.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    (folder / "job.yaml").write_text(json.dumps({"name": "rows", "api_version": example.version}))
    done = cli("check", "job.yaml", "-i", "rows.jsonl")
    assert done.exit_code == 6
    told = flat(done.stderr)
    assert "line 2" in told
    assert example.fix in told


@pytest.mark.parametrize("command", ["run", "check"])
def test_nothing_is_sent_when_a_trap_is_seen(cli: Cli, folder: Path, command: str) -> None:
    job(folder, next(one for one in TRAPPED if one.row == "forced"))
    done = cli(command, "job.yaml", "-i", "rows.jsonl", "--simulate")
    assert done.exit_code == 6
    assert "may not be forced" in flat(done.stderr)
    assert not list(folder.glob("state/*.db"))


def test_a_model_of_the_command_line_counts(cli: Cli, folder: Path) -> None:
    forced = next(one for one in TRAPPED if one.row == "forced")
    job(folder, forced._replace(model=HAIKU_5_5))
    assert cli("check", "job.yaml", "-i", "rows.jsonl").exit_code == 0
    assert cli("check", "job.yaml", "-i", "rows.jsonl", "-m", OPUS_5_5).exit_code == 6


def test_a_mode_of_the_command_line_counts(cli: Cli, folder: Path) -> None:
    long: dict[str, Any] = {"max_tokens": 200_000}
    job(folder, Example("long", OPUS_5_5, long, "", ""))
    assert cli("check", "job.yaml", "-i", "rows.jsonl").exit_code == 6
    done = cli("check", "job.yaml", "-i", "rows.jsonl", "--mode", "batch")
    assert done.exit_code == 0, done.stderr
    assert "output-300k-2026-03-24   added" in done.stdout


# -- a rule that is wrong, or older than the service


def rule_in(message: str) -> str:
    found = re.search(r"allow: \[([a-z-]+)\] sends it anyway", message)
    assert found is not None, message
    return found[1]


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_every_message_names_its_rule_and_allowing_it_leaves_a_warning(
    cli: Cli, folder: Path, example: Example
) -> None:
    job(folder, example)
    rules: list[str] = []
    while (done := cli("check", "job.yaml", "-i", "rows.jsonl", "--set", f"allow=[{','.join(rules)}]")).exit_code:
        rules.append(rule_in(flat(done.stderr)))
        assert len(set(rules)) == len(rules) <= 3, done.stderr
    assert example.said in flat(done.stderr)
    assert f"warning[{rules[0]}]" in done.stderr
    assert "Sent all the same: allow says so." in flat(done.stderr)


@pytest.mark.parametrize("example", TRAPPED, ids=name)
def test_a_row_is_sent_all_the_same_where_its_rules_are_allowed(cli: Cli, folder: Path, example: Example) -> None:
    params = {"model": example.model, "max_tokens": 4_000, "messages": [ASK], **example.fields}
    (folder / "rows.jsonl").write_text(json.dumps({"custom_id": "a", "params": params}) + "\n")
    rules: list[str] = []
    while True:
        told = {"name": "rows", "api_version": example.version, "allow": rules}
        (folder / "job.yaml").write_text(json.dumps(told))
        if (done := cli("check", "job.yaml", "-i", "rows.jsonl")).exit_code == 0:
            break
        rules.append(rule_in(flat(done.stderr)))
        assert len(set(rules)) == len(rules) <= 3, done.stderr
    assert f"warning[{rules[0]}]: of a row: " in done.stderr


def test_what_is_allowed_reaches_the_service_which_has_the_last_word(cli: Cli, folder: Path) -> None:
    job(folder, next(one for one in TRAPPED if one.row == "forced"))
    told = ("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--progress", "none")
    done = cli(*told, "--set", "allow=[forced-tool-choice]")
    assert done.exit_code == 3
    assert "warning[forced-tool-choice]" in done.stderr
    assert "tool_choice" in flat(cli("failures", "latest").stdout)


def test_a_field_that_batches_refuse_is_allowed_too(cli: Cli, folder: Path) -> None:
    job(folder, Example("batch", HAIKU_5_5, {"store": True}, "", ""))
    told = ("check", "job.yaml", "-i", "rows.jsonl", "--mode", "batch")
    assert rule_in(flat(cli(*told).stderr)) == "batch"
    done = cli(*told, "--set", "allow=[batch]")
    assert done.exit_code == 0, done.stderr
    assert "warning[batch]: request.store: a batch refuses it" in flat(done.stderr)


def test_a_rule_that_there_is_not_is_told_with_the_nearest(cli: Cli, folder: Path) -> None:
    job(folder, Example("x", HAIKU_5_5, {}, "", ""))
    done = cli("check", "job.yaml", "-i", "rows.jsonl", "--set", "allow=[prefil]")
    assert done.exit_code == 6
    assert 'allow[0] knows no rule prefil (did you mean "prefill"?); they are batch' in flat(done.stderr)


def test_rows_without_a_job_are_sent_all_the_same_too(cli: Cli, folder: Path) -> None:
    params = {"model": OPUS_5_5, "max_tokens": 10, "messages": [ASK, {"role": "assistant", "content": "{"}]}
    (folder / "rows.jsonl").write_text(json.dumps({"custom_id": "a", "params": params}) + "\n")
    told = ("run", "rows.jsonl", "-m", OPUS_5_5, "--simulate", "--progress", "none")
    assert rule_in(flat(cli(*told).stderr)) == "prefill"
    done = cli(*told, "--allow", "prefill")
    assert done.exit_code == 3
    assert "prefill" in flat(cli("failures", "latest").stdout) + flat(done.stderr)
    assert cli(*told, "--allow", "prefil").exit_code == 2


@pytest.mark.parametrize("command", [("check",), ("run", "--simulate", "--progress", "none")])
def test_a_retired_model_is_asked_where_somebody_knows_better(
    cli: Cli, folder: Path, command: tuple[str, ...]
) -> None:
    job(folder, Example("gone", "claude-opus-4-1-20250805", {}, "", ""))
    refused = cli(command[0], "job.yaml", "-i", "rows.jsonl", *command[1:])
    assert "--any-model" in refused.stderr
    done = cli(command[0], "job.yaml", "-i", "rows.jsonl", *command[1:], "--any-model")
    assert "was retired on" not in done.stderr


def test_all_traps_of_a_job_are_told_at_once(cli: Cli, folder: Path) -> None:
    fields = {"thinking": {"type": "enabled"}, "inference_geo": "us", "output_config": {"effort": "hihg"}}
    job(folder, Example("many", "claude-haiku-4-5", fields, "", ""))
    told = flat(cli("check", "job.yaml", "-i", "rows.jsonl").stderr)
    assert "job.yaml has 3 errors." in told


@pytest.mark.parametrize("doubt", DOUBTFUL, ids=lambda doubt: doubt.rule)
@pytest.mark.parametrize("command", [("check",), ("run", "--simulate", "--progress", "none")])
def test_what_is_doubtful_is_a_warning(cli: Cli, folder: Path, doubt: Doubt, command: tuple[str, ...]) -> None:
    job(folder, Example("doubt", doubt.model, doubt.fields, "", ""))
    done = cli(command[0], "job.yaml", "-i", "rows.jsonl", *command[1:])
    assert done.exit_code == 0, done.stderr
    assert f"warning[{doubt.rule}]" in done.stderr
    assert doubt.said in flat(done.stderr)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929 is deprecated and retires on 2026-11-30"),
        ("claude-haiku-4-5", "has been possible since 2026-10-15"),
    ],
)
@pytest.mark.parametrize("command", [("check",), ("run", "--simulate", "--progress", "none")])
def test_a_model_that_goes_soon_is_a_warning(
    cli: Cli, folder: Path, model: str, said: str, command: tuple[str, ...]
) -> None:
    job(folder, Example("soon", model, {}, "", ""))
    done = cli(command[0], "job.yaml", "-i", "rows.jsonl", *command[1:])
    assert done.exit_code == 0, done.stderr
    assert "warning[lifecycle]" in done.stderr
    assert said in flat(done.stderr)


@pytest.mark.parametrize("command", [("check",), ("run", "--simulate", "--progress", "none")])
def test_a_retired_model_is_refused_with_its_day_and_another(
    cli: Cli, folder: Path, command: tuple[str, ...]
) -> None:
    job(folder, Example("gone", "claude-opus-4-1-20250805", {}, "", ""))
    done = cli(command[0], "job.yaml", "-i", "rows.jsonl", *command[1:])
    assert done.exit_code == 6, done.stderr
    assert "claude-opus-4-1-20250805 was retired on" in flat(done.stderr)
    assert "claude-opus-5-5" in done.stderr
