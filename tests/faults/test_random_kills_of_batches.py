"""Many deaths at random moments of one run in batches: nothing is lost, nothing is made or answered twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.batches import TROUBLED, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import Case, Row, plain_rows, row, seed_of
from tests.faults.promises import check_posts, check_promises

ROWS = 200
ROWS_A_BATCH = 10


def rows() -> list[Row]:
    made = plain_rows(ROWS)
    for number in range(3, ROWS, 40):
        made[number] = row(number, "[[sim:pause_turn=1]]")
    return made


def kill_often_then_finish(case: Case, dice: random.Random, kills: int) -> None:
    """Some live long enough to see an unknown batch settled, most do not."""
    while case.kills < kills:
        moment_s = dice.uniform(0.5, 1.6) if dice.random() < 0.8 else dice.uniform(1.6, 5.0)
        with case.started() as process:
            time.sleep(moment_s)
            process.kill()
            ended = case.end_of(process)
        with case.store() as store:
            if store.recent_runs(1):
                check_posts(case, store)
        if ended.finished:
            break
    case.finish()
    checked = check_promises(case)
    print(f"{case.kills} kills, {checked.batches} batches of {len(case.simulator.creates())} creates")


@pytest.mark.timeout(240)
def test_fifteen_kills_on_sqlite(cases: Cases) -> None:
    kill_often_then_finish(batch_case(cases, rows=rows(), rows_a_batch=ROWS_A_BATCH), seed_of("kills of batches"), 15)


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_kills_on_both_stores(cases: Cases, kind: str, seed: int) -> None:
    service = TROUBLED | {"batch_seconds": 3.0, "batch_expires_s": 3.0} if seed else {"batch_seconds": 1.0}
    # One row in four fails in each batch: of two hundred some would use five attempts up.
    case = batch_case(cases, kind, rows(), rows_a_batch=ROWS_A_BATCH // 2, service=service, max_attempts=50)
    kill_often_then_finish(case, seed_of(f"a hundred kills of batches, {seed}"), 100)
