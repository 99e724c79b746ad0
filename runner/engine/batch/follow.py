"""A batch that is ours, from its acceptance to its end: asked about, never hurried, read when it has ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio

from runner.clock import SECOND
from runner.domain.batch import BatchStatus, Retention, next_poll_s, results_gone_us, retention
from runner.domain.outcome import Failure
from runner.domain.states import BatchState
from runner.domain.submission import us
from runner.engine.batch.calls import is_missing
from runner.engine.batch.collect import Collector
from runner.engine.batch.common import Common
from runner.store.submissions import Submission


@dataclass(slots=True)
class Watched:
    """What asking has shown of one batch in this process. Times are shared microseconds."""

    submission: Submission
    status: BatchStatus | None = None
    next_us: int = 0
    missing_since_us: int | None = None
    warned: bool = False


class Follower:
    """Asks about batches, each at its own pace, and collects those that have ended, one after the other."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self._collector = Collector(common)
        self._reading = anyio.Lock()
        self.watched: dict[str, Watched] = {}

    async def follow(self, submission: Submission) -> None:
        """Until its results are stored or the run is to stop."""
        c = self._c
        watched = self._watched(submission)
        while not c.stop.is_asked() and not await self.look(submission):
            await c.stop.sleep(c.clock, max(0.0, (watched.next_us - c.clock.now_us()) / SECOND))
        self.watched.pop(submission.id, None)

    async def look(self, submission: Submission) -> bool:
        """Ask once; True when it has ended and its results are stored."""
        c = self._c
        watched = self._watched(submission)
        if watched.submission.state is not BatchState.ENDED:
            told = await c.calls.retrieve(str(submission.provider_id))
            self._note(watched, told)
            if not isinstance(told, BatchStatus) or not told.has_ended:
                return False
            await c.write(c.store.batch_ended, submission.id, told)
            found = await c.read(c.store.submission, submission.id)
            watched.submission = replace(found, epoch=c.epochs[submission.id])
        watched.next_us = c.clock.now_us() + us(c.timing.poll_s)
        async with self._reading:
            return await self._collector.collect(watched.submission)

    def _watched(self, submission: Submission) -> Watched:
        """Under the fence that is ours, whatever the store says by now."""
        ours = replace(submission, epoch=self._c.epochs[submission.id])
        return self.watched.setdefault(submission.id, Watched(submission=ours))

    async def cancel(self, submission: Submission) -> None:
        """Ask for an early end; what is finished stays."""
        if submission.provider_id is not None:
            await self._c.calls.cancel(submission.provider_id)

    def _note(self, watched: Watched, told: BatchStatus | Failure) -> None:
        c, submission = self._c, watched.submission
        now_us = c.clock.now_us()
        created_us = submission.created_us or submission.intent.intent_us
        age_s = (now_us - created_us) / SECOND
        watched.next_us = now_us + us(next_poll_s(age_s, submission.n, c.timing.poll_s))
        if isinstance(told, Failure):
            if is_missing(told):
                watched.missing_since_us = watched.missing_since_us or now_us
                self._warn_of_missing(watched, now_us)
            return
        watched.status, watched.missing_since_us = told, None
        expires_us = told.expires_us or submission.expires_us
        if not told.has_ended and c.timing.is_overdue(expires_us, now_us):
            self._warn(watched, "batch_overdue", "should have ended long ago and has not; it is still waited for")
        if told.has_ended and retention(created_us, now_us) is Retention.WARN:
            days = (results_gone_us(created_us) - now_us) / SECOND / 86_400
            self._warn(watched, "batch_results_expire", f"has ended, and its results are deleted in {days:.0f} days")

    def _warn_of_missing(self, watched: Watched, now_us: int) -> None:
        since_us = watched.missing_since_us or now_us
        if now_us - since_us >= us(self._c.timing.missing_patience_s):
            self._warn(watched, "batch_missing", "cannot be found at the service; its rows are kept for it")

    def _warn(self, watched: Watched, name: str, text: str) -> None:
        if not watched.warned:
            watched.warned = True
            one = watched.submission
            self._c.note(
                name, f"batch {one.provider_id} ({one.n:,} rows) {text}", warning=True, batch=one.id, rows=one.n
            )
