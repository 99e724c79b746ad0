"""The budgets of a run while it goes: warnings as they fill, what there is to say and to wait for once one is full.

Whether a call may be made is decided in the store, in the commit that writes its send. In here nothing is decided,
and what is read may be a moment old.
"""

from __future__ import annotations

import anyio
from anyio import to_thread

from runner.clock import Clock
from runner.domain.budget import BudgetKey, Level, reached_words, run_scope, tightest, warned, warning_words
from runner.domain.run import Run
from runner.engine.batch.events import BatchEvent, Tell
from runner.engine.stop import Stop
from runner.store.store import Store

LOOK_S = 5.0
# Others who spend from a full budget give something back with each call that ends. When nothing has changed for so
# long, they are waiting too, or hold what they have for batches.
OTHERS_S = 10.0
OTHERS_LOOK_S = 0.5


class BudgetWatch:
    """Watches the budgets that pay for one run."""

    def __init__(self, run: Run, store: Store, clock: Clock, stop: Stop, tell: Tell) -> None:
        self._run = run
        self._store = store
        self._clock = clock
        self._stop = stop
        self._tell = tell
        self._told: set[BudgetKey] = set()

    async def serve(self) -> None:
        """Look every few seconds, for as long as the run is worked on."""
        while True:
            await self.look()
            await anyio.sleep(LOOK_S)

    async def look(self) -> None:
        """Warn of each budget once, when the share is spent from which the job wants to hear of it."""
        for level in warned(await self._levels(), self._run.job.budget.warn_share):
            if level.key not in self._told:
                self._told.add(level.key)
                facts = {"budget": level.key.scope, "period": level.key.period}
                self._tell(BatchEvent(name="budget", text=warning_words(level), warning=True, facts=facts))

    async def reached(self) -> str:
        """What to say when there is no room for the next call."""
        level = tightest(await self._levels())
        return "the next call could pass the budget" if level is None else reached_words(level)

    async def others_give_way(self, needed_pico: int) -> bool:
        """Whether it is worth asking for this much again: there is room for it by now, or those who share the
        tightest budget with this run have changed something in it while we waited.

        The run's own budget is nobody else's: what is held of it, this process holds.
        """
        before = tightest(await self._levels())
        if before is None or (before.room_pico or 0) >= needed_pico:
            return True
        if before.key.scope == run_scope(self._run.id) or not before.committed_pico:
            return False
        until_s = self._clock.monotonic() + OTHERS_S
        while self._clock.monotonic() < until_s and not self._stop.is_asked():
            await self._stop.sleep(self._clock, OTHERS_LOOK_S)
            if tightest(await self._levels()) != before:
                return True
        return False

    async def _levels(self) -> list[Level]:
        return await to_thread.run_sync(self._store.budget_levels, self._run.id, self._clock.now_us())
