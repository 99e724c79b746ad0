"""Other people's databases: the rows of a query as JSON lines, and results put into a table.

Parameters are bound, never put into the text of a statement; messages never hold a URL, which has a password in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from runner.domain.nearest import did_you_mean
from runner.errors import InputInvalid, JobInvalid, StoreFault

ROWS_AT_ONCE = 1_000
# Any name will do that people write for these databases.
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def database_url(url: str) -> str:
    """The URL with the driver that is installed here."""
    scheme, mark, rest = url.partition("://")
    return f"{_DRIVERS.get(scheme, scheme)}{mark}{rest}"


def bind_names(sql: str) -> list[str]:
    """The `:names` of a statement, in their order."""
    return list(text(sql)._bindparams)


def bound_values(sql: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the statement's names stand for. Raises JobInvalid for one that has no value."""
    names = bind_names(sql)
    missing = next((name for name in names if name not in values), None)
    if missing is not None:
        raise JobInvalid(
            f"{where} uses :{missing}, and there is no such parameter{did_you_mean(missing, values)}.",
            name="missing-param",
            hints=(f"fix: -p {missing}=VALUE, or params: {{ {missing}: ... }} in the job file",),
        )
    return {name: values[name] for name in names}


def sql_rows(url: str, sql: str, values: Mapping[str, Any]) -> Iterator[bytes]:
    """One JSON line a row, streamed."""
    with _connected(url, "input") as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE)
        result = streaming.execute(text(sql), bound_values(sql, values, "input.sql"))
        if not result.returns_rows:
            raise InputInvalid("input.sql gives no rows.", hints=("fix: a statement that begins with select",))
        names = _names(list(result.keys()))
        for row in result:
            yield _line(names, row)


def write_rows(url: str, sql: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """The statement done for every row, all of them or none; how many."""
    written = 0
    with _connected(url, "output") as connection, connection.begin():
        statement = text(sql)
        for some in _batched(rows, ROWS_AT_ONCE):
            connection.execute(statement, [dict(row) for row in some])
            written += len(some)
    return written


def check_reachable(url: str) -> None:
    """Raises StoreFault where the database for results does not answer, JobInvalid where the URL is none."""
    engine = _engine(url, "output")
    try:
        with engine.connect():
            pass
    except SQLAlchemyError as problem:
        sentence = f"output.database cannot be reached: {_first_line(problem)}."
        raise StoreFault(sentence, name="output-sql", hints=("nothing was sent.",)) from None
    finally:
        engine.dispose()


def _batched(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    some: list[Mapping[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


@contextmanager
def _connected(url: str, section: str) -> Iterator[Connection]:
    engine = _engine(url, section)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as problem:
        sentence = f"{section}.sql could not be run: {_first_line(problem)}."
        if section == "input":
            raise InputInvalid(sentence, name="input-sql") from None
        hints = ("every answer is saved; nothing was written", "fix the statement, then the same command again")
        raise StoreFault(sentence, name="output-sql", hints=hints) from None
    finally:
        engine.dispose()


def _engine(url: str, section: str) -> Engine:
    try:
        return create_engine(database_url(url))
    except (SQLAlchemyError, ImportError, ValueError) as problem:
        raise JobInvalid(f"{section}.database is no URL that can be used: {type(problem).__name__}.") from None


def _first_line(problem: SQLAlchemyError) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]


def _names(names: list[str]) -> list[str]:
    double = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if double is not None:
        raise InputInvalid(
            f"input.sql gives two columns named {double!r}.", hints=("fix: select ... as another_name",)
        )
    return names


def _plain(value: Any) -> Any:
    """What the encoder does not know: text, as the database's driver says it."""
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def _line(names: list[str], row: Any) -> bytes:
    values = [format(value, "f") if isinstance(value, Decimal) else value for value in row]
    return _encode(dict(zip(names, values, strict=True)))
