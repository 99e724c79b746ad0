"""A batch that is ours, from its acceptance to its end: asked about, never hurried, read when it has ended."""

from __future__ import annotations

import anyio
from msgspec import Struct, field
from msgspec.structs import replace

from runner.clock import SECOND
from runner.domain.batch import ENDED, BatchStatus, Retention, next_poll_s, results_gone_us, retention
from runner.domain.listings import is_elsewhere
from runner.domain.outcome import Failure
from runner.domain.quantity import of_rows
from runner.domain.states import BatchState
from runner.domain.submission import us
from runner.engine.batch.calls import is_missing
from runner.engine.batch.collect import Collector
from runner.engine.batch.common import Common
from runner.engine.batch.questions import ELSEWHERE, NOT_THERE, Questions
from runner.store.holder import taken_over
from runner.store.submissions import Submission


class Watched(Struct):
    """What asking has shown of one batch in this process. Times are shared microseconds."""

    submission: Submission
    status: BatchStatus | None = None
    next_us: int = 0
    missing_since_us: int | None = None
    warned: set[str] = field(default_factory=set)  # the names of the warnings that were told

    @property
    def created_us(self) -> int:
        return self.submission.created_us or self.submission.intent.intent_us


class Follower:
    """Asks about batches, each at its own pace, and collects those that have ended, one after the other."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self._collector = Collector(common)
        self._reading = anyio.Lock()
        self.watched: dict[str, Watched] = {}
        self.questions = Questions(common)

    async def follow(self, submission: Submission) -> None:
        """Until its results are stored or the run is to stop."""
        c = self._c
        watched = self._watched(submission)
        while not c.stop.is_asked() and not await self.look(submission):
            await c.stop.sleep(c.clock, max(0.0, (watched.next_us - c.clock.now_us()) / SECOND))
        self.watched.pop(submission.id, None)
        self.questions.open.pop(submission.id, None)

    async def look(self, submission: Submission) -> bool:
        """Ask once; True when it has ended and its results are stored."""
        watched = self._watched(submission)
        if watched.submission.state is not BatchState.ENDED and not await self._has_ended(watched):
            return False
        self._warn_of_retention(watched)
        self._set_next(watched)
        async with self._reading:
            if await self._collector.collect(watched.submission):
                return True
        await self._asked(watched)  # whether it is there at all
        return False

    async def _has_ended(self, watched: Watched) -> bool:
        """Ask the service, and store it if so."""
        c, submission = self._c, watched.submission
        told = await self._asked(watched)
        if is_missing(told) and retention(watched.created_us, c.clock.now_us()) is Retention.GONE:
            told = BatchStatus(  # whatever became of it, there is nothing left to wait for
                id=str(submission.provider_id),
                status=ENDED,
                counts=submission.counts,
                created_us=submission.created_us,
                expires_us=submission.expires_us,
            )
        if not isinstance(told, BatchStatus) or not told.has_ended:
            return False
        await c.write(c.store.batch_ended, submission.id, told)
        found = await c.read(c.store.submission, submission.id)
        watched.submission = replace(found, epoch=c.epochs[submission.id])
        return True

    async def _asked(self, watched: Watched) -> BatchStatus | Failure:
        """How it is; and where the service does not show it, whether anybody can hope that it will."""
        told = await self._c.calls.retrieve(str(watched.submission.provider_id))
        self._note(watched, told)
        if is_missing(told):
            await self._doubt(watched)
        elif not isinstance(told, Failure):
            await self._settled(watched)
        return told

    async def _settled(self, watched: Watched) -> None:
        await self.questions.take_back(watched.submission)
        watched.submission = replace(watched.submission, question=None)

    async def _doubt(self, watched: Watched) -> None:
        """A 404 heals by itself, unless the key looks elsewhere by now or the list does not show the batch either."""
        c, one = self._c, watched.submission
        since_us, now_us = watched.missing_since_us or c.clock.now_us(), c.clock.now_us()
        patient = now_us - since_us < us(c.timing.missing_patience_s)
        listing = await c.calls.walk(
            lambda seen: not patient and not is_elsewhere(one.intent, seen) and not seen.reaches(watched.created_us)
        )
        if isinstance(listing, Failure):
            return
        await c.write(c.store.note_listing, listing)
        unlisted = listing.reaches(watched.created_us) and one.provider_id not in {it.id for it in listing.batches}
        if is_elsewhere(one.intent, listing):
            await self.questions.ask(one, ELSEWHERE)
        elif c.timing.is_gone(since_us, now_us, missing_from_full_listing=unlisted):
            await self.questions.ask(one, NOT_THERE)
        else:
            await self._settled(watched)

    def _set_next(self, watched: Watched) -> None:
        now_us = self._c.clock.now_us()
        age_s = (now_us - watched.created_us) / SECOND
        watched.next_us = now_us + us(next_poll_s(age_s, watched.submission.n, self._c.timing.poll_s))

    def _watched(self, submission: Submission) -> Watched:
        """Under the fence that is ours, whatever the store says by now. Raises RunLocked for one that is another
        process's work: it has taken the run over."""
        epoch = self._c.epochs.get(submission.id)
        if epoch is None:
            raise taken_over(self._c.run)
        ours = replace(submission, epoch=epoch)
        return self.watched.setdefault(submission.id, Watched(submission=ours))

    async def cancel(self, submission: Submission) -> None:
        """Ask for an early end; what is finished stays."""
        if submission.provider_id is not None:
            await self._c.calls.cancel(submission.provider_id)

    def _note(self, watched: Watched, told: BatchStatus | Failure) -> None:
        c, now_us = self._c, self._c.clock.now_us()
        self._set_next(watched)
        if isinstance(told, Failure):
            if is_missing(told):
                watched.missing_since_us = watched.missing_since_us or now_us
                self._warn_of_missing(watched, now_us)
            return
        watched.status, watched.missing_since_us = told, None
        expires_us = told.expires_us or watched.submission.expires_us
        if not told.has_ended and c.timing.is_overdue(expires_us, now_us):
            self._warn(watched, "batch_overdue", "should have ended long ago and has not; it is still waited for")

    def _warn_of_retention(self, watched: Watched) -> None:
        """An ended batch whose results we do not have yet."""
        now_us = self._c.clock.now_us()
        if retention(watched.created_us, now_us) is Retention.WARN:
            days = (results_gone_us(watched.created_us) - now_us) / SECOND / 86_400
            self._warn(watched, "batch_results_expire", f"has ended, and its results are deleted in {days:.0f} days")

    def _warn_of_missing(self, watched: Watched, now_us: int) -> None:
        since_us = watched.missing_since_us or now_us
        if now_us - since_us >= us(self._c.timing.missing_patience_s):
            self._warn(watched, "batch_missing", "cannot be found at the service; its rows are kept for it")

    def _warn(self, watched: Watched, name: str, text: str) -> None:
        if name not in watched.warned:
            watched.warned.add(name)
            one = watched.submission
            self._c.note(
                name, f"batch {one.provider_id} ({of_rows(one.n)}) {text}", warning=True, batch=one.id, rows=one.n
            )
