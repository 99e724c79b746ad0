"""Batches as a table, one of them in full, and both as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from runner.domain.batch import results_gone_us
from runner.domain.batch_progress import OpenBatch, open_batch
from runner.domain.run import Run
from runner.domain.states import RIDING_BATCH, BatchState
from runner.domain.submission import Timing
from runner.store.duplicates import BatchMoney, Duplicate
from runner.store.submissions import Submission
from runner.views.batch_words import (
    counts_words,
    duplicate_words,
    open_words,
    out_words,
    retention_words,
    state_words,
)
from runner.views.durations import moment, span, utc
from runner.views.money import UNKNOWN, dollars, usd
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line, safe_text
from runner.views.tables import Column, facts_lines, table_lines

COLUMNS = (
    Column(title="ID"),
    Column(title="BATCH"),
    Column(title="RUN"),
    Column(title="ROWS", right=True),
    Column(title="STATE"),
    Column(title="SENT"),
    Column(title="TOOK", right=True),
    Column(title="COST", right=True),
    Column(title="RESULTS", most=60),
)
SHORT_HASH = 12
# Open ones that a run's page names, the most urgent first.
NAMED = 5


class BatchRow(Struct, frozen=True, kw_only=True):
    """A submission, its run, and what the books hold of it. `number` counts the run's submissions from 1;
    `duplicates` are batches that hold its rows a second time."""

    submission: Submission
    run: Run
    money: BatchMoney | None
    number: int = 1
    duplicates: Sequence[Duplicate] = ()

    @property
    def let_go(self) -> bool:
        """Somebody has given it up although a batch may exist."""
        return self.submission.state is BatchState.ABSENT and self.money is not None and self.money.bound_pico > 0

    def state(self, timing: Timing, now_us: int) -> str:
        one = self.submission
        if one.state in RIDING_BATCH:
            return open_words(open_batch(self.number, one, timing, now_us), now_us)
        if one.state is BatchState.ABSENT:
            return "found too late" if self.duplicates else "let go" if self.let_go else "never made"
        return state_words(one)

    @property
    def cost(self) -> str:
        """What it cost, or the most that it can."""
        one = self.submission
        if one.state in RIDING_BATCH or self.let_go:
            return UNKNOWN if one.worst_pico is None else f"<= {dollars(one.worst_pico)}"
        if one.state is not BatchState.INGESTED or self.money is None:
            return "-"
        return dollars(self.money.cost_pico) + ("+?" if self.money.bound_pico else "")

    @property
    def results(self) -> str:
        """What became of its rows, and what was paid for a second time."""
        twice = [f"{one.provider_id} paid twice: {dollars(one.cost_pico)}" for one in self.duplicates]
        return ", ".join([part for part in (_results(self.submission), *twice) if part]) or "-"

    @property
    def took(self) -> str:
        one = self.submission
        if one.created_us is None or one.ended_us is None:
            return "-"
        return span((one.ended_us - one.created_us) / 1e6)


def batch_table(
    rows: Sequence[BatchRow], timing: Timing, now_us: int, width: int | None, *, plain: bool = False
) -> list[str]:
    cells = [
        [
            row.submission.id,
            row.submission.provider_id or "-",
            row.run.label,
            count(row.submission.n),
            row.state(timing, now_us) + (", simulated" if row.run.job.simulated else ""),
            moment(row.submission.intent.intent_us)[:-3],
            row.took,
            row.cost,
            row.results,
        ]
        for row in rows
    ]
    return table_lines(COLUMNS, cells, width, plain=plain)


def _results(one: Submission) -> str:
    """What the service says of its requests; before the end that is nothing."""
    return counts_words(one.counts) if one.ended_us is not None else ""


def batch_lines(row: BatchRow, timing: Timing, now_us: int) -> list[str]:
    """One submission in full."""
    one = row.submission
    told = [
        (
            "batch",
            f"{one.id}   number {row.number} of run {row.run.label}"
            + (f", round {one.round}" if one.round > 1 else ""),
        ),
        ("service", one.provider_id or "its name for the batch is not known"),
        ("state", row.state(timing, now_us)),
        ("question", safe_line(one.question or "")),
        ("candidates", ", ".join(map(safe_line, one.provisional))),
        ("rows", count(one.n)),
        ("body", f"{brief(one.body_bytes)}B   sha256 {one.body_hash[:SHORT_HASH]}"),
        ("times", _times(one, timing)),
        ("results", _kept(one, now_us)),
        ("cost", _cost_words(row)),
        ("paid twice", "\n".join(duplicate_words(double) for double in row.duplicates)),
        ("sent with", f"key {one.key_fingerprint}"),
        ("place", _place(one)),
        ("next", _next(one, row.run.label)),
    ]
    return [safe_text(line) for line in facts_lines([fact for fact in told if fact[1]])]


def _times(one: Submission, timing: Timing) -> str:
    told = [
        ("written down", one.intent.intent_us),
        ("answered", one.sent_us),
        ("created", one.created_us),
        ("expires" if one.ended_us is None else "would expire", one.expires_us),
        ("ended", one.ended_us),
        ("read", one.ingested_us),
    ]
    if one.state is BatchState.UNKNOWN:
        told.append(("settles until", one.intent.settled_shared_us(timing)))
    return "\n".join(f"{what:13}  {moment(at_us)}" for what, at_us in told if at_us is not None)


def _kept(one: Submission, now_us: int) -> str:
    """What the service says of the rows, and until when it keeps their results."""
    lines = [_results(one)]
    warned = retention_words(one, now_us)
    if warned is not None:
        lines.append(warned)
    elif one.created_us is not None:
        lines.append(f"kept at the service until {moment(results_gone_us(one.created_us))[:-3]}")
    return "\n".join(line for line in lines if line)


def _cost_words(row: BatchRow) -> str:
    one = row.submission
    if one.state in (BatchState.REFUSED, BatchState.NOT_SENT):
        return "nothing: no batch was made"
    if row.let_go:
        return f"at most {dollars(one.worst_pico)}, which stays reserved: the batch may exist"
    if one.state is BatchState.ABSENT:
        return "see below" if row.duplicates else "nothing: the service does not show it"
    if one.state is not BatchState.INGESTED:
        return "no bound is known" if one.worst_pico is None else f"at most {dollars(one.worst_pico)}, reserved"
    return dollars(row.money.cost_pico if row.money else 0)


def _place(one: Submission) -> str:
    organization, workspace = (
        safe_line(told or "not told") for told in (one.intent.organization, one.intent.workspace)
    )
    return f"organisation {organization}   workspace {workspace}"


def _next(one: Submission, run: str) -> str:
    if one.state is not BatchState.UNKNOWN:
        return f"runner collect {run}   fetches it when it has ended" if one.state in RIDING_BATCH else ""
    if one.question is None:
        return f"runner resume {run}   (or runner collect {run}) finds out by itself; nothing is sent again before"
    return "\n".join(
        (
            f"runner resume {run}   looks again, if the reason has gone",
            f"runner batches adopt {one.id} MSGBATCH   if you know which batch it is",
            f"runner batches abandon {one.id}   sends its rows again; a batch that exists is then paid twice",
        )
    )


def run_batches_words(submissions: Sequence[Submission], timing: Timing, now_us: int) -> str:
    """For a run's page: how many, and those that are open."""
    if not submissions:
        return ""
    read = sum(one.state is BatchState.INGESTED for one in submissions)
    open_ = [
        open_batch(number, one, timing, now_us)
        for number, one in enumerate(submissions, start=1)
        if one.state in RIDING_BATCH
    ]
    first = ", ".join(part for part in (f"{count(read)} read", out_words(submissions)) if part)
    shown = sorted(open_, key=lambda one: (one.state is not BatchState.UNKNOWN, one.number))[:NAMED]
    lines = [first, *(f"{_name(one)}  {count(one.rows)} rows  {open_words(one, now_us)}" for one in shown)]
    if len(open_) > len(shown):
        lines.append(f"+{count(len(open_) - len(shown))} more   runner batches list")
    return "\n".join(lines)


def _name(one: OpenBatch) -> str:
    return safe_line(one.provider_id or one.submission)


def batch_json(one: Submission) -> dict[str, Any]:
    """A submission for machines. Times are UTC."""
    intent = one.intent
    return {
        "id": one.id,
        "batch": one.provider_id,
        "round": one.round,
        "rows": one.n,
        "state": one.state,
        "question": one.question,
        "candidates": list(one.provisional),
        "counts": dict(one.counts),
        "worst_usd": usd(one.worst_pico),
        "intent": utc(intent.intent_us),
        "answered": utc(one.sent_us),
        "created": utc(one.created_us),
        "expires": utc(one.expires_us),
        "ended": utc(one.ended_us),
        "read": utc(one.ingested_us),
        "results_kept_until": None if one.created_us is None else utc(results_gone_us(one.created_us)),
        "body_sha256": one.body_hash,
        "body_bytes": one.body_bytes,
        "key_fingerprint": one.key_fingerprint,
        "organization": intent.organization,
        "workspace": intent.workspace,
    }


def row_json(row: BatchRow, timing: Timing, now_us: int) -> dict[str, Any]:
    """The same with its run, its cost, and its state in words."""
    one = row.submission
    unknown = one.state is BatchState.UNKNOWN
    return {
        **batch_json(one),
        "run": row.run.label,
        "simulated": row.run.job.simulated,
        "state_words": row.state(timing, now_us),
        "let_go": row.let_go,
        "cost_usd": usd(row.money.cost_pico) if row.money is not None else None,
        "duplicates": [duplicate_json(double) for double in row.duplicates],
        "settles": utc(one.intent.settled_shared_us(timing)) if unknown else None,
    }


def duplicate_json(one: Duplicate) -> dict[str, Any]:
    return {
        "batch": one.provider_id,
        "of": one.submission,
        "rows": one.n,
        "created": utc(one.created_us),
        "cost_usd": usd(one.cost_pico),
    }
