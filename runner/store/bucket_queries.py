"""The statements of the limits' rows, one named function each: it returns the statement and runs nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, Update, or_, select, update

from runner.store.queries import insert_absent
from runner.store.tables import buckets


def add(dialect: str) -> Any:
    return insert_absent(buckets, dialect)


def rows_of(scopes: Collection[str]) -> Select[Any]:
    return select(buckets).where(buckets.c.scope.in_(scopes))


def row_to_change(scope: str) -> Select[Any]:
    return select(buckets).where(buckets.c.scope == scope).with_for_update()


def change(scope: str, **values: Any) -> Update:
    return update(buckets).where(buckets.c.scope == scope).values(**values)


def pause(scope: str, until_us: int) -> Update:
    """The later word wins."""
    return (
        update(buckets)
        .where(
            buckets.c.scope == scope,
            or_(buckets.c.paused_until_us.is_(None), buckets.c.paused_until_us < until_us),
        )
        .values(paused_until_us=until_us)
    )
