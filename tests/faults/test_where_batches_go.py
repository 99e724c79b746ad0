"""The key and the rows go to the configured address only, whatever replies say."""

from __future__ import annotations

from typing import Any

import pytest

from runner.simulator import Fault
from tests.faults.batches import CREATE, batch_case
from tests.faults.conftest import Cases, Simulators
from tests.faults.front import front_of
from tests.faults.harness import SimulatorProcess, mixed_rows, plain_rows
from tests.faults.promises import check_promises

ANY_BATCH: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches/*"}
LIST: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches"}
WRONG_ADDRESS = 6
REDIRECTS = 5
RESULTS: dict[str, Any] = {"method": "GET", "path": "/v1/messages/batches/*/results"}


@pytest.fixture
def elsewhere(simulators: Simulators) -> SimulatorProcess:
    """Where nothing shall ever arrive. It would take any key and answer well."""
    return simulators(99)


def test_nothing_follows_a_results_url_or_a_redirect_to_another_host(
    cases: Cases, elsewhere: SimulatorProcess
) -> None:
    case = batch_case(cases, rows=plain_rows(10))
    there = f"{elsewhere.url}/v1/messages/batches"
    case.simulator.reset(
        Fault(kind="redirect", location=there, **CREATE, first=1),
        Fault(kind="redirect", location=there, **LIST, after=1, first=1),
        Fault(kind="redirect", location=f"{there}/msgbatch_01x/results", **RESULTS, first=1),
        Fault(kind="redirect", location=f"{there}/msgbatch_01x", **ANY_BATCH, first=2),
        Fault(kind="batch_results_url", location=elsewhere.url, path="/v1/messages/batches*", method="GET"),
    )
    # A redirect looks like a wrong address: the run pauses and says so, and the same command goes on.
    ends = [case.run().code for _ in range(1 + REDIRECTS) if not case.output.exists()]
    assert set(ends) == {WRONG_ADDRESS, 0}
    assert check_promises(case).batches == 2
    assert set(case.simulator.tallies()["faults"]) == {"redirect", "batch_results_url"}
    assert elsewhere.tallies().get("requests", 0) == 0


@pytest.mark.parametrize("prefix", ["/gateway/anthropic"])
def test_below_a_base_url_with_a_path_everything_stays_below_it(cases: Cases, prefix: str) -> None:
    """Creates, listings, results, and the paused turns that go on live."""
    case = batch_case(cases, rows=mixed_rows(20, flaky=False))
    with front_of(case.simulator.url, prefix) as front:
        case.base_url = front.url
        case.simulator.reset(Fault(kind="executed_error", **CREATE, first=1))
        case.finish()
    check_promises(case)
    assert front.astray == []
    assert 0 < case.simulator.tallies()["requests"] <= front.passed, "nothing went around it"
