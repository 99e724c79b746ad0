"""Inserts of many rows at once, handed to the driver as they are.

SQLAlchemy still writes each statement, once; what is passed by is its work for each value of each row, which costs
more than the database does. It has nothing to do here: our values are integers, text, bytes, booleans and None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert

from runner.store.queries import insert_absent
from runner.store.tables import answers, ledger, metadata, results, sends

Rows = Iterable[Mapping[str, Any]]


def insert_results(connection: Connection, rows: Rows) -> None:
    _insert(connection, results, rows, absent=False)


def insert_answers(connection: Connection, rows: Rows) -> None:
    """Those of rows that have one already are passed over."""
    _insert(connection, answers, rows, absent=True)


def insert_ledger(connection: Connection, rows: Rows) -> None:
    """A line whose key is there already is passed over."""
    _insert(connection, ledger, rows, absent=True)


def insert_sends(connection: Connection, rows: Rows) -> None:
    _insert(connection, sends, rows, absent=False)


def _insert(connection: Connection, table: Table, rows: Rows, *, absent: bool) -> None:
    """Rows that all name the same columns."""
    left = iter(rows)
    if (first := next(left, None)) is not None:
        driver: Any = type(connection.dialect)
        statement, values_of = _prepared(table.name, tuple(first), driver, absent)
        connection.exec_driver_sql(statement, [values_of(first), *map(values_of, left)])


Values = Callable[[Mapping[str, Any]], tuple[Any, ...]]


@cache
def _prepared(name: str, columns: tuple[str, ...], driver: Any, absent: bool) -> tuple[str, Values]:
    """The statement in the driver's own form, and a row's values in the order in which it takes them."""
    table = metadata.tables[name]
    plain = insert_absent(table, driver.name) if absent else insert(table)
    dialect: Dialect = driver(paramstyle=_BY_PLACE[driver.name])
    compiled = plain.inline().compile(dialect=dialect, column_keys=list(columns))
    return str(compiled), itemgetter(*compiled.positiontup or ())


# How each driver takes values by their place rather than by their name.
_BY_PLACE = {"sqlite": "qmark", "postgresql": "format"}
