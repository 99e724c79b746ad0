"""A member's part in a run that many work on: chunks are offered one by one, the engine is that of a whole run.

What one process does for a whole run is not here: reading its input, its hold, its batches. In place of the hold each
chunk has a lease: a sign of life for the chunks in hand, whose answer also says which of them have
ended or were taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
from anyio import to_thread
from msgspec import Struct, field

from runner.domain.run import Run
from runner.domain.states import PauseReason, RunState
from runner.engine.ending import ended_run
from runner.engine.engine import Engine
from runner.engine.parts import Parts, RunEnd
from runner.engine.stop import Stop
from runner.errors import RunnerError, StoreFault, UsageInvalid, first_of
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence
from runner.store.store import Store

# How often the chunks in hand are looked at; a chunk that has ended waits as long before the next one comes.
LOOK_S = 0.5
# How often is looked whether the run goes on, and failures of other members are counted in.
TALLY_S = 2.0
# A member without a chunk stays this long: the next one usually comes at once.
LINGER_S = 3.0


class _Offer(Struct):
    """A chunk that this member is to work on; `ended` once it is done, taken over, or not to be had."""

    seq: int
    ended: anyio.Event = field(default_factory=anyio.Event)


class Member:
    """One process's part in a run of the fleet. `offer` chunks while `work` runs; it ends when none has come for
    a while or the run is to stop."""

    def __init__(self, run: Run, parts: Parts, worker: str) -> None:
        self._run = run
        self._parts = parts
        self._worker = worker
        self._stop = Stop()
        self._engine = Engine(run, parts, self._stop, parts.store.tally(run.id), lambda: run.records)
        self._feeder = self._engine.feeder(self._claim, staged_all=lambda: self._leaving, waits=True)
        self._offered: list[_Offer] = []
        self._mine: dict[Fence, _Offer] = {}
        self._idle_since_s = parts.clock.monotonic()
        self._leaving = False
        self.moved = False  # whether it was this member that ended or paused the run

    @property
    def label(self) -> str:
        """The run's."""
        return self._run.label

    @property
    def in_flight(self) -> int:
        """Calls that are out."""
        return self._engine.meter.in_flight

    @property
    def waited_s(self) -> Mapping[str, float]:
        """How long calls have waited for each limit."""
        return self._engine.scopes.waited_s

    @property
    def is_leaving(self) -> bool:
        """Nothing more may be offered."""
        return self._leaving or self._stop.is_asked()

    @property
    def in_hand(self) -> int:
        """Chunks that are offered or worked on."""
        return len(self._offered) + len(self._mine)

    async def offer(self, seq: int) -> None:
        """Work on a chunk; returns when it has ended or is not to be had."""
        offer = _Offer(seq)
        self._offered.append(offer)
        self._feeder.look_again()
        await offer.ended.wait()

    def drain(self, number: int) -> None:
        """Let calls in flight end, and leave."""
        self._stop.by_signal(number)

    def limit_to(self, calls: int) -> None:
        """At most so many calls at once, of those that this process may make."""
        self._engine.pace.limit_to(max(1, min(calls, self._run.job.limits.concurrency)))

    # --- the work

    async def work(self) -> RunEnd:
        """Until nothing has been offered for a while, or the run is to stop."""
        error: RunnerError | None = None
        try:
            await self._engine.serve(
                self._ask_all, beside=(self._beat, self._look), busy=lambda: self._engine.meter.in_flight > 0
            )
        except* RunnerError as group:
            error = first_of(group)
        return await to_thread.run_sync(self._conclude, error)

    async def _ask_all(self) -> None:
        self._engine.keep_heads()
        await self._engine.ask_all(self._feeder)

    async def _claim(self) -> ClaimedChunk | None:
        while self._offered:
            offer = self._offered.pop(0)
            claimed = await to_thread.run_sync(
                self._parts.store.fleet.claim,
                self._run.id,
                offer.seq,
                self._worker,
                self._parts.clock.now_us(),
                self._parts.prices.version,
                limiter=self._engine.writes,
            )
            if claimed is not None:
                self._mine[claimed.fence] = offer
                return claimed
            offer.ended.set()
        return None

    async def _beat(self) -> None:
        """The chunks in hand, all in one statement; those that are not ours any more have ended."""
        store, clock = self._parts.store, self._parts.clock
        while True:
            await anyio.sleep(LOOK_S)
            asked = list(self._mine)
            ours = await to_thread.run_sync(store.fleet.still_ours, self._run.id, asked, clock.now_us())
            for fence in asked:
                if fence.seq not in ours:
                    self._mine.pop(fence).ended.set()
            if self.in_hand:
                self._idle_since_s = clock.monotonic()
            self._leaving = self._leaving or clock.monotonic() - self._idle_since_s > LINGER_S

    async def _look(self) -> None:
        """Whether the run still goes on, whoever ended or paused it; and how many rows have failed everywhere."""
        while True:
            run = await to_thread.run_sync(self._parts.store.run_by_id, self._run.id)
            if run.state is not RunState.RUNNING or run.wanted is not None or not run.detached:
                self._stop.pause_for(PauseReason.REQUESTED, "the run is not the fleet's to go on with")
                return
            tally = await to_thread.run_sync(self._parts.store.tally, self._run.id)
            self._engine.meter.failed = max(self._engine.meter.failed, tally.failed)
            self._engine.failure_cap.check()
            await anyio.sleep(TALLY_S)

    def _conclude(self, error: RunnerError | None) -> RunEnd:
        """Give back what is open; pause or end the run where that is ours to say. Blocks."""
        store = self._parts.store
        for offer in (*self._offered, *self._mine.values()):
            offer.ended.set()
        if isinstance(error, StoreFault):
            raise error
        store.release_chunks(self._run.id, list(self._mine))
        self._engine.put_away()
        if error is not None:
            raise error
        run = self._paused(store) if self._stop.pause is not None else self._ended(store)
        return RunEnd(run=run, tally=store.tally(run.id), pause=self._stop.pause)

    def _paused(self, store: Store) -> Run:
        """A reason of the run's own stops it for all members; ours to leave does not."""
        run = store.run_by_id(self._run.id)
        pause = self._stop.pause
        if pause is None or self._stop.was_requested or run.state is not RunState.RUNNING:
            return run
        return self._move(store, run, lambda: store.pause_run(run.id, pause.reason, pause.message))

    def _ended(self, store: Store) -> Run:
        """The last chunk may have been ours."""
        run = store.run_by_id(self._run.id)
        if run.state is not RunState.RUNNING or store.unfinished_chunks(run.id):
            return run
        clock, prices, staged_all = self._parts.clock, self._parts.prices, run.ingest_done
        return self._move(
            store, run, lambda: ended_run(run, self._stop, None, store, clock, prices, staged_all=staged_all)
        )

    def _move(self, store: Store, run: Run, move: Callable[[], Run]) -> Run:
        """Another member may have made the same move in between."""
        try:
            moved = move()
        except UsageInvalid:
            now = store.run_by_id(run.id)
            if now.state is RunState.RUNNING:
                raise
            return now
        self.moved = True
        return moved
