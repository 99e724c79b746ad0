"""Submissions in the store: written down before their POST, moved by what is learned, read to their end.

Every function is one transaction's work and bears to be done twice: a move that has been made already is passed
over. Which moves there are stands in `domain/states.py`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field
from sqlalchemy import Connection

from runner.domain.batch import BatchStatus
from runner.domain.booking import Booking, BookingKind
from runner.domain.budget import Admission, Changes, Payer, day_of
from runner.domain.packing import bitmap, rows_of
from runner.domain.states import BATCH_MOVES, BatchState, ChunkState, leading_to
from runner.domain.submission import Intent, ServerTime
from runner.domain.sum_bound import Shares
from runner.errors import UsageInvalid
from runner.store import batch_queries, budgets, ledger, queries
from runner.store.group import Fence, Fences, Settlement, settle

# The fence of a submission in the hands of the process that made it.
FIRST_EPOCH = 1


class Submission(Struct, frozen=True, kw_only=True):
    """A submission as it stands. The results of its rows below `read_upto` are stored. `question` says why a person
    has to decide; `provisional` are the ids of batches that it may turn out to own."""

    id: str
    run: int
    round: int
    n: int
    state: BatchState
    epoch: int
    intent: Intent
    sent_us: int | None
    created_us: int | None
    expires_us: int | None
    ended_us: int | None
    ingested_us: int | None
    provider_id: str | None
    read_upto: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    body_hash: str = ""
    body_bytes: int = 0
    worst_pico: int | None = None
    reserved_pico: int = 0
    key_fingerprint: str = ""
    question: str | None = None
    provisional: tuple[str, ...] = ()


class Rider(Struct, frozen=True, kw_only=True):
    """Rows of one chunk that is ours, ascending."""

    fence: Fence
    first_idx: int
    n: int
    idxs: Sequence[int]


class NewSubmission(Struct, frozen=True, kw_only=True):
    """What is written down before a POST. `worst_pico` is the most that it can cost, None where nothing bounds it;
    `reserved_pico` what is held back for it in the budgets where that is less."""

    intent: Intent
    run: int
    round: int
    body_hash: str
    body_bytes: int
    worst_pico: int | None
    key_fingerprint: str
    riders: Sequence[Rider]
    reserved_pico: int | None = None

    @property
    def held_pico(self) -> int | None:
        return self.worst_pico if self.reserved_pico is None else self.reserved_pico


class Share(NamedTuple):
    """How much of the most that it could cost a row has cost, and which rows it speaks for."""

    shape: str
    share: float


class IntentVerdict(StrEnum):
    """What became of an intent."""

    STORED = "stored"
    FENCED = "fenced"  # a chunk is no longer ours
    OVER_BUDGET = "over_budget"
    BUSY = "busy"  # another POST of this workspace is under way


# --- before and after the POST


def intend(connection: Connection, new: NewSubmission, payer: Payer, overdue_us: int) -> IntentVerdict:
    """Bind the rows, reserve what they may cost, write SENDING. Nothing is changed where that cannot be done.

    A POST that began before `overdue_us` is over, however it ended.
    """
    intent = new.intent
    if connection.execute(batch_queries.batch(intent.submission)).first() is not None:
        return IntentVerdict.STORED
    if connection.dialect.name == "postgresql":
        connection.execute(queries.lock_question(f"sending in {intent.workspace}"))
    for other in connection.execute(batch_queries.sending_in(intent.workspace)).all():
        if other.intent_us > overdue_us:
            return IntentVerdict.BUSY
        move(connection, other.submission, "end unknown")
    if not _hold_all(connection, new):
        return IntentVerdict.FENCED
    day = day_of(intent.intent_us)
    account = budgets.open_account(connection, payer, [day])
    if account.reserve(day, new.held_pico) is not Admission.TAKEN:
        return IntentVerdict.OVER_BUDGET
    connection.execute(batch_queries.insert_batch(), _row(new))
    connection.execute(batch_queries.insert_riders(), [_rider_row(intent.submission, rider) for rider in new.riders])
    connection.execute(
        batch_queries.get_on(new.run),
        [{"of_seq": rider.fence.seq, "of_epoch": rider.fence.epoch, "more": len(rider.idxs)} for rider in new.riders],
    )
    budgets.close_account(connection, account)
    return IntentVerdict.STORED


def _hold_all(connection: Connection, new: NewSubmission) -> bool:
    held = {(rider.fence.seq, rider.fence.epoch) for rider in new.riders}
    found = connection.execute(queries.fences_of(), {"of_run": new.run, "seqs": [seq for seq, _ in held]}).all()
    return held == {(row.seq, row.epoch) for row in found if row.state == ChunkState.RUNNING}


def _row(new: NewSubmission) -> dict[str, Any]:
    intent = new.intent
    return {
        "submission": intent.submission,
        "run": new.run,
        "round": new.round,
        "n": intent.n,
        "state": BATCH_MOVES[BatchState.PLANNED]["intent"],
        "epoch": FIRST_EPOCH,
        "intent_us": intent.intent_us,
        "asked_server_us": intent.asked.server_us,
        "asked_shared_us": intent.asked.shared_us,
        "body_hash": new.body_hash,
        "body_bytes": new.body_bytes,
        "worst_pico": new.worst_pico,
        "reserved_pico": new.held_pico or 0,
        "key_fingerprint": new.key_fingerprint,
        "organization": intent.organization,
        "workspace": intent.workspace,
    }


def _rider_row(submission: str, rider: Rider) -> dict[str, Any]:
    return {
        "submission": submission,
        "seq": rider.fence.seq,
        "rows": bitmap(rider.first_idx, rider.n, rider.idxs),
    }


def move(connection: Connection, submission: str, event: str, **values: Any) -> bool:
    """Carry out a move; False when the submission is in no state that has it."""
    return connection.execute(batch_queries.move_batch(submission, event, **values)).rowcount == 1


def received(connection: Connection, submission: str, batch: BatchStatus, now_us: int) -> BatchState:
    """The service has answered with an id: a fact, whoever holds the run by now. The state it leads to.

    Where somebody has given the submission up meanwhile, its batch stays nobody's, and the sweep finds it.
    """
    told = {"sent_us": now_us, "question": None, **_of_status(batch)}
    if move(connection, submission, "id received", **told) or move(
        connection, submission, "found in a listing", **told
    ):
        _drop_candidates(connection, submission, batch)
    return BatchState(connection.execute(batch_queries.batch(submission)).one().state)


def not_made(connection: Connection, submission: str, state: BatchState, payer: Payer) -> None:
    """REFUSED or NOT_SENT: there is no batch, the rows are free and so is what they held back."""
    event = next(event for event, to in BATCH_MOVES[BatchState.SENDING].items() if to is state)
    if move(connection, submission, event):
        _let_off(connection, submission, payer)


def end_unknown(connection: Connection, submission: str) -> None:
    move(connection, submission, "end unknown")


def _let_off(connection: Connection, submission: str, payer: Payer, *, keep_worst: bool = False) -> None:
    """The rows that have not ended wait again; what is still reserved is given back, or made the worst cost where
    nobody will ever know."""
    found = connection.execute(batch_queries.batch(submission)).one()
    _get_off(connection, found)
    kept_pico = (found.worst_pico or 0) if keep_worst else 0
    connection.execute(batch_queries.set_batch(submission, reserved_pico=kept_pico))
    changes = Changes()
    changes.commit(day_of(found.intent_us), kept_pico - found.reserved_pico)
    budgets.change(connection, payer, changes)


def _get_off(connection: Connection, found: Any) -> None:
    off = [
        {"of_seq": row.seq, "less": int.from_bytes(row.rows, "little").bit_count()}
        for row in connection.execute(batch_queries.riders_of(found.submission))
    ]
    connection.execute(batch_queries.get_off(found.run), off)


# --- unknown ends


def take_up(connection: Connection, run: int) -> list[Submission]:
    """All that a run has with the API, under a new fence; what was being sent is of unknown end now."""
    connection.execute(batch_queries.take_up_sending(run))
    connection.execute(batch_queries.raise_epochs(run))
    return of_run(connection, run)


def claim_provisionally(connection: Connection, submission: str, provider_ids: Sequence[str]) -> None:
    rows = [{"submission": submission, "provider_id": one} for one in provider_ids]
    connection.execute(batch_queries.insert_candidates(connection.dialect.name), rows)


def claim(connection: Connection, submission: str, batch: BatchStatus) -> bool:
    """The batch is proved to be this submission's. False when that is no longer of unknown end."""
    claimed = move(connection, submission, "found in a listing", question=None, **_of_status(batch))
    if claimed:
        _drop_candidates(connection, submission, batch)
    return claimed


def _drop_candidates(connection: Connection, submission: str, batch: BatchStatus) -> None:
    """The submission waits for no other batch, and no other submission for this one."""
    connection.execute(batch_queries.drop_candidates(submission))
    connection.execute(batch_queries.drop_candidate(batch.id))


def absent(connection: Connection, submission: str, payer: Payer) -> bool:
    """There is no batch: the rows are free. False when that was known or the submission is of known end."""
    return _give_up(connection, submission, "settled and not listed", payer)


def gone(connection: Connection, submission: str, payer: Payer) -> bool:
    """A rehearsal's batch, which went with the process that had the simulator in it: nothing was paid."""
    return _give_up(connection, submission, "gone with its simulator", payer)


def let_go(
    connection: Connection, submission: str, payer: Payer, *, model: str, price_version: str, now_us: int
) -> bool:
    """The rows go again although a batch may exist: its worst cost stays in the books as an unknown one.

    A batch that was theirs is nobody's from then on, so that a sweep which sees it again finds a duplicate.
    """
    if not _give_up(connection, submission, "let go", payer, keep_worst=True, provider_id=None):
        return False
    found = connection.execute(batch_queries.batch(submission)).one()
    booking = Booking(
        kind=BookingKind.UNKNOWN,
        model=model,
        price=None,
        bound_pico=found.worst_pico,
        usage=None,
        price_version=price_version,
        request_id=None,
        batch=submission,
        key=let_go_key(submission),
    )
    ledger.book(connection, [ledger.line(found.run, None, "", booking, now_us)])
    return True


def let_go_key(submission: str) -> str:
    """Under which the worst cost of what was let go stands in the books."""
    return f"{submission}-let-go"


def _give_up(
    connection: Connection, submission: str, event: str, payer: Payer, *, keep_worst: bool = False, **values: Any
) -> bool:
    gone = move(connection, submission, event, question=None, **values)
    if gone:
        connection.execute(batch_queries.drop_candidates(submission))
        _let_off(connection, submission, payer, keep_worst=keep_worst)
    return gone


def ask(connection: Connection, submission: str, question: str | None) -> None:
    connection.execute(batch_queries.set_batch(submission, question=question))


# --- results


def ended(connection: Connection, submission: str, batch: BatchStatus) -> None:
    """The batch has ended; its results are to be fetched."""
    move(connection, submission, "ended", question=None, **_of_status(batch))


class Riding(Struct, frozen=True, kw_only=True):
    """The rows of one chunk that ride in a submission."""

    seq: int
    first_idx: int
    n: int
    idxs: tuple[int, ...]


def riding(connection: Connection, submission: str) -> list[Riding]:
    """Which rows ride, chunk by chunk, in order."""
    return [
        Riding(
            seq=row.seq,
            first_idx=row.first_idx,
            n=row.n,
            idxs=tuple(rows_of(row.first_idx, row.n, row.rows)),
        )
        for row in connection.execute(batch_queries.riders_of(submission))
    ]


def ingest(
    connection: Connection,
    submission: str,
    epoch: int,
    settled: Sequence[Settlement],
    payer: Payer,
    shares: Mapping[int, Share],
) -> bool:
    """Store what some lines say, and the `shares` of the worst cost that their rows took. False when the submission
    is no longer in our hands: nothing was stored.

    Lines come in the order of their rows. Those that were stored before are passed over: a row that goes again or on
    live has no result yet, and would be thought to have had another try.
    """
    found = connection.execute(batch_queries.locked_batch(), {"of_submission": submission}).one()
    if (found.state, found.epoch) != (BatchState.ENDED, epoch):
        return False
    settled = [op for op in settled if op.idx >= (found.read_upto or 0)]
    if not settled:
        return True
    connection.execute(batch_queries.note_read(), {"of_submission": submission, "upto": settled[-1].idx + 1})
    if shares:
        _learn(connection, found, [shares[op.idx] for op in settled if op.idx in shares])
    seqs = sorted({op.fence.seq for op in settled})
    chunks = connection.execute(queries.fences_of(), {"of_run": found.run, "seqs": seqs}).all()
    fences = Fences(
        sending=set(),
        settling={(op.fence.seq, op.fence.epoch) for op in settled},
        left={row.seq: row.n - row.done - row.failed for row in chunks},
    )
    day = day_of(found.intent_us)
    changes = settle(connection, found.run, settled, fences, lambda _op: day)
    _use_reserved(connection, found, changes, day)
    budgets.change(connection, payer, changes)
    return True


def _learn(connection: Connection, found: Any, shares: Sequence[Share]) -> None:
    """Put these rows to those of the submission that are known already, in the commit that settles them."""
    known = _shares(found.shares)
    for one in shares:
        known[one.shape] = known.get(one.shape, Shares()).and_one(one.share)
    text = json.dumps({shape: [told.rows, told.total, told.squares] for shape, told in known.items()})
    connection.execute(batch_queries.set_batch(found.submission, shares=text))


def _shares(text: str | None) -> dict[str, Shares]:
    told = {} if text is None else json.loads(text)
    return {shape: Shares(rows=rows, total=total, squares=squares) for shape, (rows, total, squares) in told.items()}


def shares_of(connection: Connection, run: int) -> dict[str, Shares]:
    """What the rows of the run's batches have cost so far, by shape."""
    found: dict[str, Shares] = {}
    for row in connection.execute(batch_queries.batches_of(run)):
        for shape, told in _shares(row.shares).items():
            found[shape] = found.get(shape, Shares()).plus(told)
    return found


def _use_reserved(connection: Connection, found: Any, changes: Changes, day: str) -> None:
    """What lines cost was reserved for them: it is no longer held back beside being spent."""
    used = sum(change.spent_pico + change.committed_pico for change in changes.by_day.values())
    used_pico = min(used, found.reserved_pico)
    if used_pico > 0:
        changes.commit(day, -used_pico)
        connection.execute(batch_queries.set_batch(found.submission, reserved_pico=found.reserved_pico - used_pico))


def ingested(connection: Connection, submission: str, epoch: int, now_us: int, payer: Payer) -> bool:
    """All lines are stored: rows that have not ended get off, and what is left of the reservation is given back."""
    found = connection.execute(batch_queries.locked_batch(), {"of_submission": submission}).one()
    if found.epoch != epoch or not move(
        connection, submission, "all lines stored", ingested_us=now_us, question=None
    ):
        return bool(found.state == BatchState.INGESTED and found.epoch == epoch)
    _let_off(connection, submission, payer)
    return True


# --- reading


def of_run(connection: Connection, run: int) -> list[Submission]:
    """All submissions of a run, oldest first."""
    return [value(connection, row) for row in connection.execute(batch_queries.batches_of(run)).all()]


def recent(connection: Connection, limit: int) -> list[Submission]:
    """Of all runs, newest first."""
    return [value(connection, row) for row in connection.execute(batch_queries.all_batches(limit)).all()]


def named(connection: Connection, name: str) -> list[Submission]:
    """Those that a person can mean by this beginning of an id; two when it fits several."""
    return [value(connection, row) for row in connection.execute(batch_queries.batch_named(name)).all()]


def the_one_named(connection: Connection, name: str) -> Submission:
    """The only one that a person can mean. Raises UsageInvalid."""
    found = named(connection, name)
    if not found:
        raise UsageInvalid(f"there is no batch {name!r} here.", name="no-batch", hints=("runner batches list",))
    if len(found) > 1:
        raise UsageInvalid(f"{name!r} fits several batches.", name="ambiguous-batch", hints=("type one more letter",))
    return found[0]


def by_id(connection: Connection, submission: str) -> Submission | None:
    row = connection.execute(batch_queries.batch(submission)).first()
    return None if row is None else value(connection, row)


def value(connection: Connection, row: Any) -> Submission:
    """A row of the table as a value."""
    provisional: Collection[str] = ()
    if row.state in leading_to(BATCH_MOVES, "found in a listing"):
        provisional = connection.scalars(batch_queries.candidates_of(row.submission)).all()
    return Submission(
        id=row.submission,
        run=row.run,
        round=row.round,
        n=row.n,
        state=BatchState(row.state),
        epoch=row.epoch,
        intent=intent_of(row),
        sent_us=row.sent_us,
        created_us=row.created_us,
        expires_us=row.expires_us,
        ended_us=row.ended_us,
        ingested_us=row.ingested_us,
        provider_id=row.provider_id,
        read_upto=row.read_upto or 0,
        counts=json.loads(row.counts) if row.counts else {},
        body_hash=row.body_hash,
        body_bytes=row.body_bytes,
        worst_pico=row.worst_pico,
        reserved_pico=row.reserved_pico,
        key_fingerprint=row.key_fingerprint,
        question=row.question,
        provisional=tuple(provisional),
    )


def intent_of(row: Any) -> Intent:
    return Intent(
        submission=row.submission,
        n=row.n,
        asked=ServerTime(server_us=row.asked_server_us, shared_us=row.asked_shared_us),
        intent_us=row.intent_us,
        organization=row.organization,
        workspace=row.workspace,
    )


def _of_status(batch: BatchStatus) -> dict[str, Any]:
    """What a reply says of a batch, as columns."""
    return {
        "provider_id": batch.id,
        "created_us": batch.created_us,
        "expires_us": batch.expires_us,
        "ended_us": batch.ended_us,
        "counts": json.dumps(dict(batch.counts)),
    }
