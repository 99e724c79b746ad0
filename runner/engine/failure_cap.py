"""A run in which too many rows fail stops: how many that is, by its job and by how many rows it has."""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec import Struct

from runner.domain.quantity import of_rows
from runner.domain.run import Run
from runner.domain.states import PauseReason
from runner.engine.meter import Meter
from runner.engine.stop import Stop


class FailureCap(Struct, frozen=True):
    """`check` after each row that failed. A share of the rows is one only once `records` knows how many there are."""

    run: Run
    stop: Stop
    meter: Meter
    records: Callable[[], int | None]

    def check(self) -> None:
        """Stop once more rows have failed than the job allows."""
        most = self._most()
        if most is not None and self.meter.failed > most:
            self.stop.pause_for(
                PauseReason.MAX_FAILURES, f"{of_rows(self.meter.failed)} failed; limits.max_failures allows {most}"
            )

    def _most(self) -> int | None:
        limits = self.run.job.limits
        if limits.max_failures is not None:
            return limits.max_failures
        records = self.records()
        if limits.max_failures_share is None or records is None:
            return None
        return math.floor(limits.max_failures_share * records * self.run.fan)
