"""`cost reconcile` against the simulator's own reports: a real run, its bill, and what somebody else asked."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.faults.harness import SimulatorProcess, simulator_process

MODEL = "claude-haiku-5-5"


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorProcess]:
    with simulator_process(batch_seconds=0.2) as process:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", process.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-admin01-test")
        monkeypatch.setenv("RUNNER_BATCH_POLL_S", "0.1")
        yield process


@pytest.fixture
def rows(folder: Path) -> str:
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt":"say {number}"}}\n' for number in range(9)))
    return "rows.jsonl"


def reconciled(cli: Cli) -> dict[str, object]:
    done = cli("cost", "reconcile", "--day", "today", "--json")
    assert done.exit_code == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_the_books_of_a_day_are_the_bill_of_that_day(
    cli: Cli, simulator: SimulatorProcess, rows: str, mode: str
) -> None:
    assert cli("run", rows, "-m", MODEL, "--mode", mode, "-o", "out.jsonl").exit_code == 0
    told = reconciled(cli)
    assert told["books_pico"] == told["bill_pico"] == sum(int(charge["pico"]) for charge in simulator.bill()) > 0
    assert "they agree to the last digit" in cli("cost", "reconcile", "--day", "today").stdout
    assert "nothing in the books and nothing on the bill" in cli("cost", "reconcile").stdout


def test_what_somebody_else_asked_is_left_over(cli: Cli, simulator: SimulatorProcess, rows: str) -> None:
    assert cli("run", rows, "-m", MODEL, "-o", "out.jsonl").exit_code == 0
    body = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "and I?"}]}
    headers = {"x-api-key": "sk-ant-other", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    request = urllib.request.Request(simulator.url + "/v1/messages", json.dumps(body).encode(), headers)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
    assert reconciled(cli)["explained"] is False
    shown = cli("cost", "reconcile", "--day", "today").stdout
    assert "asked by others in this workspace" in shown
    assert "not all of the difference is explained" in shown


def test_other_prices_are_found_by_their_tokens(
    cli: Cli, simulator: SimulatorProcess, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_MODEL_PRICES", f'{{"{MODEL}": {{"multiplier": 1000}}}}')
    assert cli("run", rows, "-m", MODEL, "-o", "out.jsonl").exit_code == 0
    shown = cli("cost", "reconcile", "--day", "today").stdout
    assert "the bill asked input $0.1, output $0.5 for a million of each" in shown
    monkeypatch.delenv("RUNNER_MODEL_PRICES")
    assert cli("cost", "reprice", "--yes").exit_code == 0
    assert "they agree to the last digit" in cli("cost", "reconcile", "--day", "today").stdout


def test_it_takes_an_admin_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("cost", "reconcile")
    assert done.exit_code == 5
    assert "ANTHROPIC_ADMIN_KEY" in done.stderr


def test_an_ordinary_key_is_refused(cli: Cli, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", "sk-ant-api03-test")
    done = cli("cost", "reconcile")
    assert done.exit_code == 5
    assert "an Admin API key is required" in done.stderr
