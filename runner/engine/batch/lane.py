"""The batches of one run: made while rows wait, settled where their end is unknown, followed to their results.

Everything that a run has with the API is taken up at each start, whatever its mode is by now: results are fetched
before anything new is sent. Rows that ride are in nobody else's hands until their batch has been read, and those of
a submission of unknown end until that is settled.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from runner.clock import SECOND
from runner.domain.decide import PAUSE_OF_TROUBLE
from runner.domain.outcome import AccountTrouble, Failure, FailureKind
from runner.domain.packing import API_MAX_REQUESTS, Full, Limit, Packer, TooLarge
from runner.domain.states import RIDING_BATCH, BatchState, PauseReason
from runner.domain.submission import named_request, new_submission_id
from runner.engine.batch.common import Common
from runner.engine.batch.follow import Follower
from runner.engine.batch.spool import Added, Misfit, Parcel, Spool
from runner.engine.batch.submit import Sent, Submitter
from runner.engine.batch.suspects import Suspects
from runner.engine.batch.sweep import sweep
from runner.engine.batch.unknown import Unknowns
from runner.engine.feeder import NOTHING_BEHIND, Work
from runner.engine.settle import unsendable
from runner.engine.writer import Writer
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence
from runner.store.queries import Wanted
from runner.store.submissions import IntentVerdict, Submission

# While the input is still being read, this long until more of it may be there.
STAGING_S = 0.2
# The longest that anybody sleeps who waits for others.
LOOK_S = 30.0
# Ceilings of our own backoff between creates that were not accepted.
SLOWEST_CREATE_S = 300.0

AskLive = Callable[[list[ClaimedChunk]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class LaneParts:
    """What the lane needs beside what its tasks share.

    `ask_live` asks the free rows of chunks in hand live and returns when they have ended; `submits`: new batches are
    made; `waits`: batches are waited for, else everything is done that can be done at once.
    """

    writer: Writer
    ask_live: AskLive
    staged_all: Callable[[], bool]
    submits: bool
    waits: bool = True


class Lane:
    """The batches of one run."""

    def __init__(self, common: Common, parts: LaneParts) -> None:
        self._c = common
        self._p = parts
        self._submitter = Submitter(common)
        self._follower = Follower(common)
        self._unknowns = Unknowns(common)
        self._suspects = Suspects()
        self._chance = random.Random()
        self._setbacks = 0
        self._trouble_since_us: int | None = None
        self._not_before_us = 0
        self._over_budget = False
        self._submitting = parts.submits
        self.done = False
        # Rows may go live: at once where no batches are made, else when it is decided on the way.
        self.live_wanted = anyio.Event()
        if not parts.submits:
            self.live_wanted.set()

    @property
    def sending(self) -> bool:
        """A POST is under way; a stop waits for its answer as long as it can."""
        return self._submitter.sending

    async def serve(self) -> None:
        """Until every row has ended, or only others can go on with what is left, or the run is to stop."""
        c = self._c
        self._clear_spool()
        for submission in await c.write(c.store.take_up_submissions, c.run.id):
            if c.run.job.simulated:
                await c.write(c.store.gone, c.run.id, submission.id)
            elif submission.state in (BatchState.ACCEPTED, BatchState.CLAIMED, BatchState.ENDED):
                if c.stop.is_asked():
                    return
                await self._follower.look(submission)
        async with anyio.create_task_group() as tasks:
            if self._submitting:
                tasks.start_soon(self._submit_all)
            await self._mind(tasks)
        if not c.stop.is_asked():
            await self._sweep()
        self.done = True
        self.live_wanted.set()
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
            if not self._submitting and not settling and (not open_ or not self._p.waits):
                return
            if self._only_questions(open_):
                c.stop.pause_for(PauseReason.UNKNOWN_BATCH, self._questions_told())
                return
            await c.until_changed(LOOK_S)

    async def _open(self) -> list[Submission]:
        found = await self._c.read(self._c.store.submissions_of, self._c.run.id)
        return [one for one in found if one.state in RIDING_BATCH]

    def _only_questions(self, open_: list[Submission]) -> bool:
        """All that is left are submissions that a person has to decide about."""
        asked = self._unknowns.questions
        return bool(open_) and not self._submitting and all(one.id in asked for one in open_)

    def _questions_told(self) -> str:
        count = len(self._unknowns.questions)
        why = next(iter(self._unknowns.questions.values()), "")
        return f"{count} submission{'s' * (count > 1)} of unknown end {'are' if count > 1 else 'is'} held: {why}"

    async def cancel_open(self) -> None:
        """Ask for an early end of all that is in progress. Finished rows stay and are fetched when it has ended."""
        for one in await self._open():
            if one.state in (BatchState.ACCEPTED, BatchState.CLAIMED):
                await self._follower.cancel(one)

    def stop_submitting(self) -> None:
        """No new batches; what is free may go live."""
        self._submitting = False
        self.live_wanted.set()
        self._c.wake()

    async def until_changed(self) -> None:
        await self._c.until_changed(LOOK_S)

    async def _sweep(self) -> None:
        """At the end of a run that ever lost sight of a submission."""
        c = self._c
        found = await c.read(c.store.submissions_of, c.run.id)
        if any(one.state is BatchState.ABSENT for one in found):
            await sweep(c)
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

    # --- new ones

    async def _submit_all(self) -> None:
        """Pack and send until no row is free; wait for what may become free again."""
        c = self._c
        try:
            while self._submitting and not c.stop.is_asked():
                await self._continue_live()
                wait_s = (self._not_before_us - c.clock.now_us()) / SECOND
                if wait_s > 0:
                    if not self._p.waits:
                        return
                    await c.until_changed(wait_s)
                    continue
                parcel = await self._pack()
                if c.stop.is_asked():
                    await self._give_back(parcel)
                    return
                if parcel is not None:
                    await self._send(parcel)
                elif not await self._more_to_come():
                    return
        finally:
            self._submitting = False
            c.wake()

    async def _more_to_come(self) -> bool:
        """Wait for free rows; False when there will be none without somebody else's doing."""
        c = self._c
        if not self._p.staged_all():
            await c.until_changed(STAGING_S)
            return True
        if self._over_budget:
            return await self._budget_may_give_way()
        if not self._p.waits or not await self._open():
            return bool(await c.read(c.store.fresh_rows, c.run.id, c.clock.now_us())) and self._p.waits
        await c.until_changed(LOOK_S)
        return True

    async def _budget_may_give_way(self) -> bool:
        """A batch that ends gives back what it does not need; without one there will be no more room."""
        self._over_budget = False
        if await self._open():
            if self._p.waits:
                await self._c.until_changed(LOOK_S)
            return self._p.waits
        self._c.stop.pause_for(PauseReason.BUDGET, "the next row could pass the budget")
        return False

    async def _claim(self, wanted: Wanted, after_seq: int) -> ClaimedChunk | None:
        c = self._c
        return await c.write(
            c.store.claim_next, c.run.id, c.clock.now_us(), c.prices.version, wanted, after_seq=after_seq
        )

    async def _continue_live(self) -> None:
        """Rows whose turn is paused go on live, in their chunks, which then wait again."""
        c = self._c
        while not c.stop.is_asked():
            chunk = await self._claim(Wanted.CONTINUED, -1)
            if chunk is None:
                return
            others = {
                idx
                for idx in range(chunk.first_idx, chunk.first_idx + chunk.n)
                if idx not in chunk.past or not chunk.past[idx].turns
            }
            await self._p.ask_live([_without(chunk, others)])
            await c.write(c.store.release_chunks, c.run.id, [chunk.fence])

    async def _pack(self) -> Parcel | None:
        """The next body, of as many free rows as fit, in their order."""
        c = self._c
        spool = await self._new_spool()
        if spool is None:
            return None
        unused: list[Fence] = []
        seq = -1
        try:
            while not c.stop.is_asked():
                chunk = await self._claim(Wanted.FREE, seq)
                if chunk is None:
                    if self._p.staged_all():
                        break
                    await c.until_changed(STAGING_S)
                    continue
                seq = chunk.fence.seq
                added = await c.read(spool.add, chunk, self._passed_over(chunk))
                await self._settle_misfits(chunk, added)
                if not added.riding:
                    unused.append(chunk.fence)
                if added.full is not None:
                    self._note_full(spool, added.full)
                    break
            return await c.read(spool.finish)
        finally:
            spool.close()
            await c.write(c.store.release_chunks, c.run.id, unused)

    async def _new_spool(self) -> Spool | None:
        """None while there is no room for one more request."""
        c, batch = self._c, self._c.run.job.batch
        most = batch.max_requests or API_MAX_REQUESTS
        if self._suspects.limit is not None:
            most = min(most, self._suspects.limit)
        if batch.max_queued is not None:
            most = min(most, batch.max_queued - sum(one.n for one in await self._open()))
        if most < 1:
            return None
        room = await c.read(c.store.budget_room, c.run.id)
        packer = Packer(most, batch.max_bytes, None if room is None else max(0, room))
        submission = new_submission_id(secrets.randbits)
        path = c.file(submission, "body")
        return await c.read(Spool, submission, path, packer, c.renderer, c.prices, c.run.fan)

    def _passed_over(self, chunk: ClaimedChunk) -> frozenset[int]:
        """Rows that go on live, and those that the service has refused by name."""
        continued = {idx for idx, past in chunk.past.items() if past.turns}
        return frozenset(continued).union(self._suspects.refused)

    async def _settle_misfits(self, chunk: ClaimedChunk, added: Added) -> None:
        """Rows that cannot ride end here, alone."""
        own = range(chunk.first_idx, chunk.first_idx + chunk.n)
        refused = [
            Misfit(chunk=chunk, idx=idx, reason=reason)
            for idx, reason in self._suspects.refused.items()
            if idx in own and idx not in chunk.taken
        ]
        for misfit in [*added.misfits, *refused]:
            await self._end(misfit, "invalid_request_error" if misfit in refused else "bad_row")
        for misfit in refused:
            del self._suspects.refused[misfit.idx]

    async def _end(self, misfit: Misfit, error_type: str) -> None:
        c, chunk = self._c, misfit.chunk
        record, repeat = divmod(misfit.idx, c.run.fan)
        past = chunk.past.get(misfit.idx, NOTHING_BEHIND)
        work = Work(
            fence=chunk.fence,
            idx=misfit.idx,
            record=record,
            repeat=repeat,
            line=chunk.lines[record - chunk.first_record],
            last_try=past.last_try + 1,
            history=past.history,
        )
        operation = unsendable(work, None, c.run.round, misfit.reason, c.clock.now_us(), error_type=error_type)
        await self._p.writer.submit(operation)
        c.meter.ended(c.clock.monotonic(), failure=error_type)

    def _note_full(self, spool: Spool, full: Full | TooLarge) -> None:
        """A budget that has no room for even one row ends the run, unless something may still give room back."""
        if len(spool.packer) or not isinstance(full, TooLarge):
            return
        if full.limit is Limit.UNPRICED:
            self._c.stop.pause_for(PauseReason.BUDGET, full.reason)
        else:
            self._over_budget = True

    async def _give_back(self, parcel: Parcel | None) -> None:
        """A body that is not to be sent."""
        if parcel is not None:
            await self._c.write(
                self._c.store.release_chunks, self._c.run.id, [rider.fence for rider in parcel.riders]
            )
            parcel.path.unlink(missing_ok=True)

    async def _send(self, parcel: Parcel) -> None:
        sent = await self._submitter.send(parcel)
        if isinstance(sent, Failure):
            await self._give_back(parcel)
            self._back_off(sent)
        elif sent.verdict is not IntentVerdict.STORED:
            await self._give_back(parcel)
            if sent.verdict is IntentVerdict.BUSY:
                self._not_before_us = self._c.clock.now_us() + round(self._c.timing.poll_s / 10 * SECOND)
        else:
            self._after(sent, parcel)
        self._c.wake()

    def _after(self, sent: Sent, parcel: Parcel) -> None:
        """What the end of a create says about the next one."""
        c = self._c
        if sent.state in (BatchState.ACCEPTED, BatchState.CLAIMED):
            self._setbacks, self._trouble_since_us = 0, None
            self._suspects.accepted(len(parcel.idxs))
            return
        if sent.state is BatchState.UNKNOWN or sent.failure is None:
            return
        failure = sent.failure
        if failure.kind is FailureKind.ACCOUNT:
            trouble = failure.trouble or AccountTrouble.CREDENTIALS
            c.stop.pause_for(PAUSE_OF_TROUBLE[trouble], failure.message)
        elif failure.kind is FailureKind.ROW:
            self._refused(parcel, failure)
        else:
            self._back_off(failure)

    def _refused(self, parcel: Parcel, failure: Failure) -> None:
        """The whole create was refused for what is in it: find the row that is meant, and send the rest."""
        named = named_request(failure.message)
        reason = f"the service refused it: {failure.message}"
        if named is not None and named < len(parcel.idxs):
            self._suspects.name(parcel.idxs[named], reason)
        else:
            self._suspects.refuse(parcel.idxs, reason)
        if self._suspects.hopeless:
            self._c.stop.pause_for(PauseReason.REFUSED, f"the service refuses every row: {failure.message}")

    def _back_off(self, failure: Failure) -> None:
        """Not now: wait as long as the service says, or longer with each time; a batch that ends may make room."""
        c = self._c
        now_us = c.clock.now_us()
        self._trouble_since_us = self._trouble_since_us or now_us
        if failure.kind is FailureKind.ACCOUNT:
            return
        if now_us - self._trouble_since_us > c.run.job.limits.stall_s * SECOND:
            minutes = c.run.job.limits.stall_s / 60
            c.stop.pause_for(PauseReason.STALLED, f"no batch could be created for {minutes:g} minutes")
        self._setbacks += 1
        ceiling_s = min(SLOWEST_CREATE_S, 2.0**self._setbacks)
        wait_s = failure.retry_after_s or max(0.05, self._chance.random()) * ceiling_s
        self._not_before_us = now_us + round(wait_s * SECOND)


def _without(chunk: ClaimedChunk, idxs: set[int]) -> ClaimedChunk:
    """The same chunk with fewer rows to take."""
    return ClaimedChunk(
        fence=chunk.fence,
        first_idx=chunk.first_idx,
        n=chunk.n,
        first_record=chunk.first_record,
        lines=chunk.lines,
        taken=chunk.taken.union(idxs),
        past=chunk.past,
    )
