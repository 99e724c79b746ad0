"""Runs that go in batches: quick ones, of few rows, against a simulator whose batches end soon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.failpoints import Failpoint
from tests.faults.harness import Case, Row, mixed_rows

Cases = Callable[..., Case]

BATCH_POINTS = [point for point in Failpoint if point.name.startswith("BATCH_")]
BATCH_SECONDS = 0.3
ROWS = 24
ROWS_A_BATCH = 5
CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/messages/batches"}
# Of each five rows one expires and one meets an overload: both go again.
TROUBLED: dict[str, Any] = {
    "batch_expires_s": BATCH_SECONDS,
    "batch_expired_share": 0.2,
    "batch_errored_share": 0.25,
}


def batch_case(
    cases: Cases,
    kind: str = "sqlite",
    rows: Sequence[Row] | None = None,
    *,
    rows_a_batch: int = ROWS_A_BATCH,
    service: Mapping[str, Any] | None = None,
    simulator_number: int = 0,
    batch: Mapping[str, Any] | None = None,
    **more: Any,
) -> Case:
    """Neither probes nor priming: as many creates as there are full batches, and a rest."""
    return cases(
        kind,
        mixed_rows(ROWS, flaky=False) if rows is None else rows,
        service={"batch_seconds": BATCH_SECONDS, **(service or {})},
        simulator_number=simulator_number,
        batch={"max_requests": rows_a_batch, "probe": False, "warm_cache": "never", **(batch or {})},
        **more,
    )
