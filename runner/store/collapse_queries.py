"""Every statement about rows that ask the same, one named function each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Update, and_, bindparam, select, update

from runner.domain.states import RIDING_BATCH, RowStatus
from runner.store.queries import insert_absent
from runner.store.report_queries import RESULT
from runner.store.tables import answers, batches, bodies, chunks, results, riders, runs


def insert_bodies(dialect: str) -> Any:
    return insert_absent(bodies, dialect)


def leaders_of(run: int, hashes: Sequence[bytes]) -> Select[Any]:
    return select(bodies.c.hash, bodies.c.leader_idx).where(bodies.c.run == run, bodies.c.hash.in_(hashes))


def answered_elsewhere(run: int, hashes: Sequence[bytes], since_us: int) -> Select[Any]:
    """Answers that other runs have had for these bodies since then, the newest run last."""
    leader = and_(results.c.run == bodies.c.run, results.c.idx == bodies.c.leader_idx)
    return (
        select(*RESULT, answers.c.message, bodies.c.hash, runs.c.label)
        .select_from(bodies)
        .join(results, leader)
        .join(answers, and_(answers.c.run == results.c.run, answers.c.idx == results.c.idx))
        .join(runs, runs.c.id == bodies.c.run)
        .where(
            bodies.c.hash.in_(hashes),
            bodies.c.run != run,
            results.c.status == RowStatus.SUCCEEDED,
            results.c.same_run.is_(None),
            results.c.at_us >= since_us,
        )
        .order_by(bodies.c.run)
    )


def set_leader(run: int) -> Update:
    return (
        update(bodies)
        .where(bodies.c.run == run, bodies.c.hash == bindparam("of_hash"))
        .values(leader_idx=bindparam("new_leader"))
    )


def riding_between(run: int, first_idx: int, last_idx: int) -> Select[Any]:
    """Chunks of these rows, with the bitmaps of those that ride."""
    return (
        select(chunks.c.first_idx, chunks.c.n, riders.c.rows)
        .select_from(riders)
        .join(batches, batches.c.submission == riders.c.submission)
        .join(chunks, and_(chunks.c.run == batches.c.run, chunks.c.seq == riders.c.seq))
        .where(
            batches.c.run == run,
            batches.c.state.in_(RIDING_BATCH),
            chunks.c.first_idx <= last_idx,
            chunks.c.first_idx + chunks.c.n > first_idx,
        )
    )
