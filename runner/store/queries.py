"""Every statement, one named function each: it returns the statement and runs nothing.

Statements that guard a state name the states they expect, taken from the transition tables of `domain/states.py`.
Those of the group commit are made once and take their values when they are executed: to build a statement costs
several times as much as to run it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from runner.domain.states import CHUNK_MOVES, RUN_MOVES, ChunkState, RowStatus, leading_to
from runner.store.among import among
from runner.store.report_queries import CUT_OFF, results_in
from runner.store.tables import (
    answers,
    attempts,
    chunks,
    keys,
    payloads,
    results,
    runs,
    sends,
    turns,
)


@cache
def insert_absent(table: Table, dialect: str) -> Any:
    """Insert that passes over rows whose key is already there; what makes a transaction safe to replay."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_of
    else:  # loading this one takes a while
        from sqlalchemy.dialects.postgresql import insert as insert_of  # type: ignore[assignment]
    return insert_of(table).on_conflict_do_nothing()


# --- runs


def create_run() -> Any:
    return insert(runs).returning(runs.c.id)


def run_by_id(run: int) -> Select[Any]:
    return select(runs).where(runs.c.id == run)


def run_by_label(label: str) -> Select[Any]:
    """By its label or a prefix of it."""
    return select(runs).where(runs.c.label.startswith(label, autoescape=True)).order_by(runs.c.id).limit(2)


def run_by_key(key: str) -> Select[Any]:
    return select(runs).where(runs.c.key == key)


def latest_run(job_name: str | None) -> Select[Any]:
    query = select(runs).order_by(runs.c.id.desc()).limit(1)
    return query if job_name is None else query.where(runs.c.job_name == job_name)


def runs_of_identity(identity: str) -> Select[Any]:
    """Keyless runs that ask the same thing, newest first."""
    return select(runs).where(runs.c.identity == identity, runs.c.key.is_(None)).order_by(runs.c.id.desc())


def lock_question(question: str) -> Select[Any]:
    """PostgreSQL: held until the transaction ends, by one at a time."""
    digest = hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return select(func.pg_advisory_xact_lock(int.from_bytes(digest, "big", signed=True)))


def all_runs(limit: int) -> Select[Any]:
    return select(runs).order_by(runs.c.id.desc()).limit(limit)


def move_run(run: int, event: str, **values: Any) -> Update:
    """Carry out a move of the run's table; no row changes when the run is in no state that has it."""
    target = {state: RUN_MOVES[state][event] for state in leading_to(RUN_MOVES, event)}
    return (
        update(runs)
        .where(runs.c.id == run, runs.c.state.in_(list(target)))
        .values(state=case(*((runs.c.state == was, to) for was, to in target.items())), **values)
    )


def set_run(run: int, **values: Any) -> Update:
    return update(runs).where(runs.c.id == run).values(**values)


def wanted_of(run: int) -> Select[Any]:
    return select(runs.c.wanted).where(runs.c.id == run)


# --- holding a run on PostgreSQL


def holder_of(run: int) -> Select[Any]:
    return select(runs.c.holder, runs.c.heartbeat_us).where(runs.c.id == run).with_for_update()


def take_lease(run: int, holder: str, now_us: int) -> Update:
    return set_run(run, holder=holder, heartbeat_us=now_us)


def extend_lease(run: int, holder: str, now_us: int) -> Update:
    return update(runs).where(runs.c.id == run, runs.c.holder == holder).values(heartbeat_us=now_us)


def release_lease(run: int, holder: str) -> Update:
    return update(runs).where(runs.c.id == run, runs.c.holder == holder).values(holder=None, heartbeat_us=None)


# --- staging


def insert_chunks() -> Insert:
    return insert(chunks)


def insert_payloads() -> Insert:
    return insert(payloads)


def last_chunk(run: int) -> Select[Any]:
    return select(chunks).where(chunks.c.run == run).order_by(chunks.c.seq.desc()).limit(1)


def insert_keys() -> Insert:
    return insert(keys)


def keys_among(run: int, hashes: Sequence[int]) -> Select[Any]:
    return select(keys.c.hash).where(keys.c.run == run, keys.c.hash.in_(hashes))


def drop_keys(run: int) -> Delete:
    return delete(keys).where(keys.c.run == run)


def payloads_from(run: int, seq: int, limit: int) -> Select[Any]:
    return select(payloads).where(payloads.c.run == run, payloads.c.seq >= seq).order_by(payloads.c.seq).limit(limit)


# --- claims


# Other rows of the chunk may ride in a batch meanwhile.
RELEASED = case((chunks.c.riding > 0, ChunkState.IN_BATCH), else_=CHUNK_MOVES[ChunkState.RUNNING]["released"])


def release_running(run: int) -> Update:
    """Chunks that a dead holder left running. Only whoever holds the run may do this."""
    return update(chunks).where(chunks.c.run == run, chunks.c.state == ChunkState.RUNNING).values(state=RELEASED)


def release_chunk(run: int, seq: int, epoch: int) -> Update:
    """Give a chunk back that was claimed and not finished."""
    return (
        update(chunks)
        .where(
            chunks.c.run == run,
            chunks.c.seq == seq,
            chunks.c.epoch == epoch,
            chunks.c.state == ChunkState.RUNNING,
        )
        .values(state=RELEASED)
    )


class Wanted(StrEnum):
    """Which chunks a claim is after."""

    WAITING = "waiting"  # none of its rows is under way
    FREE = "free"  # it has rows that are not under way
    CONTINUED = "continued"  # it has rows whose turn is paused: they go on live


def next_claimable(run: int, now_us: int, wanted: Wanted, after_seq: int = -1) -> Select[Any]:
    """The first chunk of this kind that is due; one that somebody else is claiming is passed over."""
    waiting = chunks.c.state.in_(leading_to(CHUNK_MOVES, "claimed"))
    free = and_(
        chunks.c.state.in_(leading_to(CHUNK_MOVES, "claimed for its other rows")),
        chunks.c.n > chunks.c.done + chunks.c.failed + chunks.c.riding,
    )
    kind = {
        Wanted.WAITING: waiting,
        Wanted.FREE: or_(waiting, free),
        Wanted.CONTINUED: and_(or_(waiting, free), _has_paused_turns(run)),
    }
    return (
        select(chunks)
        .where(
            chunks.c.run == run,
            chunks.c.seq > after_seq,
            kind[wanted],
            or_(chunks.c.next_at_us.is_(None), chunks.c.next_at_us <= now_us),
        )
        .order_by(chunks.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _has_paused_turns(run: int) -> ColumnElement[bool]:
    """Turns of this round without a result of their row."""
    ended = exists().where(results.c.run == turns.c.run, results.c.idx == turns.c.idx)
    closed = exists().where(
        attempts.c.run == turns.c.run,
        attempts.c.idx == turns.c.idx,
        attempts.c["try"] >= turns.c["try"],
        attempts.c.round < select(runs.c.round).where(runs.c.id == run).scalar_subquery(),
    )
    return (
        exists()
        .where(
            turns.c.run == chunks.c.run,
            turns.c.idx >= chunks.c.first_idx,
            turns.c.idx < chunks.c.first_idx + chunks.c.n,
            ~ended,
            ~closed,
        )
        .correlate(chunks)
    )


def claim_chunk(run: int, seq: int, *, worker: str | None, beat_us: int) -> Update:
    """Raise the fence: whoever held the chunk before can no longer settle its rows."""
    return (
        update(chunks)
        .where(chunks.c.run == run, chunks.c.seq == seq)
        .values(state=ChunkState.RUNNING, epoch=chunks.c.epoch + 1, next_at_us=None, worker=worker, beat_us=beat_us)
    )


def payload_of(run: int, seq: int) -> Select[Any]:
    return select(payloads).where(payloads.c.run == run, payloads.c.seq == seq)


def _in_span(table: Table) -> ColumnElement[bool]:
    """Rows of a run from `first_idx` up to, but not including, `end_idx`."""
    return and_(
        table.c.run == bindparam("of_run"),
        table.c.idx >= bindparam("first_idx"),
        table.c.idx < bindparam("end_idx"),
    )


@cache
def ended_in() -> Select[Any]:
    return select(results.c.idx).where(_in_span(results))


@cache
def history_in() -> Select[Any]:
    """For each row with tries behind it: the last one's number, how many used up an attempt in this round, and
    the last number of earlier rounds (whose turns are not taken up again)."""
    counted = case((and_(attempts.c.counted, attempts.c.round == bindparam("in_round")), 1), else_=0)
    of_earlier_rounds = case((attempts.c.round < bindparam("in_round"), attempts.c["try"]), else_=0)
    return (
        select(
            attempts.c.idx,
            func.max(attempts.c["try"]).label("last_try"),
            func.sum(counted).label("counted"),
            func.max(attempts.c.at_us).label("last_us"),
            func.max(of_earlier_rounds).label("closed_try"),
        )
        .where(_in_span(attempts))
        .group_by(attempts.c.idx)
    )


def fresh_rows(run: int, now_us: int) -> Select[Any]:
    """How many rows are not under way in chunks that are due. Those of a batch that is being read count as ended and
    as riding for a while."""
    under_way = chunks.c.done + chunks.c.failed + chunks.c.riding
    free = case((chunks.c.n > under_way, chunks.c.n - under_way), else_=0)
    return select(func.coalesce(func.sum(free), 0)).where(
        chunks.c.run == run,
        chunks.c.state.in_([ChunkState.PENDING, ChunkState.IN_BATCH]),
        or_(chunks.c.next_at_us.is_(None), chunks.c.next_at_us <= now_us),
    )


@cache
def turns_in() -> Select[Any]:
    return select(turns).where(_in_span(turns)).order_by(turns.c.idx, turns.c["try"], turns.c.turn)


def sends_in(run: int, first_idx: int, end_idx: int, below_epoch: int) -> Any:
    """Take out sends of an older epoch: calls whose end nobody knows."""
    return (
        delete(sends)
        .where(sends.c.run == run, sends.c.idx >= first_idx, sends.c.idx < end_idx, sends.c.epoch < below_epoch)
        .returning(sends)
    )


def sends_of_ended_chunks(run: int) -> Any:
    """Take out sends whose chunk nobody will claim any more: another's answer has ended its last row."""
    ended = exists().where(
        chunks.c.run == sends.c.run,
        chunks.c.state == ChunkState.DONE,
        chunks.c.first_idx <= sends.c.idx,
        chunks.c.first_idx + chunks.c.n > sends.c.idx,
    )
    return delete(sends).where(sends.c.run == run, ended).returning(sends)


def all_sends(run: int) -> Any:
    return delete(sends).where(sends.c.run == run).returning(sends)


# --- group commit


@cache
def fences_of() -> Select[Any]:
    """The epochs of some chunks, locked until the transaction ends (SQLite's writer is alone anyway)."""
    return (
        select(chunks.c.seq, chunks.c.epoch, chunks.c.state, chunks.c.n, chunks.c.done, chunks.c.failed)
        .where(chunks.c.run == bindparam("of_run"), among(chunks.c.seq, "seqs"))
        .order_by(chunks.c.seq)
        .with_for_update()
    )


@cache
def sends_of() -> Select[Any]:
    call = (sends.c.idx, sends.c.epoch, sends.c["try"].label("try_"), sends.c.turn)
    return select(*call, sends.c.worst_pico, sends.c.at_us).where(
        sends.c.run == bindparam("of_run"), among(sends.c.idx, "idxs")
    )


@cache
def delete_send() -> Delete:
    return delete(sends).where(
        sends.c.run == bindparam("of_run"), sends.c.idx == bindparam("of_idx"), sends.c.epoch == bindparam("of_epoch")
    )


@cache
def results_among() -> Select[Any]:
    return select(results.c.idx).where(results.c.run == bindparam("of_run"), among(results.c.idx, "idxs"))


def insert_attempts(dialect: str) -> Any:
    return insert_absent(attempts, dialect)


def insert_turns(dialect: str) -> Any:
    return insert_absent(turns, dialect)


@cache
def tally_chunk() -> Update:
    """Count settled rows of one chunk; the last one closes it."""
    ended = chunks.c.done + chunks.c.failed + bindparam("more_done") + bindparam("more_failed")
    return (
        update(chunks)
        .where(chunks.c.run == bindparam("of_run"), chunks.c.seq == bindparam("of_seq"))
        .values(
            done=chunks.c.done + bindparam("more_done"),
            failed=chunks.c.failed + bindparam("more_failed"),
            state=case((ended >= chunks.c.n, ChunkState.DONE), else_=chunks.c.state),
        )
    )


# --- rounds and cancellation


def failed_results(run: int, first_idx: int, end_idx: int, max_tokens: float) -> Select[Any]:
    """Rows that did not succeed; of those that were cut off by `max_tokens` the ones that have more room now."""
    failed = results_in(run, first_idx, end_idx).where(results.c.status != RowStatus.SUCCEEDED)
    if max_tokens == math.inf:
        return failed
    roomier = and_(results.c.stop_reason == CUT_OFF, results.c.output_tokens < max_tokens)
    return failed.where(or_(results.c.status != RowStatus.TRUNCATED, roomier))


def delete_results(run: int, idxs: Collection[int]) -> Delete:
    return delete(results).where(
        results.c.run == run, results.c.idx.in_(idxs), results.c.status != RowStatus.SUCCEEDED
    )


def delete_answers(run: int, idxs: Collection[int]) -> Delete:
    return delete(answers).where(answers.c.run == run, answers.c.idx.in_(idxs))


def chunks_with_failures(run: int, after_seq: int) -> Select[Any]:
    return (
        select(chunks)
        .where(chunks.c.run == run, chunks.c.seq > after_seq, chunks.c.failed > 0)
        .order_by(chunks.c.seq)
        .limit(1)
        .with_for_update()
    )


def reopen_chunk(run: int, seq: int, failed: int) -> Update:
    return (
        update(chunks)
        .where(chunks.c.run == run, chunks.c.seq == seq)
        .values(state=ChunkState.PENDING, failed=chunks.c.failed - failed, next_at_us=None)
    )


def cancel_chunks(run: int) -> Update:
    return (
        update(chunks)
        .where(chunks.c.run == run, chunks.c.state.in_(leading_to(CHUNK_MOVES, "run canceled")))
        .values(state=ChunkState.CANCELED)
    )


def reopen_canceled(run: int) -> Update:
    return (
        update(chunks)
        .where(chunks.c.run == run, chunks.c.state == ChunkState.CANCELED)
        .values(state=CHUNK_MOVES[ChunkState.CANCELED]["new round"])
    )
