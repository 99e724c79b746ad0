"""Every statement about submissions, their riders and what listings have shown, one named function each.

A guard names the states that it expects, taken from the transition tables of `domain/states.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from runner.domain.states import BATCH_MOVES, RIDING_BATCH, BatchState, ChunkState, leading_to
from runner.store.among import among
from runner.store.queries import insert_absent
from runner.store.tables import batches, candidates, chunks, ledger, payloads, results, riders, sightings

# --- submissions


def insert_batch() -> Insert:
    return insert(batches)


def batch(submission: str) -> Select[Any]:
    return select(batches).where(batches.c.submission == submission)


@cache
def intents_of() -> Select[Any]:
    """When batches of the service were sent, of those that are ours."""
    return select(batches.c.provider_id, batches.c.intent_us).where(among(batches.c.provider_id, "provider_ids"))


@cache
def locked_batch() -> Select[Any]:
    return select(batches).where(batches.c.submission == bindparam("of_submission")).with_for_update()


@cache
def note_read() -> Update:
    """How far the results of a submission are stored."""
    return (
        update(batches).where(batches.c.submission == bindparam("of_submission")).values(read_upto=bindparam("upto"))
    )


def batches_of(run: int) -> Select[Any]:
    return select(batches).where(batches.c.run == run).order_by(batches.c.intent_us, batches.c.submission)


def all_batches(limit: int) -> Select[Any]:
    return select(batches).order_by(batches.c.intent_us.desc(), batches.c.submission).limit(limit)


def batch_named(name: str) -> Select[Any]:
    """By the beginning of a submission's id, or by the service's id."""
    named = or_(batches.c.submission.startswith(name, autoescape=True), batches.c.provider_id == name)
    return select(batches).where(named).order_by(batches.c.submission).limit(2)


def sending_in(workspace: str | None) -> Select[Any]:
    """The submission whose POST is under way in a workspace; there is one at most."""
    here = batches.c.workspace.is_(None) if workspace is None else batches.c.workspace == workspace
    return select(batches).where(here, batches.c.state == BatchState.SENDING)


def take_up_sending(run: int) -> Update:
    """A POST that a dead holder had begun: nobody knows how it ended."""
    to = BATCH_MOVES[BatchState.SENDING]["end unknown"]
    return update(batches).where(batches.c.run == run, batches.c.state == BatchState.SENDING).values(state=to)


def raise_epochs(run: int) -> Update:
    """Raise the fence of all that is under way: whoever worked on it before can no longer store results."""
    return (
        update(batches)
        .where(batches.c.run == run, batches.c.state.in_(RIDING_BATCH))
        .values(epoch=batches.c.epoch + 1)
    )


def move_batch(submission: str, event: str, **values: Any) -> Update:
    """Carry out a move of the batch table; no row changes when the submission is in no state that has it."""
    target = {state: BATCH_MOVES[state][event] for state in leading_to(BATCH_MOVES, event)}
    return (
        update(batches)
        .where(batches.c.submission == submission, batches.c.state.in_(list(target)))
        .values(state=case(*((batches.c.state == was, to) for was, to in target.items())), **values)
    )


def set_batch(submission: str, **values: Any) -> Update:
    return update(batches).where(batches.c.submission == submission).values(**values)


def owned_ids() -> Select[Any]:
    return select(batches.c.provider_id).where(batches.c.provider_id.is_not(None))


def unsettled() -> Select[Any]:
    """Submissions whose end is not known, of all runs: those that could own a batch which nobody owns."""
    return select(batches).where(batches.c.state.in_([BatchState.SENDING, BatchState.UNKNOWN]))


def sizes() -> Select[Any]:
    """The numbers of rows of every submission that ever was."""
    return select(batches.c.n).distinct()


def cache_of_batches(run: int) -> Select[Any]:
    """Of the run's rows that batches answered and that wrote a cache for an hour or read one: how many, tokens read,
    tokens written."""
    read, written = results.c.cache_read, results.c.cache_write_1h
    return select(func.count(), func.coalesce(func.sum(read), 0), func.coalesce(func.sum(written), 0)).where(
        results.c.run == run, results.c.batch.is_not(None), (read > 0) | (written > 0)
    )


def riding(run: int) -> Select[Any]:
    return select(func.count()).where(batches.c.run == run, batches.c.state.in_(RIDING_BATCH))


# --- riders


def insert_riders() -> Insert:
    return insert(riders)


def riders_of(submission: str) -> Select[Any]:
    """The chunks that ride in a submission, with their rows."""
    run = select(batches.c.run).where(batches.c.submission == submission).scalar_subquery()
    return (
        select(riders.c.seq, riders.c.rows, chunks.c.first_idx, chunks.c.n)
        .select_from(riders)
        .join(chunks, and_(chunks.c.run == run, chunks.c.seq == riders.c.seq))
        .where(riders.c.submission == submission)
        .order_by(riders.c.seq)
    )


def riding_in(run: int, seq: int) -> Select[Any]:
    """The bitmaps of a chunk's rows that ride in something which has not been read to its end."""
    return (
        select(riders.c.rows)
        .join(batches, batches.c.submission == riders.c.submission)
        .where(batches.c.run == run, riders.c.seq == seq, batches.c.state.in_(RIDING_BATCH))
    )


def get_on(run: int) -> Update:
    """Rows of a chunk that is ours get on: it is no longer in anybody's hands."""
    return (
        update(chunks)
        .where(
            chunks.c.run == run,
            chunks.c.seq == bindparam("of_seq"),
            chunks.c.epoch == bindparam("of_epoch"),
            chunks.c.state == ChunkState.RUNNING,
        )
        .values(state=ChunkState.IN_BATCH, riding=chunks.c.riding + bindparam("more"))
    )


def get_off(run: int) -> Update:
    """Rows get off; with the last of them the chunk waits again, unless it has ended."""
    left = chunks.c.riding - bindparam("less")
    waits = and_(chunks.c.state == ChunkState.IN_BATCH, left == 0)
    return (
        update(chunks)
        .where(chunks.c.run == run, chunks.c.seq == bindparam("of_seq"))
        .values(riding=left, state=case((waits, ChunkState.PENDING), else_=chunks.c.state))
    )


@cache
def payloads_of() -> Select[Any]:
    """The records of some chunks."""
    return select(payloads.c.seq, payloads.c.lines).where(
        payloads.c.run == bindparam("of_run"), among(payloads.c.seq, "seqs")
    )


# --- what listings have shown


def insert_sightings(dialect: str) -> Any:
    return insert_absent(sightings, dialect)


def sighted(provider_ids: Collection[str]) -> Select[Any]:
    return select(sightings.c.provider_id).where(sightings.c.provider_id.in_(provider_ids))


def sightings_of(organization: str | None, workspace: str | None, since_us: int) -> Select[Any]:
    """Batches that were shown under these headers and are younger than `since_us`."""
    return select(sightings).where(
        sightings.c.organization.is_(None) if organization is None else sightings.c.organization == organization,
        sightings.c.workspace.is_(None) if workspace is None else sightings.c.workspace == workspace,
        sightings.c.created_us >= since_us,
    )


def mark_sighting(provider_id: str, **values: Any) -> Update:
    return update(sightings).where(sightings.c.provider_id == provider_id).values(**values)


def foreign_ids() -> Select[Any]:
    return select(sightings.c.provider_id).where(sightings.c.foreign.is_(True))


def duplicate_ids() -> Select[Any]:
    return select(sightings.c.provider_id).where(sightings.c.duplicate_of.is_not(None))


def duplicates_of(run: int) -> Select[Any]:
    """Batches that hold rows of this run a second time."""
    return (
        select(sightings, batches.c.submission)
        .select_from(sightings)
        .join(batches, batches.c.submission == sightings.c.duplicate_of)
        .where(batches.c.run == run)
        .order_by(sightings.c.created_us)
    )


def spent_on(run: int, provider_id: str) -> Select[Any]:
    """What the books hold for the lines of a duplicate."""
    return select(func.sum(ledger.c.cost_pico)).where(
        ledger.c.run == run, ledger.c.batch == provider_id, ledger.c.kind == "duplicate"
    )


def money_by_batch(run: int) -> Select[Any]:
    """What the books hold for each batch, and for each submission that was let go."""
    cost, bound = func.coalesce(ledger.c.cost_pico, 0), func.coalesce(ledger.c.bound_pico, 0)
    return (
        select(ledger.c.batch, func.sum(cost).label("cost_pico"), func.sum(bound).label("bound_pico"))
        .where(ledger.c.run == run, ledger.c.batch.is_not(None))
        .group_by(ledger.c.batch)
    )


def forget_sightings(provider_ids: Collection[str]) -> Delete:
    return delete(sightings).where(sightings.c.provider_id.in_(provider_ids), sightings.c.duplicate_of.is_(None))


# --- candidates


def insert_candidates(dialect: str) -> Any:
    return insert_absent(candidates, dialect)


def candidates_of(submission: str) -> Select[Any]:
    return (
        select(candidates.c.provider_id)
        .where(candidates.c.submission == submission)
        .order_by(candidates.c.provider_id)
    )


def all_candidates() -> Select[Any]:
    return select(candidates)


def drop_candidates(submission: str) -> Delete:
    return delete(candidates).where(candidates.c.submission == submission)


def drop_candidate(provider_id: str) -> Delete:
    return delete(candidates).where(candidates.c.provider_id == provider_id)
