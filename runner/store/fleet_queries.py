"""The statements of the fleet, one named function each: it returns the statement and runs nothing.

Those that look at the queue's tables name them as text: they are procrastinate's, made and changed by it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Delete, Select, TextClause, Update, and_, delete, func, or_, select, text, tuple_, update

from runner.domain.states import FINISHED_RUN, BatchState, ChunkState, RunState
from runner.store.queries import RELEASED, insert_absent
from runner.store.tables import batches, budgets, chunks, runs, workers

CHUNK_TASK = "runner.chunk"
RUN_TASK = "runner.run"


def change_run(run: int, *, detached: bool, priority: int) -> Update:
    return update(runs).where(runs.c.id == run).values(detached=detached, priority=priority)


def chunk_to_claim(run: int, seq: int, now_us: int, silent_us: int) -> Select[Any]:
    """The chunk, if it waits or whoever had it has been silent for too long, and its run goes on."""
    silent = and_(chunks.c.state == ChunkState.RUNNING, func.coalesce(chunks.c.beat_us, 0) < now_us - silent_us)
    return (
        select(chunks)
        .join(runs, runs.c.id == chunks.c.run)
        .where(
            chunks.c.run == run,
            chunks.c.seq == seq,
            runs.c.state == RunState.RUNNING,
            or_(chunks.c.state == ChunkState.PENDING, silent),
            or_(chunks.c.next_at_us.is_(None), chunks.c.next_at_us <= now_us),
        )
        .with_for_update(skip_locked=True, of=chunks)
    )


def beat_chunks(run: int, fences: Collection[tuple[int, int]], now_us: int) -> Update:
    """Say that these are worked on; what is not among the seqs that come back has ended or was taken over."""
    return (
        update(chunks)
        .where(
            chunks.c.run == run,
            chunks.c.state == ChunkState.RUNNING,
            tuple_(chunks.c.seq, chunks.c.epoch).in_(list(fences)),
        )
        .values(beat_us=now_us)
        .returning(chunks.c.seq)
    )


def at_work(run: int, now_us: int, silent_us: int) -> Select[Any]:
    """A chunk that a living worker has."""
    return (
        select(chunks.c.seq)
        .where(
            chunks.c.run == run,
            chunks.c.state == ChunkState.RUNNING,
            chunks.c.worker.is_not(None),
            chunks.c.beat_us >= now_us - silent_us,
        )
        .limit(1)
    )


def release_silent(now_us: int, silent_us: int) -> Update:
    """Chunks of the fleet's runs whose worker says nothing any more."""
    of_fleet = select(runs.c.id).where(runs.c.detached, runs.c.state == RunState.RUNNING)
    return (
        update(chunks)
        .where(
            chunks.c.state == ChunkState.RUNNING,
            chunks.c.worker.is_not(None),
            func.coalesce(chunks.c.beat_us, 0) < now_us - silent_us,
            chunks.c.run.in_(of_fleet),
        )
        .values(state=RELEASED)
    )


def chunks_to_enqueue() -> TextClause:
    """Of each of the fleet's live runs the first chunks that wait, so many that `window` are in the queue or at work;
    `place` is each one's place in its run's window."""
    return text(
        """
        SELECT r.id AS run, r.priority, c.seq, q.jobs + row_number() OVER (PARTITION BY r.id ORDER BY c.seq) AS place
        FROM runs r
        CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM procrastinate_jobs j WHERE j.status IN ('todo', 'doing')
                            AND j.task_name = 'runner.chunk' AND j.args ->> 'run' = r.id::text) q
        CROSS JOIN LATERAL (
          SELECT seq FROM chunks
          WHERE run = r.id AND state = 'pending' AND (next_at_us IS NULL OR next_at_us <= :now_us)
            AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.status IN ('todo', 'doing')
                            AND j.queueing_lock = 'chunk:' || r.id || '.' || chunks.seq)
          ORDER BY seq LIMIT greatest(0, :window - q.jobs)
        ) c
        WHERE r.detached AND r.ingest_done AND r.state = 'running' AND r.mode = 'live'
          AND (r.holder IS NULL OR coalesce(r.heartbeat_us, 0) < :now_us - :silent_us)
        ORDER BY place, r.id"""
    )


def runs_to_enqueue() -> TextClause:
    """The fleet's runs that are worked on as a whole: batches, cancels, and live ones of which no chunk is left."""
    return text(
        """
        SELECT r.id AS run, r.priority, r.state = 'paused' AS later FROM runs r
        WHERE r.detached AND r.ingest_done
          AND (r.holder IS NULL OR coalesce(r.heartbeat_us, 0) < :now_us - :silent_us)
          AND (   (r.state = 'running' AND r.mode <> 'live')
               OR (r.state = 'canceling')
               OR (r.state = 'paused' AND r.pause_reason IN ('submitted', 'unknown_batch', 'stalled'))
               OR (r.state = 'running' AND NOT EXISTS (SELECT 1 FROM chunks c WHERE c.run = r.id
                                                       AND c.state NOT IN ('done', 'canceled'))))
          AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs j WHERE j.status IN ('todo', 'doing')
                          AND j.queueing_lock = 'run:' || r.id)"""
    )


def open_batches() -> Select[Any]:
    """By state, those of which something is still to come."""
    ended = (BatchState.REFUSED, BatchState.NOT_SENT, BatchState.ABSENT, BatchState.INGESTED)
    return (
        select(batches.c.state, func.count().label("batches"))
        .where(batches.c.state.not_in(ended))
        .group_by(batches.c.state)
    )


def budgets_of_open_runs() -> Select[Any]:
    """By job, the caps of its runs that have not ended, and what is used of them."""
    return (
        select(
            runs.c.job_name,
            func.sum(budgets.c.cap_pico).label("cap_pico"),
            func.sum(budgets.c.spent_pico + budgets.c.committed_pico).label("used_pico"),
        )
        .join(runs, budgets.c.scope == func.concat("run:", runs.c.id))
        .where(budgets.c.cap_pico.is_not(None), runs.c.state.not_in(FINISHED_RUN))
        .group_by(runs.c.job_name)
    )


def add_worker(dialect: str) -> Any:
    return insert_absent(workers, dialect)


def beat_worker(name: str, state: str, now_us: int) -> Update:
    return update(workers).where(workers.c.name == name).values(beat_us=now_us, state=state)


def drop_worker(name: str) -> Delete:
    return delete(workers).where(workers.c.name == name)


def drop_old_workers(before_us: int) -> Delete:
    return delete(workers).where(workers.c.beat_us < before_us)


def all_workers() -> Select[Any]:
    held = (
        select(func.count())
        .select_from(chunks)
        .where(chunks.c.worker == workers.c.name, chunks.c.state == ChunkState.RUNNING)
        .scalar_subquery()
    )
    return select(workers, held.label("chunks")).order_by(workers.c.since_us)


def living(now_us: int, silent_us: int) -> Select[Any]:
    return select(workers.c.slots).where(workers.c.beat_us >= now_us - silent_us)


def runs_held() -> Select[Any]:
    return (
        select(chunks.c.worker, runs.c.label)
        .join(runs, runs.c.id == chunks.c.run)
        .where(chunks.c.state == ChunkState.RUNNING, chunks.c.worker.is_not(None))
        .distinct()
    )


def queue_script() -> TextClause:
    """Which of procrastinate's scripts was the last to be run here; null where its tables are not."""
    return text("SELECT obj_description(to_regclass('procrastinate_jobs'), 'pg_class')")


def queue_exists() -> TextClause:
    return text("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")


def server_time() -> TextClause:
    return text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
