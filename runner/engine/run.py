"""One run from hold to release: ingest, feeder, slots and writer side by side, until the rows have ended or the run
is to stop. The same function starts a run and goes on with one that was killed."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from runner.domain.job import Mode
from runner.domain.progress import Progress
from runner.domain.quantity import quantity
from runner.domain.run import Run, Tally
from runner.domain.states import FINISHED_RUN, PauseReason, RunState
from runner.engine.batch.events import BatchEvent
from runner.engine.ending import ended_run
from runner.engine.engine import Engine
from runner.engine.feeder import Claim, Feeder
from runner.engine.holding import beat
from runner.engine.ingest import Ingest
from runner.engine.parts import Parts, RunEnd
from runner.engine.sample import ChunksWith
from runner.engine.stop import Stop
from runner.engine.telling import progress_of
from runner.errors import JobInvalid, RunLocked, RunnerError, StoreFault, first_of
from runner.store.claims import ClaimedChunk
from runner.store.holder import Hold, taken_over
from runner.store.queries import Wanted

if TYPE_CHECKING:  # what is about batches is a tenth of all that a start loads, and most runs make none
    from runner.engine.batch.lane import Lane

log = logging.getLogger(__name__)

# How often a running run looks whether another process has asked for something.
LOOK_S = 1.0
PROGRESS_S = 0.5
# While the first rows are being staged.
STAGED_LOOK_S = 0.02


async def work_on(run: Run, parts: Parts) -> RunEnd:
    """Work on a run until its rows have ended or it must pause. Raises RunLocked, InputChanged, StoreFault.

    Whatever ends it, what was paid for is stored and the same command goes on.
    """
    stop = Stop()
    with parts.signals.obeyed_by(stop.by_signal) if parts.signals else nullcontext():
        return await _held(run, parts, stop)


async def _held(run: Run, parts: Parts, stop: Stop) -> RunEnd:
    hold = await to_thread.run_sync(parts.store.hold, run, parts.clock.now_us)
    try:
        run = await to_thread.run_sync(_taken_up, run, parts)
        if run.state in FINISHED_RUN:  # another process finished it while we waited for the hold
            return RunEnd(run=run, tally=await to_thread.run_sync(parts.store.tally, run.id), pause=None)
        log.info("run_started", extra={"run": run.label, "job": run.job.name, "mode": run.job.mode})
        whole = WholeRun(run, parts, hold, stop, await to_thread.run_sync(parts.store.tally, run.id))
        error: RunnerError | None = None
        try:
            await whole.serve()
        except* RunnerError as group:
            error = first_of(group)
        end = await to_thread.run_sync(whole.conclude, error)
        log.info("run_left", extra=_left(end))
        return end
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(hold.release)


def _left(end: RunEnd) -> dict[str, object]:
    run = end.run
    told = {"run": run.label, "job": run.job.name, "state": run.state, "reason": run.pause_reason}
    return {**told, "done": end.tally.done, "failed": end.tally.failed}


def _taken_up(run: Run, parts: Parts) -> Run:
    """The run as it is now that it is ours, set going: a new round of its failed rows if asked, with what may change
    taken from the present job."""
    store = parts.store
    limits = (parts.job or run.job).limits
    if parts.retry:
        store.open_round(run.id, limits.truncated_max_tokens or 0)
    run = store.run_by_id(run.id)
    if run.state in FINISHED_RUN:
        return run
    if run.round > 1 and limits.truncated_max_tokens is not None:
        parts.renderer.leave_room(limits.truncated_max_tokens)
    store.release_running(run.id)
    store.book_left_over(run.id, parts.clock.now_us(), parts.prices.version)
    return store.resume_run(run, parts.job or run.job)


class WholeRun:
    """Where its rows come from: the input that is being staged, its chunks, its batches."""

    def __init__(self, run: Run, parts: Parts, hold: Hold, stop: Stop, before: Tally) -> None:
        self._run = run
        self._parts = parts
        self._hold = hold
        self._stop = stop
        self._engine = Engine(run, parts, stop, before, self._records)
        self._writes = self._engine.writes
        self._ingest = Ingest(parts.store, run, parts.source, parts.renderer, parts.report, self._writes)
        self._input_error: JobInvalid | None = None
        self._feeder = self._new_feeder(self._claim, waits=True)
        # What auto means is chosen once the first rows are there to be judged by.
        self._lane = None if run.job.mode is Mode.AUTO else self._new_lane(run.job.mode)
        if run.state is RunState.CANCELING and not parts.store.has_riding(run.id):
            stop.cancel()

    def _records(self) -> int | None:
        """As far as it is known."""
        return self._ingest.total

    def _new_feeder(self, claim: Claim, *, waits: bool = False) -> Feeder:
        return self._engine.feeder(claim, staged_all=lambda: self._ingest.done, waits=waits)

    def _new_lane(self, mode: Mode) -> Lane | None:
        """For a run that makes batches, or has some with the API from earlier."""
        batching, run = self._parts.batches, self._run
        makes = mode is Mode.BATCH and run.state is not RunState.CANCELING
        if batching is None or not (makes or self._parts.store.has_riding(run.id)):
            return None
        from runner.engine.batch.opening import open_lane

        return open_lane(
            self._engine,
            batching,
            submits=makes,
            ask_live=self._ask_live,
            staged_all=lambda: self._ingest.done,
        )

    async def serve(self) -> None:
        """Everything at once; ends when the rows have ended, or soon after the run was asked to stop."""
        await self._engine.serve(
            self._read_and_work,
            beside=(self._beat, self._look, self._tell),
            busy=self._is_busy,
            last=self._cancel_batches,
        )
        if self._parts.on_progress is not None:
            self._parts.on_progress(self.progress())

    async def _read_and_work(self) -> None:
        async with anyio.create_task_group() as both:
            if self._run.state is not RunState.CANCELING:
                both.start_soon(self._read_input)
            both.start_soon(self._work)

    def _is_busy(self) -> bool:
        """A call or a batch is on its way."""
        return self._engine.meter.in_flight > 0 or (self._lane is not None and self._lane.sending)

    async def _cancel_batches(self) -> None:
        if self._stop.canceled and self._lane is not None:
            await self._lane.cancel_open()

    async def _read_input(self) -> None:
        """An input that turns out to be bad or changed stops the run; calls in flight may still end."""
        try:
            await self._ingest.serve(self._stop, self._claim_more)
        except JobInvalid as error:
            self._input_error = error
            self._stop.pause_for(PauseReason.BAD_ROW, error.message)

    def _claim_more(self) -> None:
        self._feeder.look_again()  # whichever it is just now

    async def _work(self) -> None:
        """Every row live, or in batches, or both side by side while batches of an earlier mode are out."""
        if self._parts.only is not None:
            await self._answer_only(self._parts.only)
            return
        if self._run.job.mode is Mode.AUTO:
            self._lane = self._new_lane(await self._chosen())
        lane = self._lane
        if lane is None:
            self._engine.keep_heads()
            await self._engine.ask_all(self._feeder)
            return
        self._feeder.close()
        async with anyio.create_task_group() as both:
            both.start_soon(self._batches, lane)
            if self._run.state is not RunState.CANCELING:
                await self._live_beside(lane)

    async def _chosen(self) -> Mode:
        """What auto means for the rows that are left, and why; said before anything is sent."""
        from runner.engine.batch.choosing import chosen, deadline_of

        while not (self._ingest.done or self._ingest.records or self._stop.is_asked()):  # noqa: ASYNC110
            await anyio.sleep(STAGED_LOOK_S)
        parts, run = self._parts, self._run
        left = await to_thread.run_sync(parts.store.tally, run.id)
        total = None if self._ingest.total is None else self._ingest.total * run.fan
        choice = await to_thread.run_sync(
            lambda: chosen(
                run,
                parts.store,
                parts.renderer,
                parts.prices,
                rows=None if total is None else total - left.ended,
                now_us=parts.clock.now_us(),
                deadline_us=deadline_of(run),
            )
        )
        if parts.batches is None:
            return Mode.LIVE
        parts.batches.tell(BatchEvent(name="mode_chosen", text=choice.reason, facts={"mode": choice.mode}))
        return choice.mode

    async def _batches(self, lane: Lane) -> None:
        if self._run.state is RunState.CANCELING:
            await lane.cancel_open()
        await lane.serve()

    async def _live_beside(self, lane: Lane) -> None:
        """What no batch is to have is asked live; what a batch leaves over comes later."""
        await lane.live_decided.wait()
        if lane.goes_live:
            self._engine.keep_heads()
        while lane.goes_live and not self._stop.is_asked():
            since, done = lane.changed, lane.done
            self._feeder = self._new_feeder(self._claim, waits=True)
            await self._engine.ask_all(self._feeder)
            seen_all = not since.is_set()
            lane.wake()  # that we have ended is news for the lane; only what else has happened is news for us
            if done:
                return
            if seen_all:
                await lane.until_changed(lane.changed)

    async def _ask_live(self, chunks: list[ClaimedChunk]) -> None:
        """Ask the free rows of chunks in hand, and return when they have ended."""
        left = list(chunks)

        async def next_chunk() -> ClaimedChunk | None:
            return left.pop(0) if left else None

        await self._engine.ask_all(self._new_feeder(next_chunk))
        if self._lane is not None:
            self._lane.wake()

    async def _answer_only(self, wanted: frozenset[int]) -> None:
        """These rows live, in whatever chunks they lie, and then a pause. What rides in a batch is left alone."""
        while not (self._ingest.done or self._stop.is_asked()):  # noqa: ASYNC110 - the ingest keeps a flag
            await anyio.sleep(STAGED_LOOK_S)
        self._feeder.close()
        self._engine.keep_heads(len(wanted))
        chunks = ChunksWith(wanted, self._claim_after)
        await self._engine.ask_all(self._new_feeder(chunks.next))
        await to_thread.run_sync(self._parts.store.release_chunks, self._run.id, chunks.taken, limiter=self._writes)
        if await to_thread.run_sync(self._parts.store.unfinished_chunks, self._run.id):
            self._stop.pause_for(
                PauseReason.SAMPLED,
                quantity(len(wanted), "row was answered as a sample", "rows were answered as a sample"),
            )

    async def _claim_after(self, seq: int) -> ClaimedChunk | None:
        claim = partial(self._parts.store.claim_next, wanted=Wanted.FREE, after_seq=seq)
        now_us, version = self._parts.clock.now_us(), self._parts.prices.version
        return await to_thread.run_sync(claim, self._run.id, now_us, version, limiter=self._writes)

    async def _claim(self) -> ClaimedChunk | None:
        return await to_thread.run_sync(
            self._parts.store.claim_next,
            self._run.id,
            self._parts.clock.now_us(),
            self._parts.prices.version,
            limiter=self._writes,
        )

    # --- beside the work

    async def _beat(self) -> None:
        await beat(self._hold, self._run, self._parts.clock)

    async def _look(self) -> None:
        while True:
            await anyio.sleep(LOOK_S)
            wanted = await to_thread.run_sync(self._parts.store.wanted, self._run.id)
            if wanted == "cancel":
                self._stop.cancel()
            elif wanted == "pause":
                self._stop.pause_for(PauseReason.REQUESTED, "stopped by `runner pause`")

    async def _tell(self) -> None:
        tell = self._parts.on_progress
        while tell is not None:
            tell(self.progress())
            await anyio.sleep(PROGRESS_S)

    def progress(self) -> Progress:
        """The numbers of this moment."""
        return progress_of(self._engine, self._ingest, self._feeder, self._lane)

    def conclude(self, error: RunnerError | None) -> RunEnd:
        """Give back what is open and move the run to the state that its rows say. Blocks."""
        store, run = self._parts.store, self._run
        if (
            isinstance(error, StoreFault)
            and error.name == "spool"
            and not self._hold.extend(self._parts.clock.now_us())
        ):
            raise taken_over(run) from error  # whoever took the run over has cleared what we had spooled
        if isinstance(error, StoreFault | RunLocked):
            raise error  # nothing can be written, or it is no longer ours to write
        error = error or self._input_error
        if not self._hold.extend(self._parts.clock.now_us()):
            raise taken_over(run)
        store.release_running(run.id)
        store.book_left_over(run.id, self._parts.clock.now_us(), self._parts.prices.version)
        self._engine.put_away()
        if error is None and self._run.state is RunState.CANCELING:
            self._stop.cancel()
        parts, staged_all = self._parts, self._ingest.done
        ended = ended_run(run, self._stop, error, store, parts.clock, parts.prices, staged_all=staged_all)
        if error is not None:
            raise error
        pause = None if ended.state in FINISHED_RUN else self._stop.pause  # a signal may have come too late for it
        return RunEnd(run=ended, tally=store.tally(run.id), pause=pause)
