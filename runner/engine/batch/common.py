"""What the tasks of a run's batches share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
from anyio import to_thread

from runner.clock import Clock
from runner.domain.pricing import PriceBook
from runner.domain.run import Run
from runner.domain.submission import Timing
from runner.engine.batch.calls import BatchCalls, BatchService
from runner.engine.batch.events import BatchEvent, Tell
from runner.engine.budget_watch import BudgetWatch
from runner.engine.collapse import Collapse
from runner.engine.file_desk import FileDesk
from runner.engine.judge import Judge
from runner.engine.meter import Meter
from runner.engine.stop import Stop
from runner.files.render import Renderer
from runner.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


def uncounted() -> None:
    """Where nobody counts failures."""


@dataclass(kw_only=True)
class Common:
    """`spool` is the folder for bodies and results, `fingerprint` tells one key from another without showing it.

    `changed` is set anew each time that something happened which others may wait for: rows got off, a batch ended.
    `check_failures` stops a run of which too many rows have failed.
    `collapse` gives rows that ask what others ask their answers; None: each is asked for itself.
    `epochs` are the fences under which submissions are ours: those of the moment at which we took them up.
    """

    run: Run
    store: Store
    service: BatchService
    calls: BatchCalls
    renderer: Renderer
    judge: Judge
    prices: PriceBook
    clock: Clock
    stop: Stop
    meter: Meter
    timing: Timing
    spool: Path
    fingerprint: str
    writes: anyio.CapacityLimiter
    tell: Tell
    files: FileDesk | None = None
    check_failures: Callable[[], None] = uncounted
    collapse: Collapse | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)
    epochs: dict[str, int] = field(default_factory=dict)

    @property
    def budgets(self) -> BudgetWatch:
        """What there is to say of the run's budgets, and to wait for."""
        return BudgetWatch(self.run, self.store, self.clock, self.stop, self.tell)

    async def write(self, transaction: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A transaction of the store, one at a time. A thread that has begun is waited for, whoever wants to stop."""
        return await to_thread.run_sync(lambda: transaction(*args, **kwargs), limiter=self.writes)

    async def read(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await to_thread.run_sync(lambda: question(*args, **kwargs))

    def note(self, name: str, text: str, *, warning: bool = False, **facts: object) -> None:
        self.tell(BatchEvent(name=name, text=text, facts=facts, warning=warning))

    def wake(self) -> None:
        """Something has changed for whoever waits."""
        self.changed.set()
        self.changed = anyio.Event()

    async def until_changed(self, at_most_s: float, since: anyio.Event | None = None) -> None:
        """Until something has changed, the run is to stop, or the time is over. `since` is `changed` as it was before
        the caller looked: what happened while it looked counts too."""
        await self.stop.sleep(self.clock, at_most_s, since or self.changed)

    def file(self, submission: str, kind: str) -> Path:
        """Where a submission's `body` or `results` lie; named so that a later start can clear what was left."""
        return self.spool / f"{self.run.label}-{submission}.{kind}"
