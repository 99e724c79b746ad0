"""The store: every transaction of the program by name, values in and values out.

All calls block; async callers run them in a worker thread. Nothing is sent and nothing is decided in here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeVar

from sqlalchemy import Connection

from runner.domain.budget import BudgetKey, Level, day_of, run_scope
from runner.domain.forecast import Forecast
from runner.domain.job import Job
from runner.domain.outcome import Usage
from runner.domain.pricing import PriceBook
from runner.domain.result import ExportedRow
from runner.domain.run import NewRun, Run, Tally
from runner.domain.slices import SharedLevel, Take, Taken
from runner.domain.spending import Spending
from runner.domain.states import PauseReason
from runner.failpoints import Failpoint, failpoint
from runner.store import (
    buckets,
    budgets,
    claims,
    collapse,
    files,
    group,
    ledger,
    past_queries,
    queries,
    report_queries,
    reports,
    runs,
    staging,
)
from runner.store.batch_transactions import BatchTransactions
from runner.store.database import Database
from runner.store.files import KeptFile
from runner.store.fleet import Fleet
from runner.store.ledger import plain_text
from runner.store.purging import Purge
from runner.store.queries import Wanted
from runner.store.schedules import Schedules

T = TypeVar("T")


class Store(BatchTransactions):
    """One open store. Use as a context manager, or call `close`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.schedules = Schedules(database)
        self.fleet = Fleet(database)
        self.purge = Purge(database)

    @staticmethod
    def open(url: str) -> Store:
        """Open, and on SQLite bring the schema up to date. Raises SchemaMismatch or StoreFault."""
        database = Database(url)
        try:
            database.make_ready()
        except BaseException:
            database.close()
            raise
        return Store(database)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()

    # --- runs

    def create_run(self, new: NewRun, now_us: int, *, newest: int | None = None) -> Run:
        """`newest` is the newest run of the same question that the caller knows, 0 if it knows none: raises
        MadeMeanwhile when there is a newer one by now."""
        failpoint(Failpoint.RUN_CREATE_BEFORE)
        label = runs.new_label()
        run = self.database.write(lambda c: runs.create(c, new, label, now_us, newest=newest))
        failpoint(Failpoint.RUN_CREATE_AFTER)
        return run

    def run(self, label: str) -> Run:
        """By label, unique prefix of it, or `latest`. Raises UsageInvalid."""
        return self.database.read(lambda c: runs.by_label(c, label))

    def run_by_id(self, run: int) -> Run:
        return self.database.read(lambda c: runs.by_id(c, run))

    def find_runs(self, identity: str, key: str | None) -> list[Run]:
        """Runs that the same command would mean, newest first."""
        return self.database.read(lambda c: runs.find(c, identity, key))

    def recent_runs(self, limit: int) -> list[Run]:
        return self.database.read(lambda c: runs.recent(c, limit))

    def move_run(self, run: int, event: str, **values: Any) -> Run:
        failpoint(Failpoint.RUN_STATE_BEFORE)
        tries = count()
        moved = self.database.write(lambda c: runs.move(c, run, event, replayed=next(tries) > 0, **values))
        failpoint(Failpoint.RUN_STATE_AFTER)
        return moved

    def pause_run(self, run: int, reason: PauseReason, message: str) -> Run:
        return self.move_run(run, "paused", pause_reason=reason, pause_message=plain_text(message), wanted=None)

    def resume_run(self, run: Run, job: Job) -> Run:
        """Take over what may change, and set a paused run going again."""
        changed = self.database.write(lambda c: runs.change_job(c, run, job))
        if changed.state != "paused":
            return changed
        return self.move_run(run.id, "resumed", pause_reason=None, pause_message=None, wanted=None)

    def ask(self, run: int, wanted: str | None) -> None:
        """Ask the process that holds the run for something: `pause`, `cancel`."""
        self.database.write(lambda c: c.execute(queries.set_run(run, wanted=wanted)))

    def wanted(self, run: int) -> str | None:
        wanted: str | None = self.database.read(lambda c: c.execute(queries.wanted_of(run)).scalar())
        return wanted

    def note_origin(self, run: int, organization: str | None, workspace: str | None) -> None:
        """Whose key answered, so that a run is not taken up in another workspace."""
        self.database.write(lambda c: c.execute(queries.set_run(run, organization=organization, workspace=workspace)))

    def note_estimates(self, run: int, estimates: str) -> None:
        """What the run has learned of the size of its calls."""
        self.database.write(lambda c: c.execute(queries.set_run(run, estimates=estimates)))

    def note_forecast(self, run: int, forecast: Forecast) -> None:
        """What the run is said to cost, for whoever compares it with what it did."""
        told = json.dumps(forecast.to_dict())
        self.database.write(lambda c: c.execute(queries.set_run(run, forecast=told)))

    def note_exported(self, run: int, path: str | None, now_us: int) -> None:
        """The output is written; the same command need not write it again while it stands."""
        self.database.write(lambda c: c.execute(queries.set_run(run, output=path, exported_us=now_us)))

    def open_round(self, run: int, max_tokens: float = math.inf) -> int:
        """Set every row that failed to go again; how many that are. Those that were cut off only where `max_tokens`
        leaves them more room than they had."""
        moved: list[int] = []  # a replay finds nothing left to move: the first time counts

        def work(connection: Connection) -> None:
            moved.append(claims.open_round(connection, run, max_tokens))

        self.database.write(work)
        return max(moved)

    def cancel_rows(self, run: int, now_us: int, price_version: str) -> None:
        """The rows that have not ended never will; calls of unknown end are put in the books."""
        self.database.write(lambda c: claims.cancel(c, run, now_us, price_version))

    # --- records in

    def stage(
        self,
        run: Run,
        staged: Sequence[staging.StagedChunk],
        mark: staging.IngestMark,
        key_hashes: Sequence[int] = (),
    ) -> None:
        failpoint(Failpoint.STAGE_BEFORE)

        def work(connection: Connection) -> None:
            self._check_hold(connection, run.id)
            staging.stage(connection, run.id, run.fan, staged, mark, key_hashes)

        self.database.write(work)
        failpoint(Failpoint.STAGE_AFTER)

    def known_keys(self, run: int, hashes: Sequence[int]) -> set[int]:
        return self.database.read(lambda c: staging.known_keys(c, run, hashes))

    def next_seq(self, run: int) -> int:
        return self.database.read(lambda c: staging.next_seq(c, run))

    def staged_lines(self, run: int) -> Iterator[bytes]:
        """Every staged record as it was read, in order."""
        seq = 0
        while page := self.database.read(partial(staging.staged_lines, run=run, seq=seq, limit=8)):
            for _seq, lines in page:
                yield from lines
            seq = page[-1][0] + 1

    # --- work

    def claim_next(
        self,
        run: int,
        now_us: int,
        price_version: str,
        wanted: Wanted = Wanted.WAITING,
        *,
        after_seq: int = -1,
    ) -> claims.ClaimedChunk | None:
        failpoint(Failpoint.CLAIM_BEFORE)
        first: list[claims.ClaimedChunk] = []  # a replay goes on with the chunk that is ours already, not the next

        def work(connection: Connection) -> claims.ClaimedChunk | None:
            self._check_hold(connection, run)
            if first and claims.is_held(connection, run, first[-1].fence):
                return first[-1]
            taken = claims.claim_next(connection, run, now_us, price_version, wanted, after_seq)
            first.extend([taken] if taken else [])
            return taken

        claimed = self.database.write(work)
        failpoint(Failpoint.CLAIM_AFTER)
        return claimed

    def book_left_over(self, run: int, now_us: int, price_version: str) -> None:
        """Only whoever holds the run, and has no call in flight, may say that nobody will end these calls."""
        self.database.write(lambda c: claims.book_left_over(c, run, now_us, price_version))

    def release_running(self, run: int) -> int:
        return self.database.write(lambda c: claims.release_running(c, run))

    def release_chunks(self, run: int, fences: Sequence[group.Fence]) -> None:
        """Give back chunks of which rows are left."""

        def work(connection: Connection) -> None:
            for fence in fences:
                connection.execute(queries.release_chunk(run, fence.seq, fence.epoch))

        if fences:
            self.database.write(work)

    def fresh_rows(self, run: int, now_us: int) -> int:
        """Rows that are staged, not ended and not under way."""
        return int(self.database.read(lambda c: c.execute(queries.fresh_rows(run, now_us)).scalar()) or 0)

    def commit_group(self, run: int, operations: Sequence[group.Operation]) -> list[group.Verdict]:
        failpoint(Failpoint.GROUP_BEFORE)
        payer = self._payer(run)
        verdicts = self.database.write(lambda c: group.commit_group(c, payer, operations))
        failpoint(Failpoint.GROUP_AFTER)
        return verdicts

    def share(
        self,
        run: int,
        asking: Sequence[collapse.Asking],
        under_way: Collection[int],
        round_: int,
        now_us: int,
        *,
        elsewhere_since_us: int | None = None,
    ) -> collapse.Shared:
        """What becomes of free rows in our hands that ask what others ask; in earlier runs too, where that is said,
        which were answered since."""
        return self.database.write(
            lambda c: collapse.share(c, run, asking, under_way, round_, now_us, elsewhere_since_us)
        )

    def copy_from(
        self, run: int, leader: int, rows: Sequence[collapse.Asking], round_: int, now_us: int
    ) -> frozenset[int]:
        """Give rows that waited for a leader its answer; those that have one now."""
        return self.database.write(lambda c: collapse.copy_from(c, run, leader, rows, round_, now_us))

    def lead(self, run: int, hash_: bytes, idx: int) -> None:
        """From now on this row leads for a body."""
        self.database.write(lambda c: collapse.lead(c, run, {hash_: idx}))

    def cut_off(self, run: int, max_tokens: float = math.inf) -> list[reports.CutOff]:
        """Truncated rows that would have more room with this `max_tokens`, by model."""
        return self.database.read(lambda c: reports.cut_off(c, run, max_tokens))

    def copied_rows(self, run: int) -> int:
        """How many rows have another's answer."""
        return self.database.read(lambda c: c.execute(report_queries.copied_rows(run)).scalar()) or 0

    def unfinished_chunks(self, run: int) -> int:
        return self.database.read(lambda c: c.execute(report_queries.unfinished_chunks(run)).scalar()) or 0

    # --- budgets

    def budget_room(self, run: int, now_us: int) -> int | None:
        """What the tightest budget leaves for what is sent now, None where there is none."""
        payer = self._payer(run)
        return self.database.read(lambda c: budgets.room(c, payer, day_of(now_us)))

    def budget_levels(self, run: int, now_us: int) -> list[Level]:
        """How every budget stands that pays for what the run sends now."""
        payer = self._payer(run)
        return self.database.read(lambda c: budgets.levels(c, payer, day_of(now_us)))

    def standing_budgets(self, now_us: int) -> list[Level]:
        """How the budgets of jobs and of the whole store stand that have a cap."""
        return self.database.read(lambda c: budgets.standing(c, day_of(now_us)))

    def set_job_caps(self, job: str, day_pico: int | None, month_pico: int | None) -> None:
        """For all runs of the job, from now on."""
        self.database.write(lambda c: budgets.set_job_caps(c, job, day_pico, month_pico))

    def set_cap(self, key: BudgetKey, cap_pico: int | None) -> None:
        self.database.write(lambda c: budgets.set_cap(c, key, cap_pico))

    # --- limits

    def look_at_limits(self, scopes: Collection[str]) -> dict[str, SharedLevel]:
        """What is known of these scopes, by name; those of which nothing is known are left out."""
        return self.database.read(lambda c: buckets.look(c, scopes)) if scopes else {}

    def take_slices(self, takes: Mapping[str, Take], now_us: int) -> dict[str, Taken]:
        """From each scope's row what this process may use next, given back what it has left."""
        return self.database.write(lambda c: buckets.take(c, takes, now_us))

    def pause_scope(self, scope: str, until_us: int) -> None:
        self.database.write(lambda c: buckets.pause(c, scope, until_us))

    # --- files at the service

    def file_of(self, workspace: str, content: bytes) -> KeptFile | None:
        """The file of this content (a hash) in this workspace, as far as we know."""
        return self.database.read(lambda c: files.find(c, workspace, content))

    def keep_file(self, kept: KeptFile) -> None:
        self.database.write(lambda c: files.keep(c, kept))

    def forget_files(self, file_ids: Collection[str]) -> None:
        """These are not at the service any more."""
        self.database.write(lambda c: files.forget(c, file_ids))

    def files_of_run(self, run: int) -> list[str]:
        """The ids of files that were uploaded for this run."""
        return self.database.read(lambda c: files.of_run(c, run))

    def files_of_ids(self, file_ids: Collection[str]) -> list[KeptFile]:
        """Those of these files that we uploaded."""
        return self.database.read(lambda c: files.of_ids(c, file_ids)) if file_ids else []

    # --- reading

    def tally(self, run: int) -> Tally:
        return self.database.read(lambda c: reports.tally(c, run))

    def statuses(self, run: int) -> list[reports.StatusCount]:
        return self.database.read(lambda c: reports.statuses(c, run))

    def tokens(self, run: int) -> Usage:
        return self.database.read(lambda c: reports.tokens(c, run))

    def money(self, run: int) -> reports.Money:
        return self.database.read(lambda c: reports.money(c, run, run_scope(run)))

    def past_answers(self, job_name: str, model: str, limit: int) -> list[tuple[int, int | None]]:
        """Output tokens and latency (microseconds, None in batches) of the job's newest answers from this model."""
        query = past_queries.answers_of_job(job_name, model, limit)
        return self.database.read(lambda c: [(row.output_tokens, row.latency_us) for row in c.execute(query)])

    def batch_times_us(self, limit: int) -> list[int]:
        """How long the newest batches of the store took, whoever made them."""
        return self.database.read(lambda c: list(c.scalars(past_queries.batch_times(limit))))

    def spending_since(self, day: int) -> list[Spending]:
        """What every run spent from this UTC day on."""
        return self.database.read(lambda c: ledger.spending_since(c, day))

    def reprice(self, run: int, prices: PriceBook, *, write: bool) -> Iterator[ledger.Repriced]:
        """Append corrections for what these prices make of a run's lines, a page at a time; without `write` only say
        what they would be."""
        after: int | None = 0
        while after is not None:
            page = self._repriced(run, prices, after, write=write)
            yield page
            after = page.last_id

    def _repriced(self, run: int, prices: PriceBook, after_id: int, *, write: bool) -> ledger.Repriced:
        payer = self._payer(run)

        def work(connection: Connection) -> ledger.Repriced:
            page = ledger.reprice(connection, run, prices, after_id, write=write)
            if write:
                budgets.change(connection, payer, page.changes)
            return page

        return self.database.write(work) if write else self.database.read(work)

    def failures(self, run: int) -> list[reports.FailureGroup]:
        return self.database.read(lambda c: reports.failures(c, run))

    def failed_tries(self, run: int) -> list[reports.FailedTries]:
        return self.database.read(lambda c: reports.failed_tries(c, run))

    def attempts(self, run: int, idx: int) -> list[reports.PastAttempt]:
        return self.database.read(lambda c: reports.attempts(c, run, idx))

    def exported(self, run: Run) -> Iterator[ExportedRow]:
        """Every ended row in order, a chunk at a time: memory does not grow with the run."""
        seq = 0
        while True:
            page = self.database.read(partial(reports.exported_chunk, run=run.id, seq=seq))
            if page is None:
                return
            yield from page.rows
            seq = page.seq + 1

    def exported_row(self, run: Run, idx: int) -> ExportedRow | None:
        return self.database.read(lambda c: reports.exported_row(c, run.id, idx))

    def record_line(self, run: Run, idx: int) -> bytes | None:
        return self.database.read(lambda c: reports.record_line(c, run.id, run.fan, idx))

    def answered_keys(self, run: Run, page: int = 10_000) -> Iterator[str]:
        """The keys of all rows that succeeded."""
        after = -1
        while found := self.database.read(partial(reports.answered_keys, run=run.id, after=after, limit=page)):
            yield from (key for _, key in found)
            after = found[-1][0]

    def row_of_key(self, run: int, key: str) -> int | None:
        return self.database.read(lambda c: reports.row_of_key(c, run, key))
