"""What one process works on a run with: slots, writer, limits and money, side by side, and how all of that ends.

Which rows come is told by whoever drives it: a whole run (`engine/run`), or a member of a fleet (`engine/member`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import to_thread

from runner.domain.estimates import Estimator
from runner.domain.limits import RateLimits
from runner.domain.marking import MANY_ROWS
from runner.domain.outcome import Origin
from runner.domain.pace import Pace
from runner.domain.run import Run, Tally
from runner.engine.batch.events import silence
from runner.engine.budget_watch import BudgetWatch
from runner.engine.collapse import Collapse, Waiting
from runner.engine.failure_cap import FailureCap
from runner.engine.feeder import Claim, Feeder
from runner.engine.judge import Judge
from runner.engine.keeper import Keeper
from runner.engine.live import Live
from runner.engine.meter import Meter
from runner.engine.parts import Parts
from runner.engine.scopes import Scopes
from runner.engine.stop import Stop
from runner.engine.writer import Writer

# How soon it is noticed that the last call in flight has ended.
ENDED_LOOK_S = 0.02

Task = Callable[[], Coroutine[Any, Any, None]]


class Engine:
    """The tasks that make calls and store their ends, and what those share. `before` is what the run has behind it;
    `records` says how many records it has, as far as that is known by now."""

    def __init__(self, run: Run, parts: Parts, stop: Stop, before: Tally, records: Callable[[], int | None]) -> None:
        limits, clock, store = run.job.limits, parts.clock, parts.store
        self.run = run
        self.parts = parts
        self.stop = stop
        self.records = records
        self.writes = anyio.CapacityLimiter(1)
        self.judge = Judge(run.job, parts.renderer)
        money = store.money(run.id)
        self.meter = Meter(clock.monotonic())
        self.meter.go_on_from(before, money.spent_pico, money.committed_pico)
        self.failure_cap = FailureCap(run, stop, self.meter, records)
        tell = silence if parts.batches is None else parts.batches.tell
        self.budgets = BudgetWatch(run, store, clock, stop, tell)
        self.pace = parts.pace or Pace(limits.concurrency)
        self.estimator = Estimator.from_json(run.estimates)
        self.scopes = Scopes(
            clock,
            parts.prices,
            run=run.id,
            own=RateLimits(limits.rpm, limits.itpm, limits.otpm),
            organization=run.organization,
            known=parts.known,
            concurrency=limits.concurrency,
        )
        self.collapse = Collapse(store, run, parts.renderer, self.meter, clock, self.writes)
        self.writer = Writer(store, run.id, self.writes, clock)
        self._keeper = Keeper(store, self.scopes, clock, self.writes)
        self._passes = 0

    # --- asking rows live

    def feeder(self, claim: Claim, *, staged_all: Callable[[], bool], waits: bool = False) -> Feeder:
        """With `waits` rows may wait there for others that ask the same."""
        job = self.run.job
        return Feeder(
            claim,
            self.parts.clock,
            self.stop,
            fan=self.run.fan,
            repeats=job.repeat,
            slots=job.limits.concurrency,
            staged_all=staged_all,
            waiting=Waiting(self.collapse) if waits and job.collapses else None,
        )

    async def ask_all(self, feeder: Feeder) -> None:
        """Ask the feeder's rows live, until it is over or the run is to stop."""
        live = self._live(feeder)
        self._passes += 1
        try:
            async with anyio.create_task_group() as pool:
                pool.start_soon(feeder.serve)
                pool.start_soon(live.serve)
        finally:
            feeder.close()
            self._passes -= 1

    @property
    def asks_live(self) -> bool:
        """Some rows are being asked live."""
        return self._passes > 0

    def keep_heads(self, rows: int | None = None) -> None:
        """What live requests all begin with is kept in the prompt cache where that pays, with so many of them."""
        if rows is None:
            records = self.records()
            rows = MANY_ROWS if records is None else records * self.run.fan
        self.parts.renderer.keep_heads(self.parts.prices, rows)

    def _live(self, feeder: Feeder) -> Live:
        return Live(
            job=self.run.job,
            round_=self.run.round,
            feeder=feeder,
            writer=self.writer,
            scopes=self.scopes,
            keeper=self._keeper,
            pace=self.pace,
            estimator=self.estimator,
            service=self.parts.service,
            renderer=self.parts.renderer,
            judge=self.judge,
            prices=self.parts.prices,
            meter=self.meter,
            budgets=self.budgets,
            clock=self.parts.clock,
            stop=self.stop,
            check_failures=self.failure_cap.check,
            remember_origin=self._remember_origin,
            run=self.run.label,
            saw=self.parts.saw,
        )

    async def _remember_origin(self, origin: Origin) -> None:
        """Whose key it is, and so whose limits, is known with the first reply."""
        if origin.organization is not None and origin.organization != self.run.organization:
            self.scopes.belong_to(origin.organization)
            note = self.parts.store.note_origin
            await to_thread.run_sync(note, self.run.id, origin.organization, origin.workspace, limiter=self.writes)

    # --- everything at once

    async def serve(
        self, work: Task, *, beside: Sequence[Task], busy: Callable[[], bool], last: Task | None = None
    ) -> None:
        """Work, with all that runs beside it; ends with the work, or soon after the run was asked to stop.

        `busy`: something is out whose end is worth waiting for; `last` is done when nothing is, before the work is
        ended.
        """
        async with anyio.create_task_group() as helpers:
            for helper in (*beside, self._keeper.serve, self.budgets.serve, *self.parts.beside):
                helpers.start_soon(helper)
            async with self._workers(helpers) as workers:
                helpers.start_soon(self._let_end, workers.cancel_scope, busy, last)
                helpers.start_soon(self._end_at_once, workers.cancel_scope)
                workers.start_soon(work)
            helpers.cancel_scope.cancel()
        await self.budgets.look()

    @asynccontextmanager
    async def _workers(self, helpers: anyio.abc.TaskGroup) -> AsyncIterator[anyio.abc.TaskGroup]:
        """The tasks that make new work. The writer outlives them: what they handed over is committed."""
        # Not awaited: it cannot be canceled, and nobody would close it if we were while it begins.
        helpers.start_soon(self.writer.serve)
        try:
            async with anyio.create_task_group() as workers:
                yield workers
        finally:
            with anyio.CancelScope(shield=True):
                self.writer.close()
                await self.writer.closed.wait()

    async def _let_end(self, workers: anyio.CancelScope, busy: Callable[[], bool], last: Task | None) -> None:
        """After the run was asked to stop: wait for what is in flight, but not longer than the grace."""
        await self.stop.asked.wait()
        with anyio.move_on_after(self.parts.grace_s):
            while busy():  # noqa: ASYNC110 - the hot path keeps a count, not an event
                await anyio.sleep(ENDED_LOOK_S)
            if last is not None:
                await last()
        workers.cancel()

    async def _end_at_once(self, workers: anyio.CancelScope) -> None:
        await self.stop.hurried.wait()
        workers.cancel()

    def put_away(self) -> None:
        """For others, and the next start: what was not used of the limits, and what answers have taught. Blocks."""
        self._keeper.give_back()
        if self.estimator.answers:
            self.parts.store.note_estimates(self.run.id, self.estimator.to_json())
