"""The scheduler as a process that runs for years."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from runner.cli.scheduler import _Scheduler
from runner.clock import SECOND, SystemClock
from tests.store.building import ready_store


def test_a_scheduler_goes_by_the_database_s_clock_also_after_its_own_was_set(pg_url: str) -> None:
    clock = SystemClock()
    settings = SimpleNamespace(database_url=pg_url, home="/nowhere")
    context: Any = SimpleNamespace(clock=clock, settings=settings)
    with ready_store(pg_url) as store:
        scheduler = _Scheduler(context, store)
        for wrong_us in (3_600 * SECOND, -86_400 * SECOND):
            clock.offset_us += wrong_us  # as if somebody had set it
            scheduler._ticked()
            assert abs(clock.offset_us) < 10 * SECOND
