"""Prices of one's own: from a file, or a model at a time in the settings; whoever asks hears which ones count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli.prices import price_book_of
from runner.domain.outcome import Usage
from runner.domain.pricing import PICO_PER_USD
from runner.settings import load_settings
from tests.cli.conftest import Cli

MODEL = "claude-sonnet-5-5"


def of(folder: Path, **env: str) -> float:
    """Dollars for a million tokens of input."""
    cost = price_book_of(load_settings(env, folder)).cost_pico(MODEL, Usage(input_tokens=10**6))
    assert cost is not None
    return cost / PICO_PER_USD


def test_a_table_in_json_or_toml(folder: Path) -> None:
    (folder / "prices.json").write_text(json.dumps({"models": [{"id": MODEL, "input": 1.25}]}))
    (folder / "prices.toml").write_text(f'[[models]]\nid = "{MODEL}"\ninput = 1.75\n')
    assert of(folder) == 2
    assert of(folder, RUNNER_PRICES=str(folder / "prices.json")) == 1.25
    assert of(folder, RUNNER_PRICES=str(folder / "prices.toml")) == 1.75


def test_what_a_project_names_lies_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "prices.toml").write_text(f'[[models]]\nid = "{MODEL}"\ninput = 1.75\n')
    (folder / "runner.toml").write_text('prices = "prices.toml"\n')
    (folder / "deep").mkdir()
    assert of(folder / "deep") == 1.75


def test_a_model_at_a_time_in_a_file_of_settings_or_the_environment(folder: Path) -> None:
    (folder / "runner.toml").write_text(f'[model_prices."{MODEL}"]\nmultiplier = 0.85\n')
    assert of(folder) == 1.7
    assert of(folder, RUNNER_MODEL_PRICES=f'{{"{MODEL}": {{"input": 3}}}}') == 3


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (f'[model_prices."{MODEL}"]\ninput = "cheap"\n', "input of claude-sonnet-5-5 must be a number"),
        ('[model_prices]\nclaude = "cheap"\n', "must be a table of tables by model"),
        ('prices = "nowhere.json"\n', "prices in runner.toml names a table of prices that cannot be read"),
    ],
)
def test_a_slip_is_named_with_its_place(cli: Cli, folder: Path, told: str, words: str) -> None:
    (folder / "runner.toml").write_text(told)
    (folder / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    done = cli("check", "rows.jsonl", "-m", MODEL)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_budget_is_reckoned_with_them(cli: Cli, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    shipped = json.loads(cli("check", "rows.jsonl", "-m", MODEL, "--json").stdout)["usd_at_most"]
    (folder / "runner.toml").write_text(f'[model_prices."{MODEL}"]\nmultiplier = 2\n')
    assert json.loads(cli("check", "rows.jsonl", "-m", MODEL, "--json").stdout)["usd_at_most"] == 2 * shipped


def test_check_warns_of_a_retirement(cli: Cli, folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    assert "2026-11-30" in cli("check", "rows.jsonl", "-m", "claude-sonnet-4-5").stderr
