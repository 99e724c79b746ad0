"""The process dies at each place on a batch's way; the same command then goes on, and no batch is made twice.

As in `test_kill_at_every_failpoint`: for each place and k = 1, 2, ... a new run in an empty workspace is killed at
its k-th visit. Every other of them meets rows that expire or fail inside their batches. The default form takes the
first two k, the long form every one until the place is not reached k times any more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest

from runner.failpoints import Failpoint
from tests.faults.batches import BATCH_POINTS, ROWS, TROUBLED, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import Case, at_once, mixed_rows
from tests.faults.promises import Checked, check_promises
from tests.faults.test_kill_at_every_failpoint import some_hits

# A third of the places on PostgreSQL, the same ones each time.
SOME_POINTS = sorted(random.Random(3).sample(BATCH_POINTS, k=len(BATCH_POINTS) // 3), key=BATCH_POINTS.index)
FIRST_HITS = list(islice(some_hits(), 2))
# In the middle of a run of many batches: one is accepted, others are not sent yet.
FIRST_DEATH = (Failpoint.BATCH_POST_AFTER, 2)


def many(cases: Cases, kind: str, hit: int, number: int = 0) -> Case:
    """So many batches that all places are visited often; a row of every second run fails once."""
    troubled = hit % 2 == 0
    return batch_case(
        cases,
        kind,
        mixed_rows(ROWS, flaky=troubled),
        service=TROUBLED if troubled else {},
        simulator_number=number,
    )


def single(cases: Cases, kind: str, _hit: int, number: int = 0) -> Case:
    return batch_case(cases, kind, rows_a_batch=ROWS, simulator_number=number)


def kill_and_go_on(case: Case, point: Failpoint, hit: int) -> bool:
    """False when the place was not reached so often: the run ended undisturbed."""
    print(f"{point} visit {hit}")
    killed = case.run_killed_at(point, hit)
    if killed:
        case.finish()
    checked_promises(case)
    return killed


def checked_promises(case: Case) -> Checked:
    """No death makes a batch more than an undisturbed run would have made."""
    checked = check_promises(case)
    rows_read = sum(create["count"] for create in case.simulator.creates() if create["batch_id"] is not None)
    assert rows_read == sum(line["attempts"] for line in checked.lines)
    return checked


def die_and_go_on(cases: Cases, kind: str, point: Failpoint) -> None:
    """Runs of many batches that die at the first visits, and one of a single batch, all at once."""
    alone = single(cases, kind, 1)
    works = [partial(kill_and_go_on, alone, point, 1)]
    for number, hit in enumerate(FIRST_HITS, start=1):
        works.append(partial(kill_and_go_on, many(cases, kind, hit, number), point, hit))
    assert all(at_once(works))
    assert alone.simulator.batches == 1


@pytest.mark.parametrize("point", BATCH_POINTS)
def test_a_run_on_sqlite_that_died_here_is_finished_by_the_same_command(cases: Cases, point: Failpoint) -> None:
    die_and_go_on(cases, "sqlite", point)


@pytest.mark.parametrize("point", SOME_POINTS)
def test_a_run_on_postgresql_that_died_here_is_finished_by_the_same_command(cases: Cases, point: Failpoint) -> None:
    die_and_go_on(cases, "postgresql", point)


def test_a_second_death_while_going_on_after_the_first(cases: Cases) -> None:
    points = [
        Failpoint.BATCH_INTENT_AFTER,
        Failpoint.BATCH_STATE_BEFORE,
        Failpoint.BATCH_FETCHED,
        Failpoint.BATCH_INGEST_AFTER,
    ]
    works = [partial(second_death, many(cases, "sqlite", 1, number), point, 1) for number, point in enumerate(points)]
    assert all(at_once(works))


def second_death(case: Case, point: Failpoint, hit: int) -> bool:
    """First in the middle of the creates, then here, and then once more at the same place; whether it was reached."""
    assert case.run_killed_at(*FIRST_DEATH)
    killed = case.run_killed_at(point, hit)
    if killed and not case.run_killed_at(point, hit):
        checked_promises(case)
    case.finish()
    checked_promises(case)
    return killed


def test_one_undisturbed_run_comes_by_every_place(cases: Cases, tmp_path: Path) -> None:
    """The places of batches, and those that live runs and batches share: a paused turn goes on live."""
    case = batch_case(cases, "sqlite")
    case.run(RUNNER_FAILPOINTS_SEEN=str(tmp_path / "seen"))
    checked_promises(case)
    assert set((tmp_path / "seen").read_text().split()) == set(Failpoint)


# -- the long form ------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("make", [many, single])
@pytest.mark.parametrize("point", list(Failpoint))
def test_every_visit_of_every_place(
    cases: Cases, kind: str, make: Callable[[Cases, str, int], Case], point: Failpoint
) -> None:
    for hit in count(1):
        if not kill_and_go_on(make(cases, kind, hit), point, hit):
            assert hit > 1
            return


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("point", list(Failpoint))
def test_every_second_death(cases: Cases, kind: str, point: Failpoint) -> None:
    for hit in some_hits():
        if not second_death(many(cases, kind, hit), point, hit):
            return
