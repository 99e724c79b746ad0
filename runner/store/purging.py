"""Taking the contents of old runs out: prompts, answers, results. The run itself and its books stay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Delete, Select, Update, delete, literal, select, text, update

from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, RIDING_BATCH
from runner.store import runs as run_rows
from runner.store.database import Database
from runner.store.tables import answers, attempts, batches, bodies, chunks, keys, payloads, results, runs, turns

# Rows that one transaction takes out at most; other writers wait for no longer than that.
CHUNKS_AT_ONCE = 20

_BY_ROW = (answers, attempts, turns, results)


def old_runs(before_us: int, job: str | None) -> Select[Any]:
    """Finished runs that ended before then, whose contents are still there, and of which no batch is out."""
    out = select(batches.c.run).where(batches.c.state.in_(RIDING_BATCH))
    query = select(runs).where(
        runs.c.state.in_(FINISHED_RUN),
        runs.c.ended_us < before_us,
        runs.c.purged_us.is_(None),
        runs.c.id.not_in(out),
    )
    return (query if job is None else query.where(runs.c.job_name == job)).order_by(runs.c.id)


def mark_purged(run: int, now_us: int) -> Update:
    """From now on it is not found as an answer to the same question, and its results may go."""
    return (
        update(runs)
        .where(runs.c.id == run, runs.c.purged_us.is_(None))
        .values(purged_us=now_us, key=None, identity=literal("purged:") + runs.c.identity)
    )


def next_chunks(run: int, after_seq: int) -> Select[Any]:
    return (
        select(chunks.c.seq, chunks.c.first_idx, chunks.c.n)
        .where(chunks.c.run == run, chunks.c.seq > after_seq)
        .order_by(chunks.c.seq)
        .limit(CHUNKS_AT_ONCE)
    )


def drop_rows(table: Any, run: int, first_idx: int, end_idx: int) -> Delete:
    return delete(table).where(table.c.run == run, table.c.idx >= first_idx, table.c.idx < end_idx)


def drop_payloads(run: int, seqs: Sequence[int]) -> Delete:
    return delete(payloads).where(payloads.c.run == run, payloads.c.seq.in_(seqs))


class Purge:
    """The cleaning up of one store. Each step may be done again, and a purge that was cut short goes on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def candidates(self, before_us: int, job: str | None) -> list[Run]:
        return self._database.read(
            lambda c: [run_rows.by_id(c, row.id) for row in c.execute(old_runs(before_us, job))]
        )

    def unfinished(self) -> list[int]:
        """Runs whose purge was begun and not finished."""
        has_lines = select(payloads.c.run).distinct()
        query = select(runs.c.id).where(runs.c.purged_us.is_not(None), runs.c.id.in_(has_lines))
        return self._database.read(lambda c: list(c.scalars(query)))

    def take_out(self, run: int, now_us: int) -> None:
        """The contents of a run. What it cost and how its rows ended stays."""
        self._database.write(lambda c: c.execute(mark_purged(run, now_us)))
        seq: int | None = -1
        while seq is not None:
            seq = self._database.write(partial(_take_out_chunks, run=run, after_seq=seq))

    def vacuum(self) -> None:
        """Give the room back to the disk (SQLite) or to the tables (PostgreSQL)."""
        self._database.vacuum([table.name for table in (*_BY_ROW, payloads, keys)])

    def size_bytes(self) -> int:
        """What the database takes on its disk."""
        if self._database.is_sqlite:
            query = text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        else:
            query = text("SELECT pg_database_size(current_database())")
        return int(self._database.read(lambda c: c.execute(query).scalar_one()))


def _take_out_chunks(connection: Connection, run: int, after_seq: int) -> int | None:
    """The contents of the next chunks; the last of them, None behind the end."""
    found = connection.execute(next_chunks(run, after_seq)).all()
    if not found:
        for table in (keys, bodies):
            connection.execute(delete(table).where(table.c.run == run))
        return None
    end = found[-1].first_idx + found[-1].n
    for table in _BY_ROW:
        connection.execute(drop_rows(table, run, found[0].first_idx, end))
    connection.execute(drop_payloads(run, [row.seq for row in found]))
    return int(found[-1].seq)
