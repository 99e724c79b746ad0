"""The part of the store that is about batches: every transaction by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import Connection

from runner.domain.batch import BatchStatus
from runner.domain.booking import Booking
from runner.domain.budget import Changes, day_of
from runner.domain.listings import Listing
from runner.domain.run import Run
from runner.domain.states import BatchState
from runner.domain.sum_bound import Shares
from runner.errors import RunLocked
from runner.failpoints import Failpoint, failpoint
from runner.store import batch_queries, budgets, claims, duplicates, group, sightings, submissions
from runner.store.submissions import Submission
from runner.store.transactions import Transactions

T = TypeVar("T")

# Rows of batches that say how much of a prompt cache the next ones will find.
ENOUGH_ROWS_TO_TELL = 100


class BatchTransactions(Transactions):
    """`Store` is one."""

    def take_up_submissions(self, run: int) -> list[Submission]:
        """All that the run ever sent in batches, what is under way under a new fence."""

        def work(connection: Connection) -> list[Submission]:
            self._check_hold(connection, run)
            return submissions.take_up(connection, run)

        return self.database.write(work)

    def intend(self, new: submissions.NewSubmission, overdue_us: int) -> submissions.IntentVerdict:
        """Write a submission down before its POST; only STORED allows that to be made."""
        failpoint(Failpoint.BATCH_INTENT_BEFORE)
        payer = self._payer(new.run)

        def work(connection: Connection) -> submissions.IntentVerdict:
            self._check_hold(connection, new.run)
            return submissions.intend(connection, new, payer, overdue_us)

        verdict = self.database.write(work)
        failpoint(Failpoint.BATCH_INTENT_AFTER)
        return verdict

    def received(self, submission: str, batch: BatchStatus, now_us: int) -> BatchState:
        return self._moved(lambda c: submissions.received(c, submission, batch, now_us))

    def not_made(self, run: int, submission: str, state: BatchState) -> None:
        payer = self._payer(run)
        self._moved(lambda c: submissions.not_made(c, submission, state, payer))

    def end_unknown(self, submission: str) -> None:
        self._moved(lambda c: submissions.end_unknown(c, submission))

    def claim_provisionally(self, submission: str, provider_ids: Sequence[str]) -> None:
        self._moved(lambda c: submissions.claim_provisionally(c, submission, provider_ids))

    def claim_batch(self, submission: str, batch: BatchStatus) -> bool:
        return self._moved_once(lambda c: submissions.claim(c, submission, batch))

    def absent(self, run: int, submission: str) -> bool:
        payer = self._payer(run)
        return self._moved_once(lambda c: submissions.absent(c, submission, payer))

    def gone(self, run: int, submission: str) -> bool:
        payer = self._payer(run)
        return self._moved_once(lambda c: submissions.gone(c, submission, payer))

    def let_go(self, run: int, submission: str, *, model: str, price_version: str, now_us: int) -> bool:
        payer = self._payer(run)
        return self._moved_once(
            lambda c: submissions.let_go(
                c, submission, payer, model=model, price_version=price_version, now_us=now_us
            )
        )

    def ask_about(self, submission: str, question: str | None) -> None:
        self.database.write(lambda c: submissions.ask(c, submission, question))

    def note_listing(self, listing: Listing) -> None:
        if listing.batches:
            self.database.write(lambda c: sightings.note_listing(c, listing))

    def note_foreign(self, provider_id: str) -> None:
        self._moved(lambda c: sightings.note_foreign(c, provider_id))

    def note_duplicate(self, run: int, provider_id: str, submission: str, *, exact: bool) -> None:
        """`exact`: each of its lines has its price in the books."""
        payer = self._payer(run)
        self._moved(lambda c: duplicates.note_duplicate(c, provider_id, submission, payer, exact=exact))

    def book_duplicates(self, run: int, bookings: Sequence[tuple[int, Booking]], now_us: int) -> None:
        payer = self._payer(run)

        def work(connection: Connection) -> None:
            changes = Changes()
            changes.spend(day_of(now_us), duplicates.book_duplicates(connection, run, bookings, now_us))
            budgets.change(connection, payer, changes)

        self.database.write(work)

    def known_batches(self, organization: str | None, workspace: str | None, young_us: int) -> sightings.Known:
        return self.database.read(lambda c: sightings.known(c, organization, workspace, young_us))

    def batch_ended(self, submission: str, batch: BatchStatus) -> None:
        self._moved(lambda c: submissions.ended(c, submission, batch))

    def riding(self, submission: str) -> list[submissions.Riding]:
        return self.database.read(lambda c: submissions.riding(c, submission))

    def riding_records(
        self, run: int, riding: Sequence[submissions.Riding], without: Collection[int] = ()
    ) -> tuple[dict[int, list[bytes]], dict[int, claims.PastTries], frozenset[int]]:
        """Of some riding chunks: their records' lines by chunk, their rows' past, and the rows that have ended.
        `without`: chunks whose records the caller has."""
        return self.database.read(lambda c: claims.records_and_past(c, run, riding, without))

    def ingest(
        self,
        run: int,
        submission: str,
        epoch: int,
        settled: Sequence[group.Settlement],
        shares: Mapping[int, submissions.Share] = MappingProxyType({}),
    ) -> bool:
        failpoint(Failpoint.BATCH_INGEST_BEFORE)
        payer = self._payer(run)

        def work(connection: Connection) -> bool:
            self._check_hold(connection, run)
            return submissions.ingest(connection, submission, epoch, settled, payer, shares)

        stored = self.database.write(work)
        failpoint(Failpoint.BATCH_INGEST_AFTER)
        return stored

    def cost_shares(self, run: int) -> dict[str, Shares]:
        """What the rows of the run's batches have cost so far, as shares of their worst costs, by shape."""
        return self.database.read(lambda c: submissions.shares_of(c, run))

    def batch_hit_share(self, run: int) -> float | None:
        """How much of what rows of the run's batches asked to be kept for an hour was there to be read, by tokens;
        None while few of them have been answered."""
        rows, read, written = self.database.read(lambda c: c.execute(batch_queries.cache_of_batches(run)).one())
        return float(read / (read + written)) if rows >= ENOUGH_ROWS_TO_TELL and read + written else None

    def ingested(self, run: int, submission: str, epoch: int, now_us: int) -> bool:
        payer = self._payer(run)
        return self._moved(lambda c: submissions.ingested(c, submission, epoch, now_us, payer))

    def has_riding(self, run: int) -> bool:
        """Whether rows of the run are with the API."""
        return bool(self.database.read(lambda c: c.execute(batch_queries.riding(run)).scalar()))

    def submissions_of(self, run: int) -> list[Submission]:
        return self.database.read(lambda c: submissions.of_run(c, run))

    def recent_submissions(self, limit: int) -> list[Submission]:
        return self.database.read(lambda c: submissions.recent(c, limit))

    def submission(self, name: str) -> Submission:
        """By the beginning of its id or by the service's id of its batch. Raises UsageInvalid."""
        return self.database.read(lambda c: submissions.the_one_named(c, name))

    def submission_or_none(self, submission: str) -> Submission | None:
        return self.database.read(lambda c: submissions.by_id(c, submission))

    def is_sending(self, run: Run, submission: str) -> bool:
        """Whether a POST is still ours to make: the hold is, and nobody has given the submission up."""

        def work(connection: Connection) -> bool:
            self._check_hold(connection, run.id)
            found = submissions.by_id(connection, submission)
            return found is not None and found.state is BatchState.SENDING

        try:
            return self.database.read(work)
        except RunLocked:
            return False

    def forget_batch(self, provider_id: str) -> None:
        """It is deleted at the service: nobody shall miss it in a listing."""
        self.database.write(lambda c: c.execute(batch_queries.forget_sightings([provider_id])))

    def duplicates_of(self, run: int) -> list[duplicates.Duplicate]:
        return self.database.read(lambda c: duplicates.duplicates_of(c, run))

    def money_by_batch(self, run: int) -> dict[str, duplicates.BatchMoney]:
        return self.database.read(lambda c: duplicates.money_by_batch(c, run))

    def _moved_once(self, work: Callable[[Connection], bool]) -> bool:
        """A move of which somebody has to know whether it was made: a replay finds it made, and the first time
        counts."""
        told: list[bool] = []

        def again(connection: Connection) -> bool:
            told.append(work(connection))
            return any(told)

        return self._moved(again)

    def _moved(self, work: Callable[[Connection], T]) -> T:
        """A move of a submission, as a transaction of its own."""
        failpoint(Failpoint.BATCH_STATE_BEFORE)
        told = self.database.write(work)
        failpoint(Failpoint.BATCH_STATE_AFTER)
        return told
