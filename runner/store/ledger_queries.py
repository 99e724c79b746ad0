"""Every statement of the books, one named function each: the ledger, what it sums to by day, its corrections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Insert, Select, func, insert, select

from runner.store.among import among
from runner.store.tables import fires, ledger, runs, schedules, spending

# What a line of the ledger adds to its day's sums.
SUMS = (
    "calls",
    "rows",
    "uncosted",
    "unbounded",
    "input_tokens",
    "cache_write_5m",
    "cache_write_1h",
    "cache_read",
    "output_tokens",
    "web_searches",
    "cost_pico",
    "bound_pico",
    "unbatched_pico",
    "list_pico",
)


@cache
def insert_lines() -> Insert:
    return insert(ledger)


@cache
def bookings_among() -> Select[Any]:
    return select(ledger.c.key).where(among(ledger.c.key, "keys"))


@cache
def add_to_spending(dialect: str) -> Any:
    """Add to the sums of a day, which begin with the first line of it."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_of
    else:  # loading this one takes a while
        from sqlalchemy.dialects.postgresql import insert as insert_of  # type: ignore[assignment]
    statement = insert_of(spending)
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in spending.primary_key],
        set_={name: spending.c[name] + statement.excluded[name] for name in SUMS},
    )


LINE = tuple(column.name for column in ledger.columns if column.name != "id")


def line_of(key: str) -> Select[Any]:
    return select(ledger).where(ledger.c.key == key)


# --- reading


def ledger_of(run: int, after_id: int, limit: int) -> Select[Any]:
    return select(ledger).where(ledger.c.run == run, ledger.c.id > after_id).order_by(ledger.c.id).limit(limit)


def spending_of(run: int) -> Select[Any]:
    return select(spending).where(spending.c.run == run)


def spending_since(day: int) -> Select[Any]:
    return select(spending).where(spending.c.day >= day)


def runs_spending_since(day: int) -> Select[Any]:
    """The runs that spent something, with what they are reported by."""
    spenders = select(spending.c.run).where(spending.c.day >= day)
    schedule = (
        select(func.min(schedules.c.name))
        .join(fires, fires.c.schedule == schedules.c.id)
        .where(fires.c.run == runs.c.id)
        .scalar_subquery()
        .label("schedule")
    )
    return select(runs.c.id, runs.c.label, runs.c.job_name, runs.c.job, runs.c.workspace, schedule).where(
        runs.c.id.in_(spenders)
    )


# --- corrections


def lines_to_price(run: int, kinds: Sequence[str], after_id: int, limit: int) -> Select[Any]:
    """Lines of calls that were answered, a page of them."""
    return (
        select(ledger)
        .where(ledger.c.run == run, ledger.c.id > after_id, ledger.c.kind.in_(kinds), ledger.c.usage.is_not(None))
        .order_by(ledger.c.id)
        .limit(limit)
    )


def corrections_of(ids: Sequence[int]) -> Select[Any]:
    """What these lines were corrected by so far."""
    return (
        select(
            ledger.c.corrects,
            func.count().label("number"),
            *(func.sum(ledger.c[name]).label(name) for name in ("cost_pico", "unbatched_pico", "list_pico")),
        )
        .where(ledger.c.corrects.in_(ids))
        .group_by(ledger.c.corrects)
    )
