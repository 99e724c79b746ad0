"""The fleet's queue on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import psycopg
import pytest
from procrastinate.jobs import Job, Status

from runner.engine import queue as queue_module
from runner.engine.queue import Queue
from runner.store import lease
from runner.store.fleet import Hint

pytestmark = pytest.mark.anyio
LEASE_S = 0.5


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _never(*_told: Any) -> None:
    raise AssertionError("nothing is handed out")


async def test_one_that_falls_silent_in_mid_transaction_does_not_hold_the_sweep_of_the_others_up(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "LEASE_S", LEASE_S)
    monkeypatch.setattr(lease, "LEASE_US", round(LEASE_S * 1e6))
    conninfo = pg_url.replace("postgresql+psycopg", "postgresql")
    sleeper, other = (Queue(conninfo, connect={}, jobs=1, on_chunk=_never, on_run=_never) for _ in range(2))
    async with sleeper.opened(), other.opened():
        await sleeper._app.schema_manager.apply_schema_async()
        pool = sleeper._app.connector.pool  # type: ignore[attr-defined]
        silent = await pool.getconn()
        await silent.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        await silent.commit()
        await silent.execute("UPDATE procrastinate_workers SET last_heartbeat = now()")
        with anyio.fail_after(20 * LEASE_S):
            await other.forget_stalled()
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await silent.execute("SELECT 1")
        await pool.putconn(silent)


TERMINATED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_lost_connections_delay_what_is_put_in_and_handed_out_and_lose_nothing(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "AGAIN_S", 0.1)
    monkeypatch.setattr(queue_module, "POLL_S", 0.1)
    conninfo = pg_url.replace("postgresql+psycopg", "postgresql")
    handed: set[int] = set()

    async def chunk(run: int, seq: int) -> None:
        handed.add(seq)

    queue = Queue(conninfo, connect={}, jobs=4, on_chunk=chunk, on_run=_never)
    async with queue.opened(), await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as other:
        await queue._app.schema_manager.apply_schema_async()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.serve)
            for seq in range(20):
                if seq % 4 == 0:
                    await other.execute(TERMINATED)
                await queue.put([Hint(run=1, seq=seq, priority=0)])
            with anyio.fail_after(30):
                while len(handed) < 20:
                    await anyio.sleep(0.05)
                while await _jobs(other):
                    await anyio.sleep(0.05)
            queue.stop()


async def test_a_job_that_is_gone_is_as_good_as_finished(pg_url: str) -> None:
    """Another's sweep may have taken it out, or somebody has emptied the tables."""
    conninfo = pg_url.replace("postgresql+psycopg", "postgresql")
    let_end = anyio.Event()

    async def chunk(run: int, seq: int) -> None:
        await let_end.wait()

    queue = Queue(conninfo, connect={}, jobs=1, on_chunk=chunk, on_run=_never)
    async with queue.opened(), await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as other:
        await queue._app.schema_manager.apply_schema_async()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.serve)
            await queue.put([Hint(run=1, seq=0, priority=0)])
            with anyio.fail_after(10):
                while await _jobs(other, "doing") == 0:
                    await anyio.sleep(0.05)
            gone = [job async for job in _all_jobs(queue)]
            await other.execute("TRUNCATE procrastinate_jobs CASCADE")
            for job in gone:
                await queue._app.job_manager.finish_job(job, status=Status.SUCCEEDED, delete_job=True)
            let_end.set()
            queue.stop()


async def _all_jobs(queue: Queue) -> AsyncIterator[Job]:
    for job in await queue._app.job_manager.list_jobs_async():
        yield job


async def _jobs(connection: psycopg.AsyncConnection[Any], status: str | None = None) -> int:
    found = await connection.execute(
        "SELECT count(*) FROM procrastinate_jobs WHERE %s::text IS NULL OR status::text = %s", (status, status)
    )
    row = await found.fetchone()
    assert row is not None
    return int(row[0])
