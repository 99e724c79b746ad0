"""Everything that can go wrong has a line of advice."""

from __future__ import annotations

import pytest

from runner.domain.states import PauseReason, RowStatus
from runner.views.failure_advice import BY_ERROR_TYPE, advice, pause_advice


@pytest.mark.parametrize("status", [status for status in RowStatus if status is not RowStatus.SUCCEEDED])
def test_every_bad_end_has_advice(status: RowStatus) -> None:
    assert "{" not in (advice(status, None, "r_1") or "{")


@pytest.mark.parametrize("error_type", [*BY_ERROR_TYPE, "something_new"])
def test_every_error_has_advice(error_type: str) -> None:
    assert "{" not in (advice(RowStatus.ERRORED, error_type, "r_1") or "{")


def test_success_needs_none() -> None:
    assert advice(RowStatus.SUCCEEDED, None, "r_1") is None


@pytest.mark.parametrize("reason", PauseReason)
def test_every_pause_says_what_to_type(reason: PauseReason) -> None:
    told = pause_advice(reason, "r_1")
    assert "runner" in told or "--new" in told
    assert "{" not in told
