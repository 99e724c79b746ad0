"""Every statement about budgets, one named function each.

Rows are locked in one order, so that nobody waits in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, Update, bindparam, select, update

from runner.store.among import among
from runner.store.queries import insert_absent
from runner.store.tables import budgets


@cache
def budgets_among() -> Select[Any]:
    """The rows of some scopes in some periods: two lists, since SQLite reads the whole table for a list of pairs."""
    wanted = (among(budgets.c.scope, "scopes"), among(budgets.c.period, "periods"))
    return select(budgets).where(*wanted).order_by(budgets.c.scope, budgets.c.period)


@cache
def locked_budgets() -> Select[Any]:
    """The same, nobody else's until the transaction ends (SQLite's writer is alone anyway)."""
    return budgets_among().with_for_update()


def insert_budgets(dialect: str) -> Any:
    return insert_absent(budgets, dialect)


def cap_budget(scope: str, period: str, cap_pico: int | None) -> Update:
    return update(budgets).where(budgets.c.scope == scope, budgets.c.period == period).values(cap_pico=cap_pico)


@cache
def change_budget() -> Update:
    return (
        update(budgets)
        .where(budgets.c.scope == bindparam("of_scope"), budgets.c.period == bindparam("of_period"))
        .values(
            spent_pico=budgets.c.spent_pico + bindparam("more_spent"),
            committed_pico=budgets.c.committed_pico + bindparam("more_committed"),
        )
    )


def capped() -> Select[Any]:
    """Standing caps of jobs and of everything."""
    return (
        select(budgets)
        .where(budgets.c.cap_pico.is_not(None), budgets.c.scope.not_like("run:%"))
        .order_by(budgets.c.scope, budgets.c.period)
    )


def budgets_of_period(periods: Sequence[str]) -> Select[Any]:
    return select(budgets).where(budgets.c.period.in_(periods)).order_by(budgets.c.scope, budgets.c.period)
