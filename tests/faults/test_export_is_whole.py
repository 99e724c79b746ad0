"""The output path holds the old file or the complete new one, whenever the process dies."""

from __future__ import annotations

import pytest

from runner.failpoints import Failpoint
from tests.faults.conftest import Cases
from tests.faults.promises import check_promises

OLD = b'{"of": "an earlier run"}\n'


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_before_the_rename_the_old_file_stands(cases: Cases, kind: str) -> None:
    case = cases(kind)
    case.output.write_bytes(OLD)
    assert case.run_killed_at(Failpoint.EXPORT_BEFORE, 1)
    assert case.output.read_bytes() == OLD
    asked = case.simulator.accepted
    case.finish()
    check_promises(case, lost_calls=0)
    assert case.simulator.accepted == asked, "everything was answered already"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_after_the_rename_the_new_file_is_complete(cases: Cases, kind: str) -> None:
    case = cases(kind)
    case.output.write_bytes(OLD)
    assert case.run_killed_at(Failpoint.EXPORT_AFTER, 1)
    check_promises(case, lost_calls=0)
    written = case.output.read_bytes()
    case.finish()
    assert case.output.read_bytes() == written
    check_promises(case, lost_calls=0)


def test_without_an_old_file_there_is_none_until_it_is_complete(cases: Cases) -> None:
    case = cases("sqlite")
    assert case.run_killed_at(Failpoint.EXPORT_BEFORE, 1)
    assert not case.output.exists()
    case.finish()
    check_promises(case, lost_calls=0)


@pytest.mark.parametrize("point", [Failpoint.RUN_STATE_BEFORE, Failpoint.RUN_STATE_AFTER])
def test_a_run_that_died_as_its_last_row_had_ended_still_gets_its_file(cases: Cases, point: Failpoint) -> None:
    case = cases("sqlite")
    case.output.write_bytes(OLD)
    assert case.run_killed_at(point, 1)
    assert case.output.read_bytes() == OLD
    case.finish()
    check_promises(case, lost_calls=0)
