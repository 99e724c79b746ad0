"""Limits on the command line: the tier, the Admin API, where they come from, and what the service counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli.launch import own_limits_from, settled
from runner.cli.limits import known_limits
from runner.clock import SystemClock
from runner.domain.job import Job, Limits
from runner.domain.limits import LimitSource, RateLimits
from runner.domain.pricing import shipped_prices
from runner.settings import load_settings
from tests.cli.conftest import Cli

MODEL = "claude-haiku-5-5"


@pytest.fixture
def rows(folder: Path) -> str:
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt":"say {number}"}}\n' for number in range(9)))
    return "rows.jsonl"


def test_where_a_limit_of_the_run_was_set(folder: Path) -> None:
    env = {"RUNNER_ITPM": "500", "RUNNER_OTPM": "50"}
    settings = load_settings(env, folder, {"rpm": 10})
    job = settled(Job(name="a", model=MODEL, limits=Limits(rpm=99, otpm=50)), settings, simulated=True)
    assert own_limits_from(job, settings) == {"rpm": "--rpm", "itpm": "RUNNER_ITPM", "otpm": "RUNNER_OTPM"}
    assert own_limits_from(job, load_settings({}, folder)) == {}


@pytest.mark.anyio
async def test_the_tier_tells_the_limits_of_every_class(folder: Path) -> None:
    settings = load_settings({"RUNNER_TIER": "build"}, folder)
    known = await known_limits(Job(name="a", model=MODEL), settings, shipped_prices(), SystemClock())
    assert known["opus-5"].limits == RateLimits(5_000, 5_000_000, 1_000_000)
    assert known["opus-5"].source is LimitSource.TIER


@pytest.mark.anyio
async def test_an_admin_api_that_does_not_answer_is_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"ANTHROPIC_ADMIN_KEY": "sk-ant-admin01-CANARY", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    settings = load_settings(env, folder, {"tier": "start"})
    job = Job(name="a", model=MODEL, base_url="http://127.0.0.1:9")
    known = await known_limits(job, settings, shipped_prices(), SystemClock())
    assert known["opus-5"].limits.rpm == 1_000
    told = capsys.readouterr().err
    assert "warning[admin-limits]" in told
    assert "CANARY" not in told


@pytest.mark.anyio
async def test_an_admin_key_does_not_go_where_a_file_of_the_project_points(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "runner.toml").write_text('base_url = "https://elsewhere.example"\n')
    settings = load_settings({"ANTHROPIC_ADMIN_KEY": "sk-ant-admin01-CANARY"}, folder)
    job = Job(name="a", model=MODEL, base_url="https://elsewhere.example")
    assert await known_limits(job, settings, shipped_prices(), SystemClock()) == {}
    assert "Nothing was sent" in capsys.readouterr().err


def test_an_unknown_tier_is_named(cli: Cli, rows: str) -> None:
    done = cli("run", rows, "-m", MODEL, "--simulate", "--tier", "gold")
    assert done.exit_code == 2
    assert "start, build, scale" in done.stderr


def test_estimates_and_their_error_are_reported(cli: Cli, rows: str) -> None:
    done = cli("run", rows, "-m", MODEL, "--simulate", "--tier", "start", "-o", "out.jsonl", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout.splitlines()[-1])["estimates"]
    assert told["answers"] == 9
    assert set(told["input_error"]) == {"together", "each"}
    assert "call sizes" in done.stderr
    assert "off a call" in cli("show", "latest").stdout
    assert json.loads(cli("show", "latest", "--json").stdout)["estimates"]["answers"] == 9


def test_the_service_counts_the_first_rows_on_request(cli: Cli, rows: str) -> None:
    done = cli("check", rows, "-m", MODEL, "--simulate", "--count", "5", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)["counted"]
    assert (told["rows"], told["input_tokens"]) == (5, 10)
    assert (
        "the service's count of the first 5" in cli("check", rows, "-m", MODEL, "--simulate", "--count", "5").stdout
    )
    assert json.loads(cli("check", rows, "-m", MODEL, "--json").stdout)["counted"] is None


def test_counting_needs_a_key(cli: Cli, rows: str) -> None:
    assert cli("check", rows, "-m", MODEL, "--count", "5").exit_code == 5
