"""Budgets in the store: looked at under their locks and changed in the transaction that spends.

Every call on the bill changes them in the commit that books it, whether a cap is set or not: a cap that is set later
counts what was spent before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from runner.domain.budget import (
    DAY,
    EVERYTHING,
    MONTH,
    MONTH_LETTERS,
    Account,
    BudgetKey,
    Changes,
    Level,
    Payer,
    job_scope,
)
from runner.store import budget_queries, prepared


def open_account(
    connection: Connection, payer: Payer, days: Iterable[str], changes: Changes | None = None
) -> Account:
    """The budgets of these days, locked until the transaction ends; `changes` are its own so far."""
    keys = {key for day in days for key in payer.keys(day)}
    rows = _rows(connection, keys, lock=True)
    missing = sorted(keys - rows.keys())
    if missing:
        insert_empty(connection, missing)
        rows = _rows(connection, keys, lock=True)
    return Account(payer, [_level_in(rows, key) for key in keys], changes)


def close_account(connection: Connection, account: Account) -> None:
    """Write down what the transaction has changed."""
    changed = [
        {
            "of_scope": key.scope,
            "of_period": key.period,
            "more_spent": change.spent_pico,
            "more_committed": change.committed_pico,
        }
        for key, change in account.by_key().items()
    ]
    if changed:
        prepared.execute(connection, budget_queries.change_budget(), changed)


def change(connection: Connection, payer: Payer, changes: Changes) -> None:
    """Carry out changes that need no room."""
    days = [day for day, one in changes.by_day.items() if one.spent_pico or one.committed_pico]
    if days:
        close_account(connection, open_account(connection, payer, days, changes))


def levels(connection: Connection, payer: Payer, day: str) -> list[Level]:
    """How the budgets of a day stand, without a lock."""
    rows = _rows(connection, payer.keys(day), lock=False)
    return [_level_in(rows, key) for key in payer.keys(day)]


def room(connection: Connection, payer: Payer, day: str) -> int | None:
    """What the tightest cap leaves, None without one."""
    return Account(payer, levels(connection, payer, day)).room_pico(day)


def set_cap(connection: Connection, key: BudgetKey, cap_pico: int | None) -> None:
    insert_empty(connection, [key])
    connection.execute(budget_queries.cap_budget(key.scope, key.period, cap_pico))


def set_job_caps(connection: Connection, job: str, day_pico: int | None, month_pico: int | None) -> None:
    """What the job says of itself goes for all its runs, whoever works on them."""
    for period, cap_pico in ((DAY, day_pico), (MONTH, month_pico)):
        key = BudgetKey(job_scope(job), period)
        if cap_pico is not None or _rows(connection, [key], lock=False):
            set_cap(connection, key, cap_pico)


def standing(connection: Connection, day: str) -> list[Level]:
    """Every cap of a job or of the whole store, and what is spent of it on this day and in its month."""
    found = {
        BudgetKey(row.scope, row.period): row
        for row in connection.execute(budget_queries.budgets_of_period([day, day[:MONTH_LETTERS]]))
    }
    told = []
    for cap in connection.execute(budget_queries.capped()):
        key = BudgetKey(cap.scope, day if cap.period == DAY else day[:MONTH_LETTERS])
        told.append(_level(key, cap.cap_pico, found.get(key)))
    return sorted(told, key=lambda level: (level.key.scope != EVERYTHING, level.key))


def insert_empty(connection: Connection, keys: Sequence[BudgetKey]) -> None:
    """Rows for budgets of which nothing was spent yet."""
    empty = {"cap_pico": None, "spent_pico": 0, "committed_pico": 0}
    rows = [{"scope": key.scope, "period": key.period, **empty} for key in keys]
    connection.execute(budget_queries.insert_budgets(connection.dialect.name), rows)


def _rows(connection: Connection, keys: Iterable[BudgetKey], *, lock: bool) -> dict[BudgetKey, Any]:
    """These rows and those that hold their caps."""
    query = budget_queries.locked_budgets() if lock else budget_queries.budgets_among()
    found = prepared.execute(connection, query, _with_caps(frozenset(keys)))
    return {BudgetKey(row.scope, row.period): row for row in found}


@lru_cache(maxsize=1_000)
def _with_caps(keys: frozenset[BudgetKey]) -> dict[str, list[str]]:
    wanted = {one for key in keys for one in (key, key.cap_key)}
    return {"scopes": sorted({key.scope for key in wanted}), "periods": sorted({key.period for key in wanted})}


def _level_in(rows: Mapping[BudgetKey, Any], key: BudgetKey) -> Level:
    cap = rows.get(key.cap_key)
    return _level(key, None if cap is None else cap.cap_pico, rows.get(key))


def _level(key: BudgetKey, cap_pico: int | None, row: Any) -> Level:
    return Level(
        key=key,
        cap_pico=cap_pico,
        spent_pico=0 if row is None else row.spent_pico,
        committed_pico=0 if row is None else row.committed_pico,
    )
