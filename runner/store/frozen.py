"""PostgreSQL and processes that were stopped in mid-transaction: their locks end with the lease.

The server ends what stands idle in a transaction by itself. But where a driver sends several statements in one go, it
waits for the rest of them, and calls that active: such a transaction, and its locks on budgets that all share, would
last as long as the process is stopped. So nobody waits for a lock for longer than a lease; who did ends the sessions
of ours that have said nothing for as long, and begins its own transaction anew.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text

from runner.store import lease

# What PostgreSQL says to who has waited too long for a lock.
LOCK_TIMEOUT = "55P03"

_END_SILENT = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() "
    "AND application_name = 'runner' AND wait_event = 'ClientRead' AND state <> 'idle' "
    "AND greatest(query_start, state_change) < clock_timestamp() - make_interval(secs => :lease_s)"
)


def bound_waits(dbapi_connection: Any) -> None:
    """For a new connection: how long it may stand idle in a transaction, and wait for a lock."""
    with dbapi_connection.cursor() as cursor:
        for setting in ("idle_in_transaction_session_timeout", "lock_timeout"):
            cursor.execute(f"SET {setting} = {lease.LEASE_US // 1000}")
    dbapi_connection.commit()


def end_frozen(engine: Engine) -> None:
    """End the sessions of processes that were stopped in mid-transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(_END_SILENT, {"lease_s": lease.LEASE_US / 1e6})
