"""Batches in words: the state of a submission, what a run has with the API, and news of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from runner.domain.batch import Retention, results_gone_us, retention
from runner.domain.batch_progress import OpenBatch
from runner.domain.quantity import of_batches, of_rows
from runner.domain.states import RIDING_BATCH, BatchState
from runner.store.duplicates import Duplicate
from runner.store.submissions import Submission
from runner.views.durations import moment, span, time_of_day
from runner.views.money import dollars
from runner.views.numbers import count

# Events that say what the program has decided by itself.
DECISIONS = frozenset({"mode_chosen", "batch_deadline", "batch_let_go"})

_STATE_WORDS: Mapping[BatchState, str] = {
    BatchState.PLANNED: "planned",
    BatchState.SENDING: "being sent",
    BatchState.ACCEPTED: "in progress",
    BatchState.CLAIMED: "in progress",
    BatchState.REFUSED: "refused",
    BatchState.NOT_SENT: "not sent",
    BatchState.UNKNOWN: "unknown",
    BatchState.ABSENT: "no batch known",
    BatchState.ENDED: "ended, to be read",
    BatchState.INGESTED: "read",
}


class BatchNews(Protocol):
    """Something that happened to a batch. `name` is stable, `text` is for people, `facts` for machines."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def facts(self) -> Mapping[str, object]: ...
    @property
    def warning(self) -> bool: ...


def open_words(one: OpenBatch, now_us: int) -> str:
    """`in progress 38m`; `unknown, settling until 08:41`: what is not known is never called failed."""
    if one.state is BatchState.UNKNOWN:
        return _unknown_words(one, now_us)
    if one.state not in (BatchState.ACCEPTED, BatchState.CLAIMED):
        return _STATE_WORDS[one.state]
    if one.missing_s is not None:
        return f"not found for {span(one.missing_s)}"
    words = f"{'canceling' if one.canceling else 'in progress'} {span(one.age_s)}"
    return f"{words}, overdue" if (one.expires_in_s or 0.0) < 0 else words


def _unknown_words(one: OpenBatch, now_us: int) -> str:
    if one.question is not None:
        return "unknown: a person has to decide"
    if one.candidates:
        return f"unknown, waiting for {count(one.candidates)} candidate{'s' * (one.candidates > 1)}"
    if now_us < one.settles_us:
        return f"unknown, settling until {time_of_day(one.settles_us, now_us)}"
    return "unknown, being looked for"


def state_words(one: Submission) -> str:
    """The state alone, for a column of a table."""
    if one.state is BatchState.UNKNOWN and one.question is not None:
        return "unknown, held"
    return _STATE_WORDS[one.state]


def out_words(submissions: Sequence[Submission]) -> str:
    """`3 batches with the API (150,000 rows), 1 of unknown end (50,000 rows)`; nothing where none is open."""
    riding = [one for one in submissions if one.state in RIDING_BATCH]
    unknown = [one for one in riding if one.state is BatchState.UNKNOWN]
    parts = []
    if len(riding) > len(unknown):
        rows = sum(one.n for one in riding) - sum(one.n for one in unknown)
        parts.append(f"{of_batches(len(riding) - len(unknown))} with the API ({of_rows(rows)})")
    if unknown:
        parts.append(f"{count(len(unknown))} of unknown end ({of_rows(sum(one.n for one in unknown))})")
    return ", ".join(parts)


def counts_words(counts: Mapping[str, int]) -> str:
    """`49,932 succeeded, 68 errored`; what is none is left out."""
    return ", ".join(f"{count(rows)} {word.replace('_', ' ')}" for word, rows in counts.items() if rows)


def retention_words(one: Submission, now_us: int) -> str | None:
    """A warning from day 20 of the 29 for which results are kept, where they are still to be fetched."""
    if one.created_us is None or one.state not in RIDING_BATCH:
        return None
    name = one.provider_id or one.id
    kept = retention(one.created_us, now_us)
    until = moment(results_gone_us(one.created_us))[:-3]
    if kept is Retention.WARN:
        return f"the results of batch {name} ({of_rows(one.n)}) are deleted at the service on {until}"
    if kept is Retention.GONE:
        return f"the results of batch {name} ({of_rows(one.n)}) were deleted at the service on {until}"
    return None


def duplicate_words(one: Duplicate) -> str:
    """`msgbatch_01Kz holds 1,000 rows a second time: $0.42`."""
    return f"{one.provider_id} holds {of_rows(one.n)} a second time: {dollars(one.cost_pico)}"


def duplicates_words(duplicates: Sequence[Duplicate]) -> str:
    """A line for each, and what was done with their results."""
    last = (
        "their results are kept apart and are not in the output"
        if len(duplicates) > 1
        else ("its results are kept apart and are not in the output")
    )
    return "\n".join([*map(duplicate_words, duplicates), last])
