"""A service that does not know its own batches yet, says odd things of them or has no room: nothing is made twice."""

from __future__ import annotations

from typing import Any

import pytest

from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.batches import BATCH_SECONDS, CREATE, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import KILLED, Case, plain_rows, row, wait_until
from tests.faults.promises import Checked, check_promises

ROWS_FAILED = 3
HELD = 10  # exit code: a person has to decide
BATCH: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches/*"}
LIST: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches"}
RESULTS: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches/*/results"}


def ends_well(case: Case, batches: int) -> Checked:
    """The first command ends it, and every batch was posted once."""
    assert case.run().code == 0
    checked = check_promises(case)
    assert checked.batches == batches
    return checked


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_batch_that_is_not_found_at_first_is_waited_for(cases: Cases, kind: str) -> None:
    """Longer than a 404 is thought to heal by itself."""
    case = batch_case(cases, kind, plain_rows(10), service={"batch_404_s": 1.5, "batch_list_delay_s": 0.2})
    ends_well(case, 2)
    assert len(case.simulator.creates()) == 2
    assert case.simulator.tallies()["refused"]["not_found_error"] > 2


def test_a_batch_that_is_listed_but_cannot_be_read_is_neither_taken_nor_given_up(cases: Cases) -> None:
    """A create of unknown end, and for longer than a 404 is thought to heal no word of what is listed. A person is
    asked; once it can be read the same command goes on."""
    case = batch_case(cases, rows=plain_rows(5), service={"batch_404_s": 8.0, "batch_list_delay_s": 0.2})
    case.simulator.reset(Fault(kind="executed_error", **CREATE, first=1))
    held = case.run()
    assert held.code == HELD, held
    wait_until(case.simulator.can_be_found, "the batch to be found")
    ends_well(case, 1)
    assert len(case.simulator.creates()) == 1


def test_states_that_nobody_knows_mean_not_ended_yet(cases: Cases) -> None:
    case = batch_case(cases, rows=plain_rows(10))
    case.simulator.reset(
        Fault(kind="batch_status", **BATCH, first=8),
        Fault(kind="batch_status", **LIST, first=3, message="archived_maybe"),
    )
    ends_well(case, 2)


def test_results_that_break_off_are_fetched_again(cases: Cases) -> None:
    case = batch_case(cases, rows=plain_rows(10))
    case.simulator.reset(
        Fault(kind="cut_body", **RESULTS, first=1),
        Fault(kind="reset_half", **RESULTS, first=1),
        Fault(kind="overloaded", **RESULTS, first=1),
        Fault(kind="api_error", **BATCH, first=2),
        Fault(kind="html_502", **LIST, first=2),
    )
    ends_well(case, 2)


@pytest.mark.parametrize(
    ("own", "service"),
    [
        ({"max_queued": 10}, {"batch_queue": 10}),
        ({}, {"batch_queue": 10, "batch_queue_wait_s": 1}),
    ],
    ids=["told by the job", "told by the service"],
)
def test_a_full_queue_is_waited_for(cases: Cases, own: dict[str, int], service: dict[str, int]) -> None:
    """What is refused for lack of room was not made: the rows go again under another name."""
    case = batch_case(cases, rows=plain_rows(20), batch=own, service=service)
    ends_well(case, 4)
    refused = [create for create in case.simulator.creates() if create["batch_id"] is None]
    assert bool(refused) == (not own)


def test_the_endpoints_own_limit_is_kept_to(cases: Cases) -> None:
    """Listings, creates and questions share it; no more is refused than the limit's own word explains."""
    case = batch_case(cases, rows=plain_rows(10), service={"batch_rpm": 180, "burst_s": 2.0})
    ends_well(case, 2)
    tallies = case.simulator.tallies()
    assert tallies["refused"].get("rate_limit_error", 0) <= tallies["requests"] / 2


def test_a_batch_that_never_ends_is_given_up_by_nobody(cases: Cases) -> None:
    """It stays where it is; the run is stopped by whoever runs it, and goes on when the batch has ended."""
    case = batch_case(cases, rows=plain_rows(10))
    case.simulator.reset(Fault(kind="batch_stuck", **CREATE, first=1, lasts_s=4.0))
    with case.started() as process:
        case.simulator.wait_for_batches(2)
        process.terminate()
        assert case.end_of(process).code == 143
    assert BATCH_SECONDS < 4.0
    ends_well(case, 2)


# -- rows that fail in their batches ------------------------------------------------------------------------------

OVERLOADED = {"batch_errored_share": 1.0}


@pytest.mark.parametrize("visit", [1, 2, 3])
def test_a_row_that_fails_in_every_batch_rides_max_attempts_times(cases: Cases, visit: int) -> None:
    """A death while its line is read is no attempt more."""
    rows = [row(number, status="errored") for number in range(5)]
    case = batch_case(cases, rows=rows, service=OVERLOADED, max_attempts=3)
    assert case.run_killed_at(Failpoint.BATCH_INGEST_AFTER, visit)
    assert case.finish().code == ROWS_FAILED
    checked = check_promises(case)
    assert {line["attempts"] for line in checked.lines} == {3}
    assert checked.batches == len(case.simulator.creates()) == 3


def test_a_retry_of_failed_rows_rides_again_and_leaves_the_others_alone(cases: Cases) -> None:
    rows = plain_rows(10)
    rows[3] = row(3, "[[sim:flaky=1:400:invalid_request_error]]")
    rows[7] = row(7, "[[sim:pause_turn=1]]")
    case = batch_case(cases, rows=rows)
    assert case.finish().code == ROWS_FAILED
    with case.started(
        command=("retry", "latest"), RUNNER_FAILPOINTS=f"{Failpoint.BATCH_INGEST_AFTER}=kill@1"
    ) as first:
        assert case.end_of(first).code == KILLED
    assert case.finish().code == 0
    checked = check_promises(case)
    assert [create["count"] for create in case.simulator.creates()] == [5, 5, 1]
    assert checked.batches == 3
