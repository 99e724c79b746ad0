"""Betas and custom headers from every place that may name some, as people see them before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

JOB = """
model: claude-opus-5-5
prompt: "hello {{ name }}"
headers: { X-Team: blue, X-Trace: job }
betas: [contxt-management-2025-06-27]
request:
  max_tokens: 2000
  tools: [{ type: advisor_20260301, name: advisor }]
"""


@pytest.fixture
def job(folder: Path) -> str:
    (folder / "job.yaml").write_text(JOB)
    (folder / "rows.jsonl").write_text('{"name": "you"}\n')
    return "job.yaml"


def headers_of(cli: Cli, *more: str) -> dict[str, str]:
    done = cli("preview", "job.yaml", "-i", "rows.jsonl", "--json", *more)
    assert done.exit_code == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)["requests"][0]["headers"]
    return {name.lower(): value for name, value in found.items()}


@pytest.mark.usefixtures("job")
def test_what_is_added_is_shown_with_its_reason(cli: Cli) -> None:
    shown = cli("preview", "job.yaml", "-i", "rows.jsonl").stdout
    assert "anthropic-beta: contxt-management-2025-06-27,advisor-tool-2026-03-01" in shown
    assert "(advisor-tool-2026-03-01 was added: the advisor tool needs it)" in shown


@pytest.mark.usefixtures("job")
def test_check_shows_betas_and_headers_with_the_rule_and_warns_of_a_strange_name(cli: Cli) -> None:
    done = cli("check", "job.yaml", "-i", "rows.jsonl")
    assert done.exit_code == 0, done.stderr
    assert "contxt-management-2025-06-27   set by you" in done.stdout
    assert "advisor-tool-2026-03-01   added: the advisor tool needs it" in done.stdout
    assert "x-team, x-trace" in done.stdout
    assert "anthropic-beta adds up" in done.stdout
    assert "warning[unknown-beta]" in done.stderr
    assert "did you mean context-management-2025-06-27 ?" in done.stderr


@pytest.mark.usefixtures("job")
def test_check_says_the_same_to_machines(cli: Cli) -> None:
    told = json.loads(cli("check", "job.yaml", "-i", "rows.jsonl", "--json").stdout)
    assert [(beta["name"], beta["added"]) for beta in told["betas"]] == [
        ("contxt-management-2025-06-27", False),
        ("advisor-tool-2026-03-01", True),
    ]
    assert [warned["name"] for warned in told["warnings"]] == ["unknown-beta"]


@pytest.mark.usefixtures("job")
def test_the_nearest_place_wins_header_by_header_and_betas_add_up(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-team: env\nX-Env: 1\nanthropic-beta: oauth-2025-04-20")
    (folder / "runner.toml").write_text(
        '[custom_headers]\nx-env = "file"\nX-File = "2"\nanthropic-beta = "dreaming-2026-04-21"\n'
    )
    found = headers_of(cli, "--header", "X-Trace: flag", "--beta", "compact-2026-09-04")
    assert (found["x-team"], found["x-trace"], found["x-env"], found["x-file"]) == ("blue", "flag", "1", "2")
    assert found["anthropic-beta"].split(",") == [
        "contxt-management-2025-06-27",
        "compact-2026-09-04",
        "oauth-2025-04-20",
        "dreaming-2026-04-21",
        "advisor-tool-2026-03-01",
    ]


@pytest.mark.usefixtures("job")
def test_no_header_gives_way_without_a_word(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-team: env\nX-Trace: job")
    told = cli("check", "job.yaml", "-i", "rows.jsonl", "--header", "x-trace: flag").stderr
    flat = " ".join(told.split())
    assert "the header x-team is sent as the job says; what ANTHROPIC_CUSTOM_HEADERS says is left out." in flat
    assert "the header X-Trace is sent as --header says; what ANTHROPIC_CUSTOM_HEADERS says is left out." in flat


@pytest.mark.parametrize(
    ("line", "said"),
    [("X-Team", "not of the form"), ("x-api-key: k", "is set by runner itself"), ("X-A: \x1b[1m", "cannot be sent")],
)
@pytest.mark.usefixtures("job")
def test_a_header_that_cannot_be_sent_is_refused(cli: Cli, line: str, said: str) -> None:
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--header", line)
    assert done.exit_code in (2, 6)
    assert said in " ".join(done.stderr.split())


@pytest.mark.usefixtures("job")
def test_a_run_keeps_the_headers_of_its_command_line_and_shows_its_betas(cli: Cli) -> None:
    done = cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate", "--header", "X-Team: red", "--progress", "none")
    assert "the API does not take the beta" in " ".join(done.stderr.split())
    shown = cli("show", "latest").stdout
    assert "advisor-tool-2026-03-01   added: the advisor tool needs it" in shown
    assert cli("show", "latest", "--json").stdout.count('"added": true') == 1
