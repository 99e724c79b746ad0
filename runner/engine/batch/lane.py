"""The batches of one run: made while rows wait, settled where their end is unknown, followed to their results.

Everything that a run has with the API is taken up at each start, whatever its mode is by now: results are fetched
before anything new is sent. Rows that ride are in nobody else's hands until their batch has been read, and those of
a submission of unknown end until that is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from runner.clock import SECOND
from runner.domain.batch_progress import BatchProgress, batch_progress
from runner.domain.choice import cancel_at_us
from runner.domain.outcome import Failure
from runner.domain.states import RIDING_BATCH, BatchState, PauseReason
from runner.engine.batch.common import Common
from runner.engine.batch.follow import Follower
from runner.engine.batch.making import LOOK_S, STAGING_S, Maker, MakerParts
from runner.engine.batch.sweep import sweep
from runner.engine.batch.unknown import Unknowns
from runner.store.submissions import Submission

# The pace of live calls and the open batches change: the moment for cancelling is reckoned anew so often.
DEADLINE_LOOK_S = 300.0


class LaneParts(MakerParts, frozen=True, kw_only=True):
    """`submits`: new batches are made; `live_busy`: other rows are being asked live. Without `waits` everything is
    done that can be done at once. At `deadline_us` the run is to be finished: late batches are cancelled in time, and
    what they leave goes live."""

    submits: bool
    live_busy: Callable[[], bool]
    deadline_us: int | None = None


class Lane:
    """The batches of one run."""

    def __init__(self, common: Common, parts: LaneParts) -> None:
        self._c = common
        self._p = parts
        self._maker = Maker(common, parts)
        self._follower = Follower(common)
        self._unknowns = Unknowns(common)
        self._maker.stopped = not parts.submits
        self._seen = common.store.submissions_of(common.run.id)  # as they were last read, for whoever watches
        self.done = False
        # Rows may go live: at once where no batches are made, else when it is decided on the way. What the service
        # did not take is not among them: it waits for the next batch.
        self.goes_live = not parts.submits
        self.live_decided = anyio.Event()
        if self.goes_live:
            self.live_decided.set()

    @property
    def sending(self) -> bool:
        """A POST is under way; a stop waits for its answer as long as it can."""
        return self._maker.sending

    def progress(self, rows_total: int | None) -> BatchProgress:
        """The batches of this moment, without asking anybody."""
        c, watched = self._c, self._follower.watched
        polls = [one.next_us for one in watched.values() if one.next_us]
        return batch_progress(
            self._seen,
            c.timing,
            c.clock.now_us(),
            rows_total=rows_total,
            rows_ended=c.meter.done + c.meter.failed,
            statuses={name: one.status for name, one in watched.items()},
            missing_since_us={name: one.missing_since_us for name, one in watched.items()},
            next_poll_us=min(polls, default=None),
            max_queued=c.run.job.batch.max_queued,
        )

    async def serve(self) -> None:
        """Until every row has ended, or only others can go on with what is left, or the run is to stop."""
        c = self._c
        self._clear_spool()
        self._seen = await c.write(c.store.take_up_submissions, c.run.id)
        c.epochs |= {one.id: one.epoch for one in self._seen}
        for submission in self._seen:
            if c.run.job.simulated:
                if await c.write(c.store.gone, c.run.id, submission.id):
                    c.meter.committed_pico -= submission.reserved_pico
            elif submission.state in (BatchState.ACCEPTED, BatchState.CLAIMED, BatchState.ENDED):
                if c.stop.is_asked():
                    return
                await self._follower.look(submission)
        async with anyio.create_task_group() as tasks:
            if not self._maker.stopped:
                tasks.start_soon(self._maker.serve)
            deadline = anyio.CancelScope()
            if self._p.deadline_us is not None and self._p.waits:
                tasks.start_soon(self._mind_deadline, self._p.deadline_us, deadline)
            await self._mind(tasks)
            deadline.cancel()
        if not c.stop.is_asked():
            await self._sweep()
        self.done = True
        self.live_decided.set()
        c.wake()

    def _clear_spool(self) -> None:
        """What a killed process left: bodies are never sent again, results are fetched anew."""
        for path in self._c.spool.glob(f"{self._c.run.label}-*"):
            if ".duplicate-" not in path.name:
                path.unlink(missing_ok=True)

    # --- what is with the API

    async def _mind(self, tasks: anyio.abc.TaskGroup) -> None:
        """Follow all that is accepted, settle all that is unknown; ends when nothing is left to do for us."""
        c = self._c
        followed: set[str] = set()
        settling = False

        async def settle() -> None:
            nonlocal settling
            try:
                await self._unknowns.settle(wait=self._p.waits)
            finally:
                settling = False
                c.wake()

        async def follow(submission: Submission) -> None:
            try:
                await self._follower.follow(submission)
            finally:
                followed.discard(submission.id)
                c.wake()

        settled_once = False
        while not c.stop.is_asked():
            since = c.changed
            open_ = await self._open()
            for one in open_:
                ours = one.state in (BatchState.ACCEPTED, BatchState.CLAIMED, BatchState.ENDED)
                if ours and one.id not in followed and self._p.waits:
                    followed.add(one.id)
                    tasks.start_soon(follow, one)
            unknown = any(one.state is BatchState.UNKNOWN for one in open_)
            if unknown and not settling and (self._p.waits or not settled_once):
                settling = settled_once = True
                tasks.start_soon(settle)
            if self._maker.stopped and not settling and (not open_ or not self._p.waits):
                return
            asked = self._questions(open_)
            if asked and self._maker.idle and not self._p.live_busy():
                c.stop.pause_for(PauseReason.UNKNOWN_BATCH, questions_told(asked))
                return
            await c.until_changed(STAGING_S if asked else LOOK_S, since)

    async def _mind_deadline(self, deadline_us: int, scope: anyio.CancelScope) -> None:
        """Late batches are cancelled early enough for the rest to be finished live."""
        c = self._c
        with scope:
            while (wait_s := await self._until_late_s(deadline_us)) > 0:
                await c.until_changed(min(wait_s, DEADLINE_LOOK_S))
            c.note("batch_deadline", "the deadline is near: batches are cancelled, and what is left goes live")
            self.stop_submitting()
            await self.cancel_open()

    async def _until_late_s(self, deadline_us: int) -> float:
        open_ = await self._open()
        created = [one.created_us for one in open_ if one.created_us is not None]
        rows = sum(one.n for one in open_)
        at_us = cancel_at_us(deadline_us, rows, None, created_us=min(created, default=None))
        return (at_us - self._c.clock.now_us()) / SECOND

    async def _open(self) -> list[Submission]:
        self._seen = await self._c.read(self._c.store.submissions_of, self._c.run.id)
        return [one for one in self._seen if one.state in RIDING_BATCH]

    def _questions(self, open_: list[Submission]) -> list[str]:
        """What a person has to decide; none while anything else may still happen by itself."""
        told = self._unknowns.questions.open | self._follower.questions.open
        return [told[one.id] for one in open_] if all(one.id in told for one in open_) else []

    async def cancel_open(self) -> None:
        """Ask for an early end of all that is in progress. Finished rows stay and are fetched when it has ended."""
        for one in await self._open():
            if one.state in (BatchState.ACCEPTED, BatchState.CLAIMED):
                await self._follower.cancel(one)

    def stop_submitting(self) -> None:
        """No new batches; what is free may go live."""
        self._maker.stopped = self.goes_live = True
        self.live_decided.set()
        self._c.wake()

    def wake(self) -> None:
        """Something has changed elsewhere."""
        self._c.wake()

    @property
    def changed(self) -> anyio.Event:
        """Set when something changes after this moment."""
        return self._c.changed

    async def until_changed(self, since: anyio.Event) -> None:
        """Until something has changed since `changed` was this event, or it is time to look anyway."""
        await self._c.until_changed(LOOK_S, since)

    async def _sweep(self) -> None:
        """At the end of a run that ever lost sight of a submission."""
        c = self._c
        found = await c.read(c.store.submissions_of, c.run.id)
        lost_sight = any(one.state is BatchState.ABSENT for one in found)
        if lost_sight and isinstance(await sweep(c), Failure):
            return
        await self._delete_read(found)

    async def _delete_read(self, found: list[Submission]) -> None:
        """On wish, once nothing of this run can turn out to be a duplicate any more."""
        c = self._c
        if c.run.job.batch.delete_after != "ingest" or any(one.state in RIDING_BATCH for one in found):
            return
        for one in found:
            read = one.state is BatchState.INGESTED and one.provider_id is not None
            if read and await c.calls.delete(str(one.provider_id)) is None:
                await c.write(c.store.forget_batch, str(one.provider_id))


def questions_told(asked: Sequence[str]) -> str:
    """Why a run is held, in one sentence; `asked` are the questions of its submissions."""
    held = "1 submission of unknown end is held" if len(asked) == 1 else f"{len(asked)} of unknown end are held"
    return f"{held}: {asked[0]}"
