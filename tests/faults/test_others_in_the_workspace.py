"""Batches of somebody else beside ours, and a key that suddenly opens another workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest

from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.batches import CREATE, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import WORKSPACE, Case, Row, at_once, plain_rows, row, wait_until
from tests.faults.promises import check_promises
from tests.faults.test_creates_of_unknown_end import SETTLED_S, meeting

ROWS = 5
HELD = 10  # exit code: a person has to decide


def one_batch(cases: Cases, kind: str = "sqlite", rows: Sequence[Row] | None = None, **more: Any) -> Case:
    return batch_case(cases, kind, rows or plain_rows(ROWS), rows_a_batch=ROWS, **more)


def us_of(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1e6)


@contextmanager
def beside_a_foreign_batch(case: Case, seconds: float) -> Iterator[dict[str, Any]]:
    """As soon as ours is posted somebody else makes one of the same size; in the end it is as it would have been."""
    with case.started() as process:
        wait_until(lambda: bool(case.simulator.creates()), "the first create")
        foreign = case.simulator.add_foreign(ROWS, seconds=seconds)
        ended = case.end_of(process)
    assert ended.code == 0, ended
    left = case.simulator.batch(foreign["id"])
    assert left["cancel_initiated_at"] is None
    assert left["request_counts"]["succeeded"] == ROWS
    yield left


# -- foreign batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_foreign_batch_that_might_be_ours_is_waited_for_and_left_alone(cases: Cases, kind: str) -> None:
    """Ours was not made. Until the other has ended nobody can tell, so nothing is sent again before."""
    case = meeting(one_batch(cases, kind), "500")
    with beside_a_foreign_batch(case, SETTLED_S + 1.5) as foreign:
        assert check_promises(case).batches == 1
        _, second = case.simulator.creates()
        assert second["at_us"] > us_of(foreign["ended_at"])


def test_of_a_foreign_batch_and_ours_ours_is_taken(cases: Cases) -> None:
    """The other one ends first and is read first."""
    case = meeting(one_batch(cases, service={"batch_seconds": SETTLED_S + 1.5}), "never_answered")
    with beside_a_foreign_batch(case, SETTLED_S):
        assert check_promises(case).batches == 1
        assert len(case.simulator.creates()) == 1


def test_a_foreign_batch_is_not_taken_for_a_duplicate(cases: Cases) -> None:
    """The sweep at the end of a run reads whose it is, and leaves it at that."""
    case = meeting(one_batch(cases, service={"batch_seconds": 2.0}), "500")
    with beside_a_foreign_batch(case, SETTLED_S - 1.0):
        assert check_promises(case).batches == 1


# -- what a person has asked for ----------------------------------------------------------------------------------


def test_in_a_workspace_of_its_own_the_only_candidate_is_cancelled_on_wish(cases: Cases) -> None:
    """Its finished rows stay, the others go again."""
    case = one_batch(
        cases,
        batch={"on_unknown": "cancel", "workspace_exclusive": True},
        service={"batch_seconds": 60.0, "batch_canceled_share": 0.4, "batch_cancel_seconds": 0.2},
    )
    case.simulator.reset(Fault(kind="stall", **CREATE, first=1))
    with case.started() as process:
        case.simulator.wait_for_batches(2)
        first, second = case.simulator.creates()
        assert (first["count"], second["count"]) == (ROWS, 2)
        case.simulator.cancel(second["batch_id"])
        assert case.end_of(process).code == 0
    assert check_promises(case).batches == 2


def test_rows_that_are_resubmitted_on_wish_are_paid_twice_at_most_and_told_so(cases: Cases) -> None:
    case = meeting(
        one_batch(cases, batch={"on_unknown": "resubmit"}, service={"batch_seconds": SETTLED_S + 4.0}),
        "never_answered",
    )
    ended = case.run()
    assert ended.code == 12, ended
    assert check_promises(case, duplicates=1, lost_calls=1).batches == 2


# -- another workspace --------------------------------------------------------------------------------------------


def move(case: Case, *, away: bool) -> None:
    case.simulator.move_key("wrkspc_01OfSomebodyElse" if away else WORKSPACE)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_with_a_key_of_another_workspace_nothing_is_declared_absent(cases: Cases, kind: str) -> None:
    """The batch is there and cannot be seen. The run says that a person has to decide, and with the key back in its
    place the same command goes on by itself."""
    case = one_batch(cases, kind)
    assert case.run_killed_at(Failpoint.BATCH_POST_AFTER, 1)
    move(case, away=True)
    for _ in range(2):
        held = case.run()
        assert held.code == HELD, held
        assert "another workspace" in held.stderr
    move(case, away=False)
    assert case.finish().code == 0
    assert check_promises(case).batches == 1
    assert len(case.simulator.creates()) == 1


def test_a_person_is_asked_although_the_budget_has_no_room_for_other_rows(cases: Cases) -> None:
    """It might have room again if the first batch were known, and so the run would wait for ever."""
    case = batch_case(cases, rows=plain_rows(2 * ROWS), rows_a_batch=ROWS, budget_usd=0.0055)
    assert case.run_killed_at(Failpoint.BATCH_POST_AFTER, 1)
    move(case, away=True)
    held = case.run()
    assert held.code == HELD, held
    move(case, away=False)
    assert case.finish().code == 0
    check_promises(case)


# -- two runs of our own ------------------------------------------------------------------------------------------


def beside(case: Case, cases: Cases) -> Case:
    """Another run in the same store and workspace, of batches of the same size."""
    other = one_batch(cases, rows=[row(100 + number) for number in range(2 * ROWS)])
    other.url = case.url
    other.simulator = case.simulator
    return other


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_runs_that_lose_sight_of_batches_of_equal_size_find_each_its_own(cases: Cases, kind: str) -> None:
    """Made at the same time, in one workspace: the list cannot tell them apart, their first lines can."""
    first = one_batch(cases, kind, rows=plain_rows(2 * ROWS))
    second = beside(first, cases)
    first.simulator.reset(Fault(kind="executed_error", **CREATE, after=1, first=2))
    ends = at_once([first.run, second.run])
    assert [ended.code for ended in ends] == [0, 0], ends
    assert first.simulator.batches == len(first.simulator.creates()) == 4
    for case in (first, second):
        lines = [json.loads(line) for line in case.output.read_bytes().splitlines()]
        assert [line["row"]["prompt"] for line in lines] == [json.loads(told.line)["prompt"] for told in case.rows]
        assert all(line["row"]["prompt"] in line["text"] for line in lines)
    with first.store() as store:
        runs = store.recent_runs(9)
        owned = [{one.provider_id for one in store.submissions_of(run.id)} - {None} for run in runs]
        spent = sum(store.money(run.id).spent_pico for run in runs)
    assert [len(ids) for ids in owned] == [2, 2]
    assert not set.intersection(*owned)
    assert spent == sum(Fraction(charge["pico"]) for charge in first.simulator.bill())
