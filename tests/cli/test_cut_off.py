"""Answers that were cut off are asked again with more room or not at all, and the price is said before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

MODEL = "claude-haiku-5-5"
LONG = "tell me all [[sim:tokens=60]]"


@pytest.fixture
def cut(cli: Cli, folder: Path) -> str:
    """Two answers of 60 tokens that may have 20."""
    rows = [{"prompt": f"{LONG} {number}", "params": {"max_tokens": 20}} for number in range(2)]
    rows.append({"prompt": "short", "params": {"max_tokens": 200}})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("run", "rows.jsonl", "-m", MODEL, "--simulate", "-o", "out.jsonl").exit_code == 3
    return "latest"


def statuses(folder: Path) -> list[str]:
    return [json.loads(line)["status"] for line in (folder / "out.jsonl").read_text().splitlines()]


def test_a_retry_that_would_only_cut_off_again_is_refused(cli: Cli, folder: Path, cut: str) -> None:
    assert statuses(folder) == ["truncated", "truncated", "succeeded"]
    done = cli("retry", cut)
    assert done.exit_code == 2
    assert "2 rows with answers that were cut off would be cut off again; there is nothing else to ask" in done.stderr
    assert "--max-tokens N" in done.stderr
    assert json.loads(cli("cost", "--simulate", "--json").stdout)["total"]["calls"] == 3


def test_with_more_room_they_are_asked_and_priced_first(cli: Cli, folder: Path, cut: str) -> None:
    done = cli("retry", cut, "--max-tokens", "100", "-o", "out.jsonl")
    assert done.exit_code == 0
    assert "2 rows whose answers were cut off go again with max_tokens 100: at most $0.0001" in done.stderr
    assert statuses(folder) == ["succeeded"] * 3
    assert json.loads(cli("cost", "--simulate", "--json").stdout)["total"]["calls"] == 5


def test_too_little_more_room_is_no_room(cli: Cli, folder: Path, cut: str) -> None:
    assert cli("retry", cut, "--max-tokens", "20").exit_code == 2
    assert cli("retry", cut, "--max-tokens", "30", "-o", "out.jsonl").exit_code == 3
    assert statuses(folder) == ["truncated", "truncated", "succeeded"]
    assert cli("retry", cut, "--max-tokens", "30").exit_code == 2
