"""Staging a run for others to work on: its input goes into the store, nothing is sent."""

from __future__ import annotations

import anyio
from anyio import to_thread

from runner.clock import Clock
from runner.domain.job import Job
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN
from runner.engine.holding import beat
from runner.engine.ingest import Ingest
from runner.engine.interrupts import heard
from runner.engine.stop import Stop
from runner.files.check import InputReport
from runner.files.render import Renderer
from runner.files.source import Input
from runner.store.store import Store


async def stage_for_others(
    run: Run,
    store: Store,
    source: Input,
    report: InputReport | None,
    renderer: Renderer,
    job: Job,
    clock: Clock,
) -> bool:
    """Read the input to its end, under the run's hold; False when a signal came first. `job` brings what may change.

    Raises RunLocked, InputChanged, InputInvalid. The same again goes on after the last commit.
    """
    stop = Stop()
    with heard(stop.by_signal):
        hold = await to_thread.run_sync(store.hold, run, clock.now_us)
        try:
            run = await to_thread.run_sync(store.run_by_id, run.id)
            if run.state not in FINISHED_RUN:
                run = await to_thread.run_sync(store.resume_run, run, job)
            ingest = Ingest(store, run, source, renderer, report, anyio.CapacityLimiter(1))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beat, hold, run, clock)
                await ingest.serve(stop)
                tasks.cancel_scope.cancel()
            return ingest.done
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(hold.release)
