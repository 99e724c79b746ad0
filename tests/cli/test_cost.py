"""What was spent, on a screen, in a spreadsheet and for machines; and prices put right."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest

from runner.domain.booking import BookingKind
from runner.domain.run import Run
from runner.store.store import Store
from tests.cli.conftest import Cli
from tests.store import building
from tests.store.test_ledger import booked

MODEL = building.MODEL


@pytest.fixture
def runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two jobs of today, one of them with tags; a live answer, one of a batch, a call of unknown end."""
    monkeypatch.setattr(building, "NOW_US", int(time.time() * 1e6))
    letters = building.staged_run(store, 3, tags={"team": "support"})
    fence = building.claim(store, letters, building.NOW_US).fence
    building.stored(store, letters, *(building.send(fence, idx) for idx in range(3)))
    unknown = building.spend(None, kind=BookingKind.UNKNOWN, bound_pico=10**9, usage=None)
    building.stored(
        store,
        letters,
        building.ended(fence, 0, booking=booked()),
        building.ended(fence, 1, booking=booked(key="sub-1", batch="msgbatch_1")),
        building.tried(fence, 2, booking=unknown),
    )
    essays = building.staged_run(store, 1, name="essays", budget_pico=10**12)
    building.settle_all(store, essays)
    return [letters, essays]


def test_nothing_was_spent_where_there_is_no_store(cli: Cli, folder: Path) -> None:
    done = cli("cost")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing was spent yet" in done.stderr
    assert json.loads(cli("cost", "--json").stdout)["total"]["paid_pico"] == 0
    assert not (folder / "state").exists()


def test_cost_by_job_with_what_was_saved_and_what_is_unknown(cli: Cli, runs: list[Run]) -> None:
    """19 and 9.5 micro-dollars of list prices of 55, as tests of the ledger reckon them by hand."""
    shown = cli("cost").stdout
    letters = next(line for line in shown.splitlines() if line.startswith("letters"))
    assert letters.split()[1:8] == ["$0.000029", "<=", "$0.001", "$0.0143", "$0.00011", "$0.0000095", "$0.000072"]
    assert "total" in shown
    assert "1 call of unknown end may have been billed too: at most $0.001 in all" in shown
    assert f"{time.strftime('%Y-%m', time.gmtime())}: $" in shown


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", [MODEL]),
        ("run", None),
        ("tag", ["team=support", "(no tags)"]),
        ("tag:team", ["support", "(no team)"]),
        ("schedule", ["(by hand)"]),
    ],
)
def test_cost_by_whatever_is_asked(cli: Cli, runs: list[Run], by: str, names: list[str] | None) -> None:
    told = json.loads(cli("cost", "--by", by, "--since", "today", "--json").stdout)
    expected = {run.label for run in runs} if names is None else set(names)
    assert {group["name"] for group in told["groups"]} == expected
    assert told["total"]["paid_pico"] == 28_500_000 + building.COST_PICO
    assert told["total"]["unknown_usd_at_most"] == 0.001
    assert told["month"]["paid_usd"] == told["total"]["paid_usd"]


def test_cost_for_a_spreadsheet_is_exact_and_inert(cli: Cli, store: Store, runs: list[Run]) -> None:
    building.settle_all(store, building.staged_run(store, 1, name="=HYPERLINK(1)"))
    lines = list(csv.DictReader(io.StringIO(cli("cost", "--csv").stdout)))
    assert {line["job"] for line in lines} == {"letters", "essays", "'=HYPERLINK(1)"}
    letters = next(line for line in lines if line["job"] == "letters")
    assert (letters["paid_usd"], letters["paid_pico"]) == ("0.0000285", "28500000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "colour"), "must be one of job, model, day, tag, run, schedule, or tag:NAME"),
        (("--by", "job:x"), "must be one of"),
        (("--since", "soon"), "'soon' is no day"),
        (("--csv", "--json"), "contradict"),
    ],
)
def test_a_slip_is_answered(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli("cost", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_simulated_money_is_a_matter_of_its_own(cli: Cli, runs: list[Run], simulated_store: Store) -> None:
    building.settle_all(simulated_store, building.staged_run(simulated_store, 1, name="rehearsal", simulated=True))
    assert "rehearsal" not in cli("cost").stdout
    shown = cli("cost", "--simulate").stdout
    assert "rehearsal" in shown
    assert "SIMULATED: nothing was billed" in shown


def test_an_answer_without_a_price_is_warned_of_and_put_right(cli: Cli, store: Store, folder: Path) -> None:
    run = building.staged_run(store, 1)
    fence = building.claim(store, run).fence
    building.stored(store, run, building.send(fence, 0))
    building.stored(store, run, building.ended(fence, 0, booking=booked("claude-next-6")))
    assert "1 call was answered whose price is not known" in cli("cost").stderr
    assert "1 line has no price in this table either" in cli("cost", "reprice").stderr

    (folder / "runner.toml").write_text('[model_prices."claude-next-6"]\ninput = 1\noutput = 2\n')
    asked = cli("cost", "reprice")
    assert "1 line would be corrected" in asked.stdout
    assert "runner cost reprice --yes" in asked.stderr
    assert json.loads(cli("cost", "--json").stdout)["total"]["calls_without_price"] == 1
    told = json.loads(cli("cost", "reprice", "--yes", "--json").stdout)
    assert (told["corrected"], told["more_usd"]) == (1, 0.00016)  # 100 x 1, 400 x 0.1 and 10 x 2 micro-dollars
    total = json.loads(cli("cost", "--json").stdout)["total"]
    assert (total["calls_without_price"], total["paid_usd"]) == (0, 0.00016)
    assert "0 lines were corrected" in cli("cost", "reprice", run.label, "--yes").stdout
