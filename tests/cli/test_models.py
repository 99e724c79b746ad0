"""Models on a screen and for machines, and what the service says of them."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli
from tests.faults.harness import simulator_process


@pytest.mark.parametrize("line", [("models",), ("models", "ls")])
def test_the_list_has_every_model_with_its_prices(cli: Cli, line: tuple[str, ...]) -> None:
    done = cli(*line)
    assert done.exit_code == 0
    opus = next(row.split() for row in done.stdout.splitlines() if row.startswith("claude-opus-5-5"))
    assert opus[1:7] == ["$4.00", "$20.00", "$0.20", "1M", "128k", "active"]
    assert "prompts above 100,000" in done.stdout
    assert "retires on 2026-11-30" in done.stderr or "was to retire on 2026-11-30" in done.stderr


def test_one_model_in_full(cli: Cli) -> None:
    shown = cli("models", "show", "claude-haiku-4-5").stdout
    for words in ("claude-haiku-4-5-20251001", "$0.10  cache read", "$2.00  cache write, 1 h", "200,000 tokens"):
        assert words in shown
    told = json.loads(cli("models", "show", "claude-haiku-5-5", "--json").stdout)
    assert [band["output"] for band in told["usd_per_million_tokens"]] == [0.5, 2.5]


def test_a_misspelt_model_is_answered_with_the_nearest(cli: Cli) -> None:
    done = cli("models", "show", "claude-haiku-5.5")
    assert done.exit_code == 2
    assert "did you mean claude-haiku-5-5 ?" in done.stderr


def test_prices_of_ones_own_are_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_MODEL_PRICES", '{"claude-opus-5-5": {"multiplier": 0.5}}')
    assert "$2.00  input" in cli("models", "show", "claude-opus-5-5").stdout


def test_the_service_is_asked_and_says_the_same(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with simulator_process() as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        assert "the service says the same of all of them" in cli("models", "--refresh").stderr
        entry = '{"claude-next-6": {"input": 1, "output": 2}}'
        monkeypatch.setenv("RUNNER_MODEL_PRICES", entry)
        shown = cli("models", "ls", "--refresh").stdout
        assert "claude-next-6: the service does not list it to this key" in shown
        told = json.loads(cli("models", "--refresh", "--json").stdout)
        assert [one["model"] for one in told["differences"]] == ["claude-next-6"]


def test_to_ask_needs_a_key(cli: Cli) -> None:
    assert cli("models", "--refresh").exit_code == 5
