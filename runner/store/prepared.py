"""The statements of the group commit, handed to the driver as they are.

SQLAlchemy still writes each of them, once; what is passed by is its work for every execution and for every value of
every row, which costs more than the database does. It has nothing to do here: our values are integers, text, bytes,
booleans and None, and lists for `among`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Table, insert

from runner.store.among import Listed
from runner.store.queries import insert_absent
from runner.store.tables import answers, ledger, results, sends

Row = Mapping[str, Any]
Values = Callable[[Row], tuple[Any, ...]]


def execute(connection: Connection, statement: Any, values: Row | Sequence[Row]) -> CursorResult[Any]:
    """Run a statement that is made once and for all; of its values all come here. What it finds comes as the driver
    gives it."""
    driver: Any = type(connection.dialect)
    text, values_of = _prepared(statement, driver, ())
    if isinstance(values, Mapping):
        return connection.exec_driver_sql(text, values_of(values))
    return connection.exec_driver_sql(text, [values_of(row) for row in values])


def insert_results(connection: Connection, rows: Iterable[Row]) -> None:
    _insert(connection, results, rows, absent=False)


def insert_answers(connection: Connection, rows: Iterable[Row]) -> None:
    """Those of rows that have one already are passed over."""
    _insert(connection, answers, rows, absent=True)


def insert_ledger(connection: Connection, rows: Iterable[Row]) -> None:
    """A line whose key is there already is passed over."""
    _insert(connection, ledger, rows, absent=True)


def insert_sends(connection: Connection, rows: Iterable[Row]) -> None:
    _insert(connection, sends, rows, absent=False)


def _insert(connection: Connection, table: Table, rows: Iterable[Row], *, absent: bool) -> None:
    """Rows that all name the same columns."""
    left = iter(rows)
    if (first := next(left, None)) is not None:
        driver: Any = type(connection.dialect)
        text, values_of = _prepared(_insert_of(table, driver.name, absent), driver, tuple(first))
        connection.exec_driver_sql(text, [values_of(first), *map(values_of, left)])


@cache
def _insert_of(table: Table, dialect: str, absent: bool) -> Any:
    return (insert_absent(table, dialect) if absent else insert(table)).inline()


@cache
def _prepared(statement: Any, driver: Any, columns: tuple[str, ...]) -> tuple[str, Values]:
    """The statement in the driver's own form, and a row's values in the order in which it takes them."""
    dialect: Dialect = driver(paramstyle=_BY_PLACE[driver.name])
    compiled = statement.compile(dialect=dialect, column_keys=list(columns) or None)
    return str(compiled), _in_order(compiled, dialect)


def _in_order(compiled: Any, dialect: Dialect) -> Values:
    names = compiled.positiontup or []
    own = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    lists = {name: kind for name in names if isinstance(kind := compiled.binds[name].type, Listed)}
    if not own and not lists and len(names) > 1:
        return itemgetter(*names)

    def value(row: Row, name: str) -> Any:
        if name in own:
            return own[name]
        return lists[name].process_bind_param(row[name], dialect) if name in lists else row[name]

    return lambda row: tuple([value(row, name) for name in names])


# How each driver takes values by their place rather than by their name.
_BY_PLACE = {"sqlite": "qmark", "postgresql": "format"}
