"""What there is to say about one run, read from the store in one go; screens and JSON are made from it."""

from __future__ import annotations

from msgspec import Struct

from runner.domain.estimates import EstimatesTold, Estimator
from runner.domain.outcome import Usage
from runner.domain.run import Run, Tally
from runner.domain.states import FINISHED_RUN, RIDING_BATCH, PauseReason, RunState
from runner.store.duplicates import Duplicate
from runner.store.reports import FailedTries, Money, StatusCount
from runner.store.store import Store
from runner.store.submissions import Submission


class RunFacts(Struct, frozen=True, kw_only=True):
    """A run, its rows, its tokens, its money and its batches at one moment."""

    run: Run
    tally: Tally
    statuses: list[StatusCount]
    tokens: Usage
    money: Money
    failed_tries: list[FailedTries]
    submissions: list[Submission]
    duplicates: list[Duplicate]
    estimates: EstimatesTold | None = None
    copied: int = 0  # rows that have the answer of another which asked the same

    @property
    def total(self) -> int | None:
        """All rows, None while the input is still being read."""
        return self.run.total_rows

    @property
    def waiting(self) -> int | None:
        """Rows without a result."""
        return None if self.total is None else self.total - self.tally.ended

    @property
    def riding(self) -> int:
        """Rows of batches that have not been read, those of unknown end among them."""
        return sum(one.n for one in self.submissions if one.state in RIDING_BATCH)

    @property
    def finished(self) -> bool:
        return self.run.state in FINISHED_RUN

    def by_status(self) -> list[tuple[str, int]]:
        """Rows by status, reasons put together; the most first."""
        rows: dict[str, int] = {}
        for count in self.statuses:
            rows[count.status] = rows.get(count.status, 0) + count.rows
        return sorted(rows.items(), key=lambda pair: -pair[1])


def pause_of(run: Run) -> tuple[PauseReason | None, str | None]:
    """Reason and message of a run that is paused now; one that was canceled keeps them in its row."""
    return (run.pause_reason, run.pause_message) if run.state is RunState.PAUSED else (None, None)


def run_facts(store: Store, run: Run) -> RunFacts:
    """The facts as they stand now."""
    return RunFacts(
        run=run,
        tally=store.tally(run.id),
        statuses=store.statuses(run.id),
        tokens=store.tokens(run.id),
        money=store.money(run.id),
        failed_tries=store.failed_tries(run.id),
        submissions=store.submissions_of(run.id),
        duplicates=store.duplicates_of(run.id),
        estimates=Estimator.from_json(run.estimates).told(),
        copied=store.copied_rows(run.id) if run.job.collapses else 0,
    )


def state_words(run: Run) -> str:
    """`done with failures`, `paused (budget)`."""
    words = str(run.state).replace("_", " ")
    if run.state is RunState.PAUSED and run.pause_reason is not None:
        return f"{words} ({str(run.pause_reason).replace('_', ' ')})"
    return words
