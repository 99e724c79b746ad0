"""Deaths at random moments of one run of thousands of rows: nothing is lost, nothing is answered twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.conftest import Cases
from tests.faults.harness import Case, plain_rows, seed_of
from tests.faults.promises import check_promises

ROWS = 3_000
SLOTS = 20
KILLS, FEW_KILLS = 20, 10


def kill_somewhere(case: Case, dice: random.Random, after_calls: int) -> None:
    """Once so many calls have been executed in all, or at some moment of its first second."""
    with case.started() as process:
        if dice.random() < 0.8:
            case.simulator.wait_for(after_calls)
        else:
            time.sleep(dice.uniform(0.0, 1.0))
        time.sleep(dice.uniform(0.0, 0.03))
        process.kill()
        case.end_of(process)


def kill_often_then_finish(case: Case, dice: random.Random, kills: int) -> None:
    for after_calls in sorted(dice.sample(range(1, ROWS - 100), kills)):
        kill_somewhere(case, dice, after_calls)
    case.finish()
    checked = check_promises(case)
    assert checked.accepted <= ROWS + case.kills * SLOTS


@pytest.mark.timeout(240)
def test_ten_kills_on_sqlite(cases: Cases) -> None:
    case = cases("sqlite", plain_rows(ROWS), slots=SLOTS, latency_s=0.02)
    kill_often_then_finish(case, seed_of("ten kills"), FEW_KILLS)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seed", range(3))
def test_twenty_kills_on_both_stores(cases: Cases, kind: str, seed: int) -> None:
    case = cases(kind, plain_rows(ROWS), slots=SLOTS, latency_s=0.02)
    kill_often_then_finish(case, seed_of(f"twenty kills, {seed}"), KILLS)
