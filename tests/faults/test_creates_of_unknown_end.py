"""A create whose answer never comes or says nothing: one POST, and the batch it made, if it made one, is found."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from runner.simulator import Fault
from tests.faults.batches import CREATE, ROWS, batch_case
from tests.faults.conftest import Cases
from tests.faults.harness import SETTLE_S, WINDOW_S, Case, at_once, plain_rows
from tests.faults.promises import check_promises

# After so long a batch that nobody knows of and that is not listed has been given up.
SETTLED_S = 2.1 * WINDOW_S + SETTLE_S + 2.0
# What a create meets that makes a batch all the same.
MADE: dict[str, dict[str, Any]] = {
    "never_answered": {"kind": "stall"},
    "made_late_and_never_answered": {"kind": "batch_late", "lasts_s": WINDOW_S / 2},
    "answered_too_late": {"kind": "slow", "lasts_s": 2 * WINDOW_S},
    "made_then_half_an_answer": {"kind": "reset_half"},
    "made_then_500": {"kind": "executed_error", "status": 500},
    "made_then_html_502": {"kind": "executed_html_502"},
    "made_then_reset": {"kind": "executed_reset"},
}
NOT_MADE: dict[str, dict[str, Any]] = {
    "500": {"kind": "api_error"},
    "html_502": {"kind": "html_502"},
    "reset": {"kind": "reset"},
    "redirected": {"kind": "redirect"},
}
# Less than S: in the list soon enough.
HIDDEN_S = SETTLE_S * 0.7


def meeting(case: Case, *ends: str) -> Case:
    """The creates meet these, one after the other."""
    told = [(MADE | NOT_MADE)[end] for end in ends]
    case.simulator.reset(*(Fault(**CREATE, **end, after=number, first=1) for number, end in enumerate(told)))
    return case


def one_create(cases: Cases, end: str, number: int) -> Case:
    """All rows in one batch, in an empty workspace; the list shows a new batch a little later."""
    service = {"batch_list_delay_s": HIDDEN_S}
    case = batch_case(cases, rows=plain_rows(ROWS), rows_a_batch=ROWS, service=service, simulator_number=number)
    return meeting(case, end)


def ends_with(case: Case, *, creates: int) -> None:
    assert case.run().code == 0
    assert check_promises(case).batches == 1
    assert len(case.simulator.creates()) == creates


@pytest.mark.parametrize("ends", [list(MADE)[:4], list(MADE)[4:]])
def test_a_batch_that_was_made_is_found_and_not_made_again(cases: Cases, ends: list[str]) -> None:
    made = [one_create(cases, end, number) for number, end in enumerate(ends)]
    at_once([partial(ends_with, case, creates=1) for case in made])


def test_a_batch_that_was_not_made_is_made_once_that_is_certain(cases: Cases) -> None:
    made = [one_create(cases, end, number) for number, end in enumerate(NOT_MADE)]
    at_once([partial(ends_with, case, creates=2) for case in made])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_of_one_run_are_told_apart(cases: Cases, kind: str) -> None:
    """Batches of equal size, made within the same window: whose each is stands in its lines alone."""
    case = meeting(
        batch_case(cases, kind, plain_rows(ROWS), service={"batch_list_delay_s": HIDDEN_S}),
        "made_then_500",
        "never_answered",
        "500",
        "made_then_reset",
    )
    assert case.run().code == 0
    assert check_promises(case).batches == 5


def test_a_create_that_says_no_is_no_batch_and_needs_no_settling(cases: Cases) -> None:
    """An overload is a refusal: the rows go again at once, under another name."""
    case = batch_case(cases, rows=plain_rows(5))
    case.simulator.reset(Fault(kind="overloaded", **CREATE, first=2))
    assert case.run().code == 0
    assert check_promises(case).batches == 1
    assert len({create["first_custom_id"] for create in case.simulator.creates()}) == 3


# -- when the list shows it too late ------------------------------------------------------------------------------


def test_a_batch_that_was_hidden_for_too_long_is_found_priced_and_told(cases: Cases) -> None:
    """The list shows batches later than promised, but before the second one has ended. Nothing is mixed: what the
    rows got is of one of them, and a repeated command tells the same and prices nothing twice."""
    service = {"batch_list_delay_s": SETTLED_S + 4.0, "batch_seconds": SETTLED_S + 3.0}
    case = meeting(batch_case(cases, rows=plain_rows(5), service=service), "never_answered")
    for _ in range(2):
        ended = case.run()
        assert ended.code == 12, ended
        checked = check_promises(case, duplicates=1)
        assert checked.batches == 2
        assert len({line["meta"]["batch"] for line in checked.lines}) == 1
        (kept,) = case.spool
        assert len(kept.read_bytes().splitlines()) == 5
    assert case.simulator.tallies()["batch_succeeded"] == 2 * 5


def test_a_duplicate_that_might_be_another_unknown_batch_is_priced_too(cases: Cases) -> None:
    """The second create has no certain end either, and what is listed for its time is the batch of the first."""
    case = batch_case(cases, rows=plain_rows(5))
    case.simulator.reset(
        Fault(**CREATE, kind="batch_late", first=1, lasts_s=SETTLED_S + 2.0),
        Fault(**CREATE, kind="api_error", after=1, first=1),
    )
    ended = case.run()
    assert check_promises(case, duplicates=1).batches == 2
    assert ended.code == 12, ended


def test_the_same_rows_are_not_sent_while_it_is_unknown(cases: Cases) -> None:
    """Other rows go on meanwhile."""
    case = meeting(batch_case(cases, rows=plain_rows(10)), "never_answered")
    with case.started() as process:
        case.simulator.wait_for_batches(2)
        first, second = case.simulator.creates()
        assert second["body_sha256"] != first["body_sha256"]
        assert case.end_of(process).code == 0
    assert check_promises(case).batches == 2
