"""How the fleet's queue reaches its tables: through a lost connection, a restart, a failover.

By itself procrastinate gives up what a lost connection interrupts; here it is repeated, as the store's own
transactions are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import psycopg
from procrastinate import PsycopgConnector, sql
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncConnection, errors
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from runner.store import lease
from runner.store.database import RECONNECT_S

MOST_CONNECTIONS = 4
# How long it leaves a database alone that has just failed it.
AGAIN_S = 2.0


def connector_to(conninfo: str, connect: Mapping[str, Any]) -> PsycopgConnector:
    """`connect` goes to the driver."""
    keepalives = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
    return Patient(
        conninfo=conninfo,
        min_size=1,
        max_size=MOST_CONNECTIONS,
        configure=_end_when_idle,
        kwargs={"application_name": "runner-queue", "tcp_user_timeout": 60_000, **keepalives, **connect},
    )


def _was_lost(error: BaseException) -> bool:
    """The connection, or there was none to be had."""
    return isinstance(error, ConnectorException) and isinstance(
        error.__cause__,
        psycopg.OperationalError | errors.IdleInTransactionSessionTimeout | errors.ReadOnlySqlTransaction,
    )


_RECONNECTS = AsyncRetrying(
    retry=retry_if_exception(_was_lost),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    stop=stop_after_delay(RECONNECT_S),
    reraise=True,
)


class Patient(PsycopgConnector):
    """Repeats what a lost connection has interrupted, as the store does: by itself the queue gives up at once, and
    what it could not say about a job it never says.

    All of it may be repeated but the taking of a job: a second try would take a second job, and nobody would know of
    the first. There the queue begins anew, and what it had taken is found by a sweep.
    """

    async def execute_query_async(self, query: str, **told: Any) -> None:
        try:
            await _RECONNECTS.copy()(super().execute_query_async, query, **told)
        except ConnectorException as problem:
            # A job that is gone is finished: by the try before, by another's sweep, or with the queue's tables.
            if query != sql.queries["finish_job"] or not isinstance(problem.__cause__, errors.RaiseException):
                raise

    async def execute_query_one_async(self, query: str, **told: Any) -> dict[str, Any]:
        once = super().execute_query_one_async
        if query == sql.queries["fetch_job"]:
            taken: dict[str, Any] = await once(query, **told)
            return taken
        found: dict[str, Any] = await _RECONNECTS.copy()(once, query, **told)
        return found

    async def execute_query_all_async(self, query: str, **told: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await _RECONNECTS.copy()(super().execute_query_all_async, query, **told)
        return found

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Until cancelled. Without it workers look by themselves, so it is no hurry."""
        while True:
            try:
                await super().listen_notify(on_notification, channels)
            except ConnectorException:
                await anyio.sleep(AGAIN_S)


async def _end_when_idle(connection: AsyncConnection[Any]) -> None:
    """A process that was stopped in mid-transaction keeps its locks no longer than its lease, here as in the store:
    the sweep of the others would wait behind them for ever."""
    await connection.execute(f"SET idle_in_transaction_session_timeout = {lease.LEASE_US // 1000}")
    await connection.commit()
