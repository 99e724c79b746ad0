"""A process of a run as far as the limits are concerned: slots, gate, keeper and the store's shared rows are real;
rows come from a list, and what is to be stored about them is not. Several may share one store and one clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio

from runner.clock import Clock
from runner.domain.estimates import Estimator
from runner.domain.job import Limits
from runner.domain.limits import KnownLimits, RateLimits
from runner.domain.pace import Pace
from runner.domain.pricing import shipped_prices
from runner.engine.feeder import Feeder
from runner.engine.judge import Judge
from runner.engine.keeper import Keeper
from runner.engine.live import Live, Service
from runner.engine.meter import Meter
from runner.engine.scopes import Scopes
from runner.engine.stop import Stop
from runner.files.render import Renderer
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence, Operation, Verdict
from runner.store.store import Store
from tests.engine.house import a_job

CHUNK = 500
ORGANIZATION = "5a1c0de0-0000-4000-8000-000000000001"


class Forgetful:
    """A writer that stores nothing."""

    async def submit(self, operation: Operation) -> Verdict:
        del operation
        return Verdict.STORED

    def hand_over(self, operation: Operation, then: Callable[[], None]) -> None:
        del operation
        then()

    async def caught_up(self) -> None:
        pass


class Process:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        service: Service,
        lines: Sequence[bytes],
        *,
        number: int = 1,
        known: dict[str, KnownLimits] | None = None,
        organization: str | None = ORGANIZATION,
        **limits: Any,
    ) -> None:
        self.job = a_job(limits={"concurrency": 64, **limits})
        self.store, self.clock, self.stop, self.meter = store, clock, Stop(), Meter(clock.monotonic())
        self.pace = Pace(self.job.limits.concurrency)
        self.estimator = Estimator()
        self.writes = anyio.CapacityLimiter(1)
        told: Limits = self.job.limits
        self.scopes = Scopes(
            clock,
            shipped_prices(),
            run=number,
            own=RateLimits(told.rpm, told.itpm, told.otpm),
            organization=organization,
            known=known or {},
            concurrency=told.concurrency,
        )
        self.keeper = Keeper(store, self.scopes, clock, self.writes)
        self._chunks = [(at, lines[at : at + CHUNK]) for at in range(0, len(lines), CHUNK)]
        self.feeder = Feeder(
            self._claim, clock, self.stop, fan=1, repeats=1, slots=told.concurrency, staged_all=lambda: True
        )
        renderer = Renderer(self.job)
        self.live = Live(
            job=self.job,
            round_=1,
            feeder=self.feeder,
            writer=Forgetful(),  # type: ignore[arg-type]
            scopes=self.scopes,
            keeper=self.keeper,
            pace=self.pace,
            estimator=self.estimator,
            service=service,
            renderer=renderer,
            judge=Judge(self.job, renderer),
            budgets=None,  # type: ignore[arg-type] # nothing is ever refused
            prices=shipped_prices(),
            meter=self.meter,
            clock=clock,
            stop=self.stop,
            check_failures=lambda: None,
            remember_origin=self._remember_origin,
        )

    async def work(self) -> None:
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self.keeper.serve)
            async with anyio.create_task_group() as workers:
                workers.start_soon(self.feeder.serve)
                workers.start_soon(self.live.serve)
            helpers.cancel_scope.cancel()
        self.keeper.give_back()

    async def _claim(self) -> ClaimedChunk | None:
        if not self._chunks:
            return None
        at, lines = self._chunks.pop(0)
        return ClaimedChunk(
            fence=Fence(seq=at // CHUNK, epoch=1), first_idx=at, n=len(lines), first_record=at, lines=list(lines),
            taken=frozenset(), past={},
        )  # fmt: skip

    async def _remember_origin(self, origin: object) -> None:
        self.scopes.belong_to(ORGANIZATION)


async def all_at_work(clock: Any, *processes: Process) -> None:
    """To the end of their rows, in turned time."""
    async with clock.autojump(), anyio.create_task_group() as working:
        for process in processes:
            working.start_soon(process.work)
