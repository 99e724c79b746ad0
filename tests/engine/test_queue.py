"""The fleet's queue on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import anyio
import psycopg
import pytest

from runner.engine import queue as queue_module
from runner.engine.queue import Queue

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
