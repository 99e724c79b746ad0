"""Submissions of unknown end, settled: the list is walked, candidates are waited for and read, until it is known
whose they are. What comes next is decided in `domain/settling.py`; here it is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from runner.clock import SECOND
from runner.domain.batch import DAY_US, RETENTION_DAYS, BatchStatus, next_poll_s
from runner.domain.listings import Listing, Witnesses, wants_another_page
from runner.domain.outcome import Failure
from runner.domain.quantity import of_rows
from runner.domain.settling import (
    LISTINGS_KEPT,
    Absent,
    AskPerson,
    CancelCandidate,
    ClaimProvisionally,
    Evidence,
    ListAgain,
    Question,
    ReadFirstLine,
    Resubmit,
    Verdict,
    Wait,
    decide_unknown,
)
from runner.domain.states import BatchState
from runner.domain.submission import Intent, read_first_line, us
from runner.engine.batch.calls import is_missing
from runner.engine.batch.common import Common
from runner.engine.batch.owner import Owner, settle_owner
from runner.engine.batch.questions import ELSEWHERE, QUESTION_PACE_S, Questions
from runner.store.sightings import Known
from runner.store.submissions import Submission

QUESTIONS: Mapping[Question, str] = {
    Question.ELSEWHERE: ELSEWHERE,
    Question.NO_PROOF: "the service names no workspace, and no batch proves that we look at the right one",
    Question.NO_WITNESS: "the list does not show batches that it showed before: it may be another workspace's",
    Question.UNVERIFIABLE: "the only batch that it may be has no results that can be read",
}


class _Asked(Struct):
    """What this process has seen for one submission beside the listings, and when to look at it next."""

    polled: dict[str, BatchStatus] = field(default_factory=dict)
    unverifiable: set[str] = field(default_factory=set)
    missing_since_us: dict[str, int] = field(default_factory=dict)
    listings_since_us: int = 0  # earlier ones are not counted: a candidate has proved foreign
    next_us: int = 0
    said: str | None = None


class Unknowns:
    """Settles the run's submissions of unknown end."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self._listings: list[Listing] = []
        self._asked: dict[str, _Asked] = {}
        self.questions = Questions(common)

    async def settle(self, *, wait: bool = True) -> None:
        """Until none is left or the run is to stop. Without `wait` it ends as soon as only time can help."""
        c = self._c
        while not c.stop.is_asked():
            since = c.changed
            unknown = await self._unknown()
            if not unknown:
                return
            for submission in unknown:
                if self._state(submission).next_us <= c.clock.now_us():
                    await self._step(submission)
            waiting = [self._state(one).next_us for one in await self._unknown()]
            if not waiting:
                return
            wait_s = (min(waiting) - c.clock.now_us()) / SECOND
            if not wait and wait_s > c.timing.listing_gap_s * 2:
                return
            await c.until_changed(max(0.0, wait_s), since)

    def until_us(self, submission: Submission) -> int:
        """Until when it settles, about."""
        return submission.intent.settled_shared_us(self._c.timing)

    async def _unknown(self) -> list[Submission]:
        found = await self._c.read(self._c.store.submissions_of, self._c.run.id)
        unknown = [one for one in found if one.state is BatchState.UNKNOWN]
        self.questions.keep([one.id for one in unknown])
        return unknown

    def _state(self, submission: Submission) -> _Asked:
        return self._asked.setdefault(submission.id, _Asked())

    # --- one step

    async def _step(self, submission: Submission) -> None:
        """Ask what comes next and do it, once."""
        job = self._c.run.job.batch
        known = await self._known(submission.intent)
        verdict = decide_unknown(
            submission.intent,
            self._evidence(submission, known),
            self._c.timing,
            now_us=self._c.clock.now_us(),
            policy=job.on_unknown,
            exclusive=job.workspace_exclusive,
        )
        await self._carry_out(submission, verdict)

    async def _known(self, intent: Intent) -> Known:
        young_us = self._c.clock.now_us() - RETENTION_DAYS * DAY_US
        return await self._c.read(self._c.store.known_batches, intent.organization, intent.workspace, young_us)

    def _evidence(self, submission: Submission, known: Known) -> Evidence:
        asked = self._state(submission)
        return Evidence(
            listings=tuple(one for one in self._listings if one.taken_us >= asked.listings_since_us),
            witnesses=Witnesses(seen=known.witnesses),
            owned=known.owned | known.duplicates,
            foreign=known.foreign,
            polled=asked.polled,
            claimed_elsewhere=known.claimed_elsewhere(submission.id),
            unverifiable=frozenset(asked.unverifiable),
            rivals=tuple(one for one in known.unsettled if one.submission != submission.id),
        )

    async def _carry_out(self, submission: Submission, verdict: Verdict) -> None:
        c, asked = self._c, self._state(submission)
        if not isinstance(verdict, AskPerson):
            await self.questions.take_back(submission)
        match verdict:
            case Wait(until_us=until_us):
                asked.next_us = until_us
                self._tell_once(submission, "unknown, settling")
            case ListAgain(at_us=at_us) if at_us > c.clock.now_us():
                asked.next_us = at_us
            case ListAgain():
                await self._list()
            case ReadFirstLine(batch_id=batch_id):
                await self._read(submission, batch_id)
            case ClaimProvisionally(batch_ids=ids):
                await self._await_candidates(submission, ids)
            case CancelCandidate(batch_id=batch_id):
                await c.write(c.store.claim_provisionally, submission.id, [batch_id])
                await c.calls.cancel(batch_id)
                await self._await_candidates(submission, (batch_id,))
            case Absent():
                if await c.write(c.store.absent, c.run.id, submission.id):
                    c.meter.committed_pico -= submission.reserved_pico
                    self._let_off(submission, "batch_absent", "was never made: its rows go again")
            case Resubmit():
                await self._let_go(submission)
            case AskPerson(reason=reason):
                await self.questions.ask(submission, QUESTIONS[reason])
                asked.next_us = c.clock.now_us() + us(min(QUESTION_PACE_S, c.timing.settle_s))
                if asked.next_us - self._taken_us() > us(c.timing.listing_gap_s):
                    await self._list()

    def _taken_us(self) -> int:
        return self._listings[-1].taken_us if self._listings else 0

    async def _list(self) -> None:
        """Walk the list for all submissions of unknown end together."""
        c = self._c
        unknown = await self._unknown()
        intents = [one.intent for one in unknown]
        known = await self._known(intents[0]) if intents else None
        witnesses = Witnesses(seen=known.witnesses if known else {})
        listing = await c.calls.walk(lambda seen: wants_another_page(intents, seen, witnesses, c.timing))
        if isinstance(listing, Failure):
            for one in unknown:
                self._state(one).next_us = c.clock.now_us() + us(c.timing.poll_s)
            return
        await c.write(c.store.note_listing, listing)
        self._listings = [*self._listings, listing][-LISTINGS_KEPT:]

    async def _read(self, submission: Submission, batch_id: str) -> None:
        """Whose an ended batch is, by its first line."""
        c, asked = self._c, self._state(submission)
        line = await c.calls.first_line(batch_id)
        if isinstance(line, Failure) and not self._is_gone(asked, batch_id, line):
            asked.next_us = c.clock.now_us() + us(c.timing.poll_s)
            return
        told = read_first_line(None if isinstance(line, Failure) else line)
        if not told.readable:
            asked.unverifiable.add(batch_id)
            return
        found = await settle_owner(c, batch_id, told.submission)
        if found is Owner.LATER:
            asked.next_us = c.clock.now_us() + us(c.timing.poll_s)
        elif told.submission != submission.id:  # only a listing of now can say what is left
            asked.listings_since_us = c.clock.now_us()

    def _is_gone(self, asked: _Asked, batch_id: str, told: Failure) -> bool:
        """A 404 for results heals by itself, for as long as one for a batch does."""
        if not is_missing(told):
            return False
        now_us = self._c.clock.now_us()
        return now_us - asked.missing_since_us.setdefault(batch_id, now_us) >= us(self._c.timing.missing_patience_s)

    async def _await_candidates(self, submission: Submission, ids: tuple[str, ...]) -> None:
        """Wait for them as for our own; one that has ended is read at the next step."""
        c, asked = self._c, self._state(submission)
        if set(ids) - set(submission.provisional):
            await c.write(c.store.claim_provisionally, submission.id, list(ids))
            self._tell_once(submission, f"unknown, {len(ids)} candidate{'s' * (len(ids) > 1)} in progress: waiting")
        ages: list[float] = []
        for batch_id in ids:
            status = await c.calls.retrieve(batch_id)
            if isinstance(status, Failure) and self._is_gone(asked, batch_id, status):
                # Deleted, or never ours to see: only a listing of now can say what is left.
                asked.polled.pop(batch_id, None)
                asked.listings_since_us = c.clock.now_us()
                return
            if isinstance(status, BatchStatus):
                asked.missing_since_us.pop(batch_id, None)
                asked.polled[batch_id] = status
                if status.has_ended:
                    return
                if status.created_us is not None:
                    ages.append((c.clock.now_us() - status.created_us) / SECOND)
        asked.next_us = c.clock.now_us() + us(next_poll_s(min(ages, default=0.0), submission.n, c.timing.poll_s))

    async def _let_go(self, submission: Submission) -> None:
        c = self._c
        done = await c.write(
            c.store.let_go,
            c.run.id,
            submission.id,
            model=c.run.job.model or "",
            price_version=c.prices.version,
            now_us=c.clock.now_us(),
        )
        if done:
            self._let_off(submission, "batch_let_go", "may exist; its rows go again, as on_unknown: resubmit says")

    def _let_off(self, submission: Submission, name: str, text: str) -> None:
        self._c.note(name, f"a batch of {of_rows(submission.n)} {text}", batch=submission.id, rows=submission.n)
        self._c.wake()

    def _tell_once(self, submission: Submission, text: str) -> None:
        asked = self._state(submission)
        if asked.said != text:
            asked.said = text
            self._c.note(
                "batch_unknown",
                f"a batch of {of_rows(submission.n)}: {text}",
                warning=True,
                batch=submission.id,
                rows=submission.n,
                until_us=self.until_us(submission),
            )
