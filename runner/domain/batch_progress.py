"""The batches of a running job at one moment: how many, what becomes of them, and when they may be there. Pure.

Inside a batch the service shows no progress, so nothing here pretends that there is some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from runner.domain.batch import SECOND_US, BatchStatus
from runner.domain.states import BatchState
from runner.domain.submission import Intent, Timing

# So many batches say how long one takes.
PACES = 5
# From fewer of about the same size no time is promised.
PACES_FOR_AN_ETA = 3
# A batch of at least this share of another's rows is about as large.
ALIKE = 0.5
SHOWN_BATCHES = 5

WITH_API = frozenset({BatchState.SENDING, BatchState.ACCEPTED, BatchState.CLAIMED, BatchState.ENDED})
_NEVER_THERE = frozenset({BatchState.REFUSED, BatchState.NOT_SENT, BatchState.ABSENT})


class Sent(Protocol):
    """A submission as far as progress needs it; the store's is one."""

    @property
    def id(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def state(self) -> BatchState: ...
    @property
    def intent(self) -> Intent: ...
    @property
    def created_us(self) -> int | None: ...
    @property
    def expires_us(self) -> int | None: ...
    @property
    def ended_us(self) -> int | None: ...
    @property
    def ingested_us(self) -> int | None: ...
    @property
    def provider_id(self) -> str | None: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def question(self) -> str | None: ...
    @property
    def provisional(self) -> tuple[str, ...]: ...


class OpenBatch(Struct, frozen=True, kw_only=True):
    """A submission that rows ride in. `number` counts the run's submissions from 1; `provider_id` is None while the
    service's name for it is not known.

    `age_s` is reckoned from its creation, or from the intent. `settles_us` is the shared time until which a
    submission of unknown end settles. `canceling`: the service was asked for an early end. `missing_s`: for so long
    the service has not known the batch any more.
    """

    number: int
    submission: str
    provider_id: str | None
    rows: int
    state: BatchState
    age_s: float
    expires_in_s: float | None
    settles_us: int
    candidates: int = 0
    question: str | None = None
    canceling: bool = False
    missing_s: float | None = None


def open_batch(
    number: int,
    one: Sent,
    timing: Timing,
    now_us: int,
    *,
    status: BatchStatus | None = None,
    missing_since_us: int | None = None,
) -> OpenBatch:
    """What there is to say of a submission now; `status` is what asking has shown last, where that was asked."""
    began_us = one.created_us or one.intent.intent_us
    over = one.ended_us is not None or (status is not None and status.has_ended)
    ended = over and one.state in (BatchState.ACCEPTED, BatchState.CLAIMED)
    return OpenBatch(
        number=number,
        submission=one.id,
        provider_id=one.provider_id,
        rows=one.n,
        state=BatchState.ENDED if ended else one.state,
        age_s=max(0.0, (now_us - began_us) / SECOND_US),
        expires_in_s=None if one.expires_us is None else (one.expires_us - now_us) / SECOND_US,
        settles_us=one.intent.settled_shared_us(timing),
        candidates=len(one.provisional),
        question=one.question,
        canceling=status is not None and status.status == "canceling",
        missing_s=None if missing_since_us is None else (now_us - missing_since_us) / SECOND_US,
    )


class BatchProgress(Struct, frozen=True, kw_only=True):
    """The batches of a run. `ready` ones have ended and are still to be read; `to_redo` are rows of ended batches
    that go again. `first` are the open ones to look at first, `open` is how many there are.

    `paces_s` tells how long the last ones took, the latest last. `eta_us` are the shared times between which the
    last batch ends if it is like those before it; None where that cannot be said.
    """

    ended: int
    in_progress: int
    ready: int
    unknown: int
    rows_with_api: int
    rows_unknown: int
    to_redo: int
    open: int
    first: tuple[OpenBatch, ...] = ()
    paces_s: tuple[float, ...] = ()
    eta_us: tuple[int, int] | None = None
    next_poll_s: float | None = None
    max_queued: int | None = None
    now_us: int = 0


def batch_progress(
    submissions: Sequence[Sent],
    timing: Timing,
    now_us: int,
    *,
    rows_total: int | None,
    rows_ended: int,
    statuses: Mapping[str, BatchStatus | None],
    missing_since_us: Mapping[str, int | None],
    next_poll_us: int | None,
    max_queued: int | None,
) -> BatchProgress:
    """All that there is to say of a run's submissions, oldest first. The mappings go by submission."""
    open_ = [
        open_batch(
            number, one, timing, now_us, status=statuses.get(one.id), missing_since_us=missing_since_us.get(one.id)
        )
        for number, one in enumerate(submissions, start=1)
        if one.state in WITH_API or one.state is BatchState.UNKNOWN
    ]
    with_api = sum(one.rows for one in open_ if one.state in WITH_API)
    unknown = [one for one in open_ if one.state is BatchState.UNKNOWN]
    rows_unknown = sum(one.rows for one in unknown)
    left = None if rows_total is None else max(0, rows_total - rows_ended - with_api - rows_unknown)
    running = [one for one in open_ if one.state in (BatchState.SENDING, BatchState.ACCEPTED, BatchState.CLAIMED)]
    read = [one for one in submissions if one.state is BatchState.INGESTED]
    return BatchProgress(
        ended=len(read),
        in_progress=len(running),
        ready=len(open_) - len(running) - len(unknown),
        unknown=len(unknown),
        rows_with_api=with_api,
        rows_unknown=rows_unknown,
        to_redo=_to_redo(submissions, read, rows_ended, left),
        open=len(open_),
        first=tuple(sorted(open_, key=_urgency)[:SHOWN_BATCHES]),
        paces_s=tuple(_pace_s(one) for one in _timed(submissions)[-PACES:]),
        eta_us=_eta_us(submissions, running, now_us) if left == 0 and not unknown else None,
        next_poll_s=None if next_poll_us is None else max(0.0, (next_poll_us - now_us) / SECOND_US),
        max_queued=max_queued,
        now_us=now_us,
    )


def _urgency(one: OpenBatch) -> tuple[int, int]:
    """Those that somebody may have to do something about, then the oldest."""
    return (0 if one.question else 1 if one.state is BatchState.UNKNOWN or one.missing_s else 2, one.number)


def _to_redo(submissions: Sequence[Sent], read: Sequence[Sent], rows_ended: int, left: int | None) -> int:
    """Rows that a batch gave back and that do not ride again yet. They ride before rows that never did."""
    moments = [(one.intent.intent_us, 1, -one.n) for one in submissions if one.state not in _NEVER_THERE]
    moments += [(one.ingested_us or 0, 0, _given_back(one)) for one in read]
    waiting = 0
    for _at_us, _order, change in sorted(moments):
        waiting = max(0, waiting + change)
    # Not every error goes again: what has ended does not.
    most = max(0, sum(one.n for one in read) - rows_ended)
    return min(waiting, most, left if left is not None else most)


def _given_back(one: Sent) -> int:
    return sum(one.counts.get(word, 0) for word in ("expired", "canceled", "errored"))


def _timed(submissions: Sequence[Sent]) -> list[Sent]:
    """Those of which one knows how long they took, in the order of their ends; a cancelled one took no time."""
    ended = [
        one for one in submissions if one.created_us is not None and one.ended_us and not one.counts.get("canceled")
    ]
    return sorted(ended, key=lambda one: one.ended_us or 0)


def _pace_s(one: Sent) -> float:
    return ((one.ended_us or 0) - (one.created_us or 0)) / SECOND_US


def _eta_us(submissions: Sequence[Sent], running: Sequence[OpenBatch], now_us: int) -> tuple[int, int] | None:
    """By the last batches that were about as large: the latest creation and their shortest and longest time."""
    if not running:
        return None
    largest = max(one.rows for one in running)
    paces_s = [_pace_s(one) for one in _timed(submissions)[-PACES:] if one.n >= largest * ALIKE]
    if len(paces_s) < PACES_FOR_AN_ETA:
        return None
    begun_us = now_us - round(min(one.age_s for one in running) * SECOND_US)
    soonest_us, latest_us = (begun_us + round(pace_s * SECOND_US) for pace_s in (min(paces_s), max(paces_s)))
    return (max(soonest_us, now_us), latest_us) if latest_us > now_us else None
