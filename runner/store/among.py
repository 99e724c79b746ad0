"""`column` is one of a list of values, as a question whose text is the same for every length of the list.

The list goes to the database as one value. With a placeholder for each of a thousand, the text has to be written and
read anew each time, which costs several times as much as looking the values up.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ARRAY, Boolean, ColumnElement, Dialect, Text, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """`column` is one of the values that come as a list under `name`."""
    return _Among(column, bindparam(name, type_=Listed(column.type)))


class Listed(TypeDecorator[Any]):
    """A list of values as one: an array for PostgreSQL, JSON for SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        plain: TypeEngine[Any] = ARRAY(self.item) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(plain)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return list(value) if dialect.name == "postgresql" else msgspec.json.encode(value).decode()


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """As it stands. Where booleans are numbers it would else be compared with 1, which no index can answer."""
        del against
        return self


@compiles(_Among, "sqlite")
def _in_sqlite(element: _Among, compiler: Any, **more: Any) -> str:
    column, values = element.clauses
    told = compiler.process(values, **more)
    return f"{compiler.process(column, **more)} IN (SELECT value FROM json_each({told}))"  # noqa: S608 - no values in it


@compiles(_Among, "postgresql")
def _in_postgresql(element: _Among, compiler: Any, **more: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **more)} = ANY ({compiler.process(values, **more)})"
