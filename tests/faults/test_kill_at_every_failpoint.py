"""The process dies at each named place, at its first visit and at later ones; the same command then goes on.

For each place and k = 1, 5, 34, ... until it is not reached k times any more: a new run is killed at its k-th visit,
the same command ends it, and everything that is promised is checked. The long form takes every k.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest

from runner.failpoints import Failpoint
from tests.faults.conftest import Cases
from tests.faults.harness import Case, Row, large_rows, mixed_rows
from tests.faults.promises import check_promises

# Those of a run that asks live; those of batches have a file of their own.
POINTS = [point for point in Failpoint if not point.name.startswith("BATCH_")]
# A third of the places on PostgreSQL, the same ones each time.
SOME_POINTS = sorted(random.Random(20).sample(POINTS, k=len(POINTS) // 3), key=POINTS.index)
# Those that meet more than one chunk, or a chunk's end.
POINTS_OF_CHUNKS = [
    Failpoint.STAGE_BEFORE,
    Failpoint.STAGE_AFTER,
    Failpoint.CLAIM_BEFORE,
    Failpoint.CLAIM_AFTER,
]


def some_hits() -> Iterator[int]:
    """1, 2, 5, 13, 34, ...: the first ones, and a few of those that many rows make."""
    one, two = 1, 2
    while True:
        yield one
        one, two = two, 3 * two - one


def few_hits() -> Iterator[int]:
    """Every other of those: 1, 5, 34, ..."""
    return islice(some_hits(), 0, None, 2)


def rows_for(hit: int) -> list[Row]:
    """A row that fails once costs a wait; the later deaths meet one."""
    return mixed_rows(24, flaky=hit > 2)


def kill_and_go_on(case: Case, point: Failpoint, hit: int) -> bool:
    """False when the place was not reached so often: the run ended undisturbed."""
    print(f"{point} visit {hit}")
    killed = case.run_killed_at(point, hit)
    if killed:
        case.finish()
    check_promises(case)
    return killed


def walk(cases: Cases, kind: str, point: Failpoint, hits: Iterator[int]) -> int:
    """How often the place was reached."""
    for kills, hit in enumerate(hits):
        if not kill_and_go_on(cases(kind, rows_for(hit)), point, hit):
            return kills
    raise AssertionError("unreachable")


@pytest.mark.parametrize("point", POINTS)
def test_a_run_on_sqlite_that_died_here_is_finished_by_the_same_command(cases: Cases, point: Failpoint) -> None:
    assert walk(cases, "sqlite", point, few_hits()) > 0


@pytest.mark.parametrize("point", SOME_POINTS)
def test_a_run_on_postgresql_that_died_here_is_finished_by_the_same_command(cases: Cases, point: Failpoint) -> None:
    assert walk(cases, "postgresql", point, few_hits()) > 0


@pytest.mark.parametrize("point", POINTS_OF_CHUNKS)
def test_a_run_of_several_chunks_that_died_here_is_finished_too(cases: Cases, point: Failpoint) -> None:
    for hit in some_hits():
        if not kill_and_go_on(cases("sqlite", large_rows(30)), point, hit):
            assert hit > 2
            return


def test_one_undisturbed_run_comes_by_every_place(cases: Cases, tmp_path: Path) -> None:
    case = cases("sqlite")
    case.run(RUNNER_FAILPOINTS_SEEN=str(tmp_path / "seen"))
    check_promises(case)
    assert set((tmp_path / "seen").read_text().split()) == set(POINTS)


# -- the long form ------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("point", POINTS)
def test_every_visit_of_every_place(cases: Cases, kind: str, point: Failpoint) -> None:
    assert walk(cases, kind, point, count(1)) > 0


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("point", POINTS)
def test_a_second_death_while_going_on_after_the_first(cases: Cases, kind: str, point: Failpoint) -> None:
    """First in the middle of the calls, then here, and then once more at the same place."""
    for hit in some_hits():
        case = cases(kind, rows_for(hit))
        assert case.run_killed_at(Failpoint.FIRST_BYTE, 9)
        killed = case.run_killed_at(point, hit)
        if killed and not case.run_killed_at(point, hit):
            check_promises(case)
        case.finish()
        check_promises(case)
        if not killed:
            return
