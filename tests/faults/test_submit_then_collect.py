"""Batches as a crontab has them: one command sends all and leaves, another looks from time to time what has ended."""

from __future__ import annotations

import time
from functools import partial

import pytest

from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.batches import BATCH_POINTS, BATCH_SECONDS, CREATE, TROUBLED, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import KILLED, PATIENCE_S, Case, Ended, at_once, mixed_rows
from tests.faults.promises import check_promises

SUBMIT = ("run", "job.yaml", "--submit-only")
COLLECT = ("collect", "latest")
ROWS_FAILED, HELD, NOT_YET = 3, 10, 75


def told(case: Case, command: tuple[str, ...], **env: str) -> Ended:
    with case.started(command=command, **env) as process:
        return case.end_of(process)


def collected(case: Case) -> Ended:
    """Every half second, as long as the command says that it is to be called again."""
    until = time.monotonic() + PATIENCE_S
    while True:
        ended = told(case, COLLECT)
        if ended.code not in (HELD, NOT_YET):
            return ended
        assert time.monotonic() < until, f"still not there: {ended}"
        time.sleep(0.5)


def submit_and_collect(case: Case) -> None:
    """The first command ends the run by itself where all results are there already."""
    ended = told(case, SUBMIT)
    assert ended.code in (0, ROWS_FAILED, HELD, NOT_YET), ended
    if not case.output.exists():
        assert collected(case).finished
    check_promises(case)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_submitted_is_collected(cases: Cases, kind: str) -> None:
    """Rows that expire or fail inside their batches are sent again by the command that collects."""
    submit_and_collect(batch_case(cases, kind, mixed_rows(24), service=TROUBLED))


def test_a_create_of_unknown_end_is_settled_by_whoever_collects(cases: Cases) -> None:
    case = batch_case(cases, rows_a_batch=24)
    case.simulator.reset(Fault(kind="executed_error", **CREATE, first=1))
    submit_and_collect(case)
    assert len(case.simulator.creates()) == 1


def die_submit_and_collect(case: Case, point: Failpoint) -> None:
    """Dead while it submits, or, where it did not come by the place, while it collects."""
    death = {"RUNNER_FAILPOINTS": f"{point}=kill@1"}
    ends: list[int] = []
    while KILLED not in ends:
        ends.append(told(case, COLLECT if ends else SUBMIT, **death).code)
        assert ends[-1] in (0, NOT_YET, KILLED), ends
        time.sleep(BATCH_SECONDS)
    submit_and_collect(case)


@pytest.mark.parametrize("points", [BATCH_POINTS[:5], BATCH_POINTS[5:]], ids=["on the way out", "on the way back"])
def test_dead_at_any_place_the_two_commands_end_the_run(cases: Cases, points: list[Failpoint]) -> None:
    made = [batch_case(cases, simulator_number=number) for number in range(len(points))]
    at_once([partial(die_submit_and_collect, case, point) for case, point in zip(made, points, strict=True)])
