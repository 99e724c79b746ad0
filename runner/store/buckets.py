"""The limits that all processes of a store share: a row a scope, read, taken from, paused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection

from runner.domain.limits import Amounts, KnownLimits, LimitSource, RateLimits
from runner.domain.slices import SharedLevel, Take, Taken, taken
from runner.store import bucket_queries


def look(connection: Connection, scopes: Collection[str]) -> dict[str, SharedLevel]:
    """The rows that there are."""
    return {row.scope: _value(row) for row in connection.execute(bucket_queries.rows_of(scopes))}


def take(connection: Connection, takes: Mapping[str, Take], now_us: int) -> dict[str, Taken]:
    """Take from each row, in one order for all processes.

    A transaction whose answer was lost is done again, and forfeits or grants at most one slice.
    """
    given = {}
    for scope in sorted(takes):
        row, given[scope] = taken(_row(connection, scope), takes[scope], now_us)
        connection.execute(bucket_queries.change(scope, **_columns(row)))
    return given


def pause(connection: Connection, scope: str, until_us: int) -> None:
    _add(connection, scope)
    connection.execute(bucket_queries.pause(scope, until_us))


def _row(connection: Connection, scope: str) -> SharedLevel:
    """Locked until the transaction ends; made where there is none."""
    query = bucket_queries.row_to_change(scope)
    row = connection.execute(query).first()
    if row is None:
        _add(connection, scope)
        row = connection.execute(query).one()
    return _value(row)


def _add(connection: Connection, scope: str) -> None:
    empty = {"scope": scope, **_columns(SharedLevel())}
    connection.execute(bucket_queries.add(connection.dialect.name), empty)


def _columns(row: SharedLevel) -> dict[str, Any]:
    """All but the pause, which has a statement of its own."""
    return {
        **row.known.limits._asdict(),
        "source": row.known.source,
        **row.levels._asdict(),
        "at_us": row.at_us,
        "window_us": row.window_us,
        "takers": row.takers,
        "takers_before": row.takers_before,
    }


def _value(row: Any) -> SharedLevel:
    return SharedLevel(
        known=KnownLimits(
            limits=RateLimits(row.rpm, row.itpm, row.otpm),
            source=LimitSource(row.source) if row.source else None,
        ),
        levels=Amounts(row.requests, row.input_tokens, row.output_tokens),
        at_us=row.at_us,
        paused_until_us=row.paused_until_us,
        window_us=row.window_us,
        takers=row.takers,
        takers_before=row.takers_before,
    )
