"""How often a row is sent: `max_attempts` times and not once more, a kill costing at most one send each."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import pytest

from runner.failpoints import Failpoint
from runner.simulator import Fault
from tests.faults.conftest import Cases
from tests.faults.harness import Case, Row, plain_rows, row, wait_until
from tests.faults.promises import check_promises

DOOMED = 3
MAX_ATTEMPTS = 3


def rows_with(wish: str, status: str) -> list[Row]:
    rows = plain_rows(8)
    rows[DOOMED] = row(DOOMED, wish, status)
    return rows


def failing(case: Case, kind: str, **more: Any) -> None:
    """From now on every call for the doomed row meets this; each is counted."""
    case.simulator.reset(Fault(kind=kind, body_contains="doomed", **more))


def sends_of_the_doomed(case: Case) -> int:
    return sum(case.simulator.tallies()["faults"].values())


def has_sent_the_doomed(case: Case, times: int) -> bool:
    return sends_of_the_doomed(case) >= times


def test_a_row_that_always_meets_a_500_is_sent_max_attempts_times(cases: Cases) -> None:
    case = cases("sqlite", rows_with("doomed", "errored"), max_attempts=MAX_ATTEMPTS)
    failing(case, "api_error")
    case.finish()
    assert sends_of_the_doomed(case) == MAX_ATTEMPTS
    lines = check_promises(case).lines
    assert lines[DOOMED]["attempts"] == MAX_ATTEMPTS
    assert lines[DOOMED]["error"]["type"] == "api_error"
    assert {line["attempts"] for line in lines if line["index"] != DOOMED} == {1}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_each_kill_costs_at_most_one_send_more(cases: Cases, kind: str) -> None:
    case = cases(kind, rows_with("doomed", "errored"), max_attempts=MAX_ATTEMPTS)
    failing(case, "api_error")
    for seen in (1, 2):
        with case.started() as process:
            wait_until(partial(has_sent_the_doomed, case, seen), f"{seen} sends")
            process.kill()
            case.end_of(process)
    case.finish()
    assert case.kills == 2
    assert MAX_ATTEMPTS <= sends_of_the_doomed(case) <= MAX_ATTEMPTS + case.kills
    check_promises(case)


def test_a_kill_between_reply_and_commit_is_one_send_more_but_uses_up_no_attempt(cases: Cases) -> None:
    case = cases("sqlite", [row(0, "doomed", "errored")], max_attempts=2)
    failing(case, "api_error")
    assert case.run_killed_at(Failpoint.FIRST_BYTE, 1)
    case.finish()
    assert sends_of_the_doomed(case) == 3
    assert check_promises(case).lines[0]["attempts"] == 2


def test_attempts_go_on_being_counted_after_a_stop_in_good_order(cases: Cases) -> None:
    case = cases("sqlite", rows_with("doomed", "errored"), max_attempts=MAX_ATTEMPTS)
    failing(case, "api_error")
    with case.started() as process:
        wait_until(lambda: sends_of_the_doomed(case) >= 1, "the first send")
        process.send_signal(signal.SIGTERM)
        assert case.end_of(process).code == 143
    assert sends_of_the_doomed(case) < MAX_ATTEMPTS
    case.finish()
    assert sends_of_the_doomed(case) == MAX_ATTEMPTS
    assert check_promises(case).lines[DOOMED]["attempts"] == MAX_ATTEMPTS


def test_a_row_that_the_api_refuses_is_sent_once(cases: Cases) -> None:
    case = cases("sqlite", rows_with("doomed", "errored"))
    failing(case, "error", status=400)
    case.finish()
    assert sends_of_the_doomed(case) == 1
    assert check_promises(case).lines[DOOMED]["attempts"] == 1
    case.finish()
    assert sends_of_the_doomed(case) == 1


def test_a_refused_row_whose_refusal_was_lost_is_sent_once_more(cases: Cases) -> None:
    case = cases("sqlite", [row(0, "doomed", "errored")])
    failing(case, "error", status=400)
    assert case.run_killed_at(Failpoint.GROUP_BEFORE, 2)
    case.finish()
    assert sends_of_the_doomed(case) == 2
    check_promises(case)


def test_flaky_rows_succeed_with_the_right_number_of_attempts(cases: Cases) -> None:
    rows = plain_rows(10)
    for number in (1, 2):
        rows[number] = row(number, f"[[sim:flaky={number}:500:api_error]]")
    rows[4] = row(4, "[[sim:flaky=3:500:api_error]]", "errored")
    case = cases("sqlite", rows, max_attempts=MAX_ATTEMPTS)
    case.finish()
    lines = check_promises(case).lines
    assert [line["attempts"] for line in lines[:5]] == [1, 2, 3, 1, 3]
    assert case.simulator.tallies()["refused"] == {"api_error": 1 + 2 + 3}


def test_a_rate_limit_is_no_attempt(cases: Cases) -> None:
    case = cases("sqlite", rows_with("doomed", "succeeded"), max_attempts=1)
    case.simulator.reset(
        Fault(kind="rate_limit", body_contains="doomed", first=2, retry_after_s=0.1, retry_after="ms")
    )
    case.finish()
    assert sends_of_the_doomed(case) == 2
    assert check_promises(case).lines[DOOMED]["attempts"] == 1
