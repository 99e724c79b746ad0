"""New batches: free rows packed and sent, one submission after the other, until no row is free.

Rows are packed in their order. Some do not ride with the others: those whose turn is paused go on live, those that
cannot ride end alone, and those that go ahead are sent before the rest.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from runner.api.batch_create import WITHHELD
from runner.clock import SECOND
from runner.domain.budget import Reserve
from runner.domain.decide import pause_of
from runner.domain.outcome import Failure, FailureKind, Usage
from runner.domain.own_betas import is_of_most, is_of_rows, refusal_of_row
from runner.domain.packing import API_MAX_REQUESTS, Full, Limit, Packer, TooLarge
from runner.domain.priming import MAX_WAIT_S
from runner.domain.quantity import quantity
from runner.domain.reservation import UNBOUNDED
from runner.domain.states import RIDING_BATCH, BatchState, PauseReason
from runner.domain.submission import named_request, new_submission_id
from runner.domain.sum_bound import LikelyHeld, WorstHeld
from runner.engine.batch.ahead import Scout
from runner.engine.batch.common import Common
from runner.engine.batch.spool import Added, Misfit, Parcel, Spool
from runner.engine.batch.submit import Sent, Submitter
from runner.engine.batch.suspects import Suspects
from runner.engine.feeder import NOTHING_BEHIND, Work
from runner.engine.settle import unsendable
from runner.engine.writer import Writer
from runner.store.claims import ClaimedChunk
from runner.store.group import Fence
from runner.store.queries import Wanted
from runner.store.submissions import IntentVerdict, Rider, Submission

# While the input is still being read, this long until more of it may be there.
STAGING_S = 0.2
# The longest that anybody sleeps who waits for others.
LOOK_S = 30.0
# Who only submits waits so long for his turn: after one create that went wrong the next may be well again.
SHORT_WAIT_S = 10.0
# Ceilings of our own backoff between creates that were not accepted.
SLOWEST_CREATE_S = 300.0

AskLive = Callable[[list[ClaimedChunk]], Awaitable[None]]


class MakerParts(Struct, frozen=True, kw_only=True):
    """`ask_live` asks the free rows of chunks in hand live and returns when they have ended. Without `waits` all is
    sent that can be sent at once."""

    writer: Writer
    ask_live: AskLive
    staged_all: Callable[[], bool]
    waits: bool


class Maker:
    """Makes the batches of one run."""

    def __init__(self, common: Common, parts: MakerParts) -> None:
        self._c = common
        self._p = parts
        self._submitter = Submitter(common)
        self._scout = Scout(common.run.job.batch, common.prices)
        self._suspects = Suspects()
        self._chance = random.Random()
        self._setbacks = self._busy = 0
        self._trouble_since_us: int | None = None
        self._not_before_us = 0
        self._over_budget = False
        self._room = 0  # what the budget left when the last body was begun
        self._bodies: set[Path] = set()
        self._since = common.changed  # as it was before the rows were looked at
        self._waiting = False  # for what is with the API: no row is free, or there is no room for one
        self.stopped = False

    @property
    def idle(self) -> bool:
        """Nothing can be sent unless something comes back."""
        return self.stopped or self._waiting

    @property
    def sending(self) -> bool:
        """A POST is under way."""
        return self._submitter.sending

    async def serve(self) -> None:
        """Pack and send until no row is free and none will be; wait for what may become free again."""
        c = self._c
        try:
            while not self.stopped and not c.stop.is_asked():
                self._since = c.changed
                await self._continue_live()
                wait_s = (self._not_before_us - c.clock.now_us()) / SECOND
                if wait_s > 0:
                    if not self._p.waits and wait_s > max(c.timing.poll_s / 2, SHORT_WAIT_S):
                        return
                    await c.until_changed(wait_s)
                elif not await self._make_one():
                    return
        finally:
            self.stopped = True
            self._clear_bodies()
            c.wake()

    def _clear_bodies(self) -> None:
        """A body that was not sent by now never will be; it holds prompts. Those of another process are its own."""
        for path in self._bodies:
            path.unlink(missing_ok=True)

    async def _make_one(self) -> bool:
        """One more batch, or a wait for rows; False when there is nothing to wait for."""
        parcel = await self._pack()
        if self._c.stop.is_asked():
            await self._give_back(parcel)
            return False
        if parcel is None:
            return await self._more_to_come()
        probes = self._scout.probes(parcel.idxs)
        if probes:
            await self._give_back(parcel)
            await self._probe(parcel.riders, probes)
        elif primers := self._scout.primers():
            await self._give_back(parcel)
            await self._prime(parcel.riders, primers)
        else:
            if await self._send(parcel):
                self._scout.forget_parcel()
        return True

    async def _open(self) -> list[Submission]:
        found = await self._c.read(self._c.store.submissions_of, self._c.run.id)
        return [one for one in found if one.state in RIDING_BATCH]

    async def _more_to_come(self) -> bool:
        """Wait for free rows; False when there will be none without somebody else's doing."""
        c = self._c
        if not self._p.staged_all():
            await c.until_changed(STAGING_S)
            return True
        if self._over_budget:
            return await self._budget_may_give_way()
        open_ = await self._open()  # before the free rows: what leaves these now is found among those
        fresh = await c.read(c.store.fresh_rows, c.run.id, c.clock.now_us())
        if 0 < fresh == len(self._suspects.doubtful):
            return self._suspects.convict()  # no other row is left to be tried
        if not self._p.waits or not open_:
            return fresh > 0 and self._p.waits
        await self._wait_for_others()
        return True

    async def _budget_may_give_way(self) -> bool:
        """A batch that ends gives back what it does not need; without one there will be no more room."""
        self._over_budget = False
        if await self._open():
            if self._p.waits:
                await self._wait_for_others()
            return self._p.waits
        if (await self._budget_room() or 0) > self._room:
            return True  # the last one gave it back while we looked
        if self._p.waits and await self._c.budgets.others_give_way(self._room + 1):
            return True
        self._c.stop.pause_for(PauseReason.BUDGET, await self._c.budgets.reached())
        return False

    async def _budget_room(self) -> int | None:
        return await self._c.read(self._c.store.budget_room, self._c.run.id, self._c.clock.now_us())

    async def _wait_for_others(self) -> None:
        """Until something that is with the API may have given rows or room back."""
        self._waiting = True
        try:
            await self._c.until_changed(LOOK_S, self._since)
        finally:
            self._waiting = False

    # --- rows that go elsewhere

    async def _claim(self, wanted: Wanted, after_seq: int) -> ClaimedChunk | None:
        c = self._c
        return await c.write(
            c.store.claim_next, c.run.id, c.clock.now_us(), c.prices.version, wanted, after_seq=after_seq
        )

    async def _continue_live(self) -> None:
        """Rows whose turn is paused go on live, in their chunks, which then wait again."""
        while not self._c.stop.is_asked():
            chunk = await self._claim(Wanted.CONTINUED, -1)
            if chunk is None:
                return
            await self._ask_live(chunk, {idx for idx, past in chunk.past.items() if past.turns})

    async def _ask_live(self, chunk: ClaimedChunk, idxs: Collection[int]) -> None:
        others = set(range(chunk.first_idx, chunk.first_idx + chunk.n)).difference(idxs)
        await self._p.ask_live([replace(chunk, taken=chunk.taken.union(others))])
        await self._c.write(self._c.store.release_chunks, self._c.run.id, [chunk.fence])

    async def _chunks_of(self, riders: list[Rider], idxs: Collection[int]) -> list[tuple[ClaimedChunk, set[int]]]:
        """The chunks of some rows that were packed a moment ago, claimed again, each with its rows."""
        found = []
        for rider in riders:
            own = set(rider.idxs).intersection(idxs)
            chunk = await self._claim(Wanted.FREE, rider.fence.seq - 1) if own else None
            if chunk is not None:
                found.append((chunk, own))
        return found

    async def _probe(self, riders: list[Rider], idxs: Collection[int]) -> None:
        """Rows that go ahead live, to try their parameters before all others ride. Their answers are kept."""
        c = self._c
        for chunk, own in await self._chunks_of(riders, idxs):
            await self._ask_live(chunk, own)
            for idx in own:
                found = await c.read(c.store.exported_row, c.run, idx)
                self._scout.probed(idx, None if found is None else found.result)
        if (verdict := self._scout.verdict) is not None:
            c.stop.pause_for(PauseReason.REFUSED, verdict)

    async def _prime(self, riders: list[Rider], idxs: frozenset[int]) -> None:
        """One small batch of rows that write the prefixes which the others share; those wait for it, but not long."""
        c = self._c
        spool = await self._new_spool()
        if spool is None:
            return
        unused: list[Fence] = []
        try:
            for chunk, own in await self._chunks_of(riders, idxs):
                others = frozenset(range(chunk.first_idx, chunk.first_idx + chunk.n)).difference(own)
                added = await c.read(spool.add, chunk, others, self._scout.look_again)
                await self._settle_misfits(chunk, added)
                if not added.riding:
                    unused.append(chunk.fence)
            parcel = await c.read(spool.finish)
        finally:
            spool.close()
            await c.write(c.store.release_chunks, c.run.id, unused)
        if parcel is None:
            self._scout.primed({}, c.clock.now_us())
            return
        c.note(
            "batch_priming",
            f"{quantity(len(parcel.idxs), 'row goes', 'rows go')} ahead to fill the prompt cache; the others wait",
            rows=len(parcel.idxs),
        )
        await self._send(parcel)
        await self._wait_for(parcel.submission)
        self._scout.primed(await c.read(self._usages, idxs), c.clock.now_us())

    async def _wait_for(self, submission: str) -> None:
        c = self._c
        until_us = c.clock.now_us() + MAX_WAIT_S * SECOND
        while self._p.waits and not c.stop.is_asked() and c.clock.now_us() < until_us:
            since = c.changed
            found = await c.read(c.store.submission_or_none, submission)
            if found is None or found.state not in RIDING_BATCH:
                return
            await c.until_changed(min(LOOK_S, (until_us - c.clock.now_us()) / SECOND), since)

    def _usages(self, idxs: Collection[int]) -> dict[int, Usage]:
        rows = {idx: self._c.store.exported_row(self._c.run, idx) for idx in idxs}
        return {
            idx: row.result.usage for idx, row in rows.items() if row is not None and row.result.usage is not None
        }

    # --- packing

    async def _pack(self) -> Parcel | None:
        """The next body, of as many free rows as fit, in their order."""
        c = self._c
        spool = await self._new_spool()
        if spool is None:
            return None
        unused: list[Fence] = []
        seq = -1
        self._scout.begin_parcel(c.clock.now_us(), await self._hit_share())
        try:
            while not c.stop.is_asked():
                chunk = await self._claim(Wanted.FREE, seq)
                if chunk is None:
                    if self._p.staged_all():
                        break
                    await c.until_changed(STAGING_S)
                    continue
                seq = chunk.fence.seq
                passed_over = self._passed_over(chunk)
                if c.collapse is not None:
                    told, _ = await c.collapse.shared(chunk, passed_over, set(spool.packer.idxs), batch=True)
                    passed_over = passed_over.union(told.copied, told.waiting)
                added = await c.read(spool.add, chunk, passed_over, self._scout.look)
                await self._settle_misfits(chunk, added)
                if not added.riding:
                    unused.append(chunk.fence)
                if added.trouble is not None:
                    self._no_files(added.trouble)
                    break
                if added.full is not None:
                    self._note_full(spool, added.full)
                    break
            return await c.read(spool.finish)
        finally:
            spool.close()
            await c.write(c.store.release_chunks, c.run.id, unused)

    async def _hit_share(self) -> float | None:
        """Of the prompt cache, as far as the run's batches have shown it; asked only where we would mark."""
        c = self._c
        return await c.read(c.store.batch_hit_share, c.run.id) if c.renderer.has_heads else None

    def _no_files(self, failure: Failure) -> None:
        """Rows that bring files wait, like all others, until the service takes files again."""
        if failure.kind is FailureKind.ACCOUNT:
            pause = pause_of(failure)
            self._c.stop.pause_for(pause.reason, pause.message)
        else:
            self._back_off(failure)

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
        room = await self._budget_room()
        self._room = room or 0
        packer = Packer(most, batch.max_bytes, None if room is None else max(0, room), await self._held())
        submission = new_submission_id(secrets.randbits)
        path = c.file(submission, "body")
        self._bodies = {body for body in self._bodies if body.exists()} | {path}
        row_pico = c.run.job.limits.row_pico
        likely = isinstance(packer.held, LikelyHeld)
        return await c.read(
            Spool, submission, path, packer, c.renderer, c.prices, c.run.fan, row_pico, likely, c.files
        )

    async def _held(self) -> WorstHeld:
        """How much of the budget the rows of the next batch hold back."""
        c = self._c
        if c.run.job.budget.reserve is Reserve.WORST:
            return WorstHeld()
        batches = await c.read(c.store.submissions_of, c.run.id)
        return LikelyHeld(await c.read(c.store.cost_shares, c.run.id), len(batches) + 1)

    def _passed_over(self, chunk: ClaimedChunk) -> frozenset[int]:
        """Rows that go on live, and those that the service has refused by name."""
        continued = {idx for idx, past in chunk.past.items() if past.turns}
        return frozenset(continued).union(self._suspects.refused, self._suspects.doubtful)

    async def _settle_misfits(self, chunk: ClaimedChunk, added: Added) -> None:
        """Rows that cannot ride end here, alone."""
        own = range(chunk.first_idx, chunk.first_idx + chunk.n)
        refused = [
            Misfit(chunk=chunk, idx=idx, reason=reason)
            for idx, reason in self._suspects.refused.items()
            if idx in own and idx not in chunk.taken
        ]
        for misfit in added.misfits:
            await self._end(misfit, "bad_row")
        for misfit in refused:
            await self._end(misfit, "invalid_request_error")
            del self._suspects.refused[misfit.idx]

    async def _end(self, misfit: Misfit, error_type: str) -> None:
        c, chunk = self._c, misfit.chunk
        record, place = divmod(misfit.idx, c.run.fan)
        past = chunk.past.get(misfit.idx, NOTHING_BEHIND)
        work = Work(
            fence=chunk.fence,
            idx=misfit.idx,
            record=record,
            repeat=place % c.run.job.repeat,
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
            self._c.stop.pause_for(PauseReason.BUDGET, f"{full.reason}: {UNBOUNDED}")
        else:
            self._over_budget = True

    async def _give_back(self, parcel: Parcel | None) -> None:
        """A body that is not to be sent."""
        if parcel is not None:
            fences = [rider.fence for rider in parcel.riders]
            await self._c.write(self._c.store.release_chunks, self._c.run.id, fences)
            parcel.path.unlink(missing_ok=True)

    # --- sending

    async def _send(self, parcel: Parcel) -> bool:
        """False when its rows are free again: no batch was made."""
        c = self._c
        sent = await self._submitter.send(parcel)
        if isinstance(sent, Failure):
            await self._give_back(parcel)
            self._back_off(sent)
        elif sent.verdict is not IntentVerdict.STORED:
            await self._give_back(parcel)
            if sent.verdict is IntentVerdict.BUSY:
                self._wait_for_the_other_post()
        else:
            self._after(sent, parcel)
        c.wake()
        return isinstance(sent, Sent) and sent.state in RIDING_BATCH

    def _after(self, sent: Sent, parcel: Parcel) -> None:
        """What the end of a create says about the next one."""
        if sent.state in (BatchState.ACCEPTED, BatchState.CLAIMED):
            self._setbacks, self._busy, self._trouble_since_us = 0, 0, None
            self._suspects.accepted(len(parcel.idxs))
            return
        failure = sent.failure
        if failure is None:
            return
        if failure.type == WITHHELD:  # too late by our own rule: the service has refused nothing
            self._not_before_us = self._c.clock.now_us() + round(self._c.timing.poll_s / 10 * SECOND)
        elif sent.state is BatchState.UNKNOWN:  # the next one may end so too, and has to be settled like this one
            self._back_off(failure, stalls=False)
        elif self._is_of_its_rows(parcel, failure):
            for idx in parcel.idxs:
                self._suspects.name(idx, refusal_of_row(failure).message)
        elif failure.kind is FailureKind.ACCOUNT:
            pause = pause_of(failure)
            self._c.stop.pause_for(pause.reason, pause.message)
        elif failure.kind is FailureKind.ROW:
            self._refused(parcel, failure)
        else:
            # A full queue is no trouble of the service: it is as long as batches take, ours and those of others.
            self._back_off(failure, stalls=failure.kind is not FailureKind.RATE_LIMITED)

    def _is_of_its_rows(self, parcel: Parcel, failure: Failure) -> bool:
        """Refused for a beta that these rows brought or need, and most others do not: rows that ride together go with
        the same names."""
        own = set(parcel.betas).difference(self._c.renderer.betas_of_all)
        return is_of_rows(failure, own) and not is_of_most(len(parcel.idxs), self._c.run.total_rows)

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

    def _wait_for_the_other_post(self) -> None:
        """Another run's is under way; one of a dead process holds the workspace until it is known to be over."""
        poll_s = self._c.timing.poll_s
        self._not_before_us = self._c.clock.now_us() + round(
            min(poll_s, poll_s / 10 * 2 ** min(self._busy, 10)) * SECOND
        )
        self._busy += 1

    def _back_off(self, failure: Failure, *, stalls: bool = True) -> None:
        """Not now: wait as long as the service says, or longer with each time. What `stalls` pauses the run in the
        end."""
        c = self._c
        now_us = c.clock.now_us()
        self._trouble_since_us = self._trouble_since_us or now_us
        waited_s = (now_us - self._trouble_since_us) / SECOND
        if stalls and waited_s > c.run.job.limits.stall_s:
            minutes = c.run.job.limits.stall_s / 60
            c.stop.pause_for(PauseReason.STALLED, f"no batch could be created for {minutes:g} minutes")
        self._setbacks += 1
        ceiling_s = min(SLOWEST_CREATE_S, 2.0 ** min(self._setbacks, 10))
        # Each create is a body of up to 200 MB: a full queue is not asked each minute whether it has room.
        wait_s = max(failure.retry_after_s or 0.0, max(0.05, self._chance.random()) * ceiling_s)
        self._not_before_us = now_us + round(wait_s * SECOND)
