"""Results as parquet. What kind a column is, the rows say: they are looked through once before they are written.

Numbers, texts, truth, lists and maps keep their kinds. A column of several kinds, of integers beyond 64 bits, or of
maps without keys is written as text, and that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from runner.errors import UsageInvalid
from runner.files.sinks.columns import Literal
from runner.files.sinks.csv_table import as_json
from runner.files.sinks.writing import Bytes

# Rows that are turned into columns together.
GROUP_ROWS = 4_096


class Kinds:
    """The kind of each column, and which of them could not keep theirs."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self._arrow = _library()
        self._kinds = [self._arrow.null()] * len(columns)
        self.as_text: dict[str, str] = {}

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Look through all rows, a group at a time."""
        iterator = iter(rows)
        while group := list(islice(iterator, GROUP_ROWS)):
            for number, name in enumerate(self.columns):
                if name not in self.as_text:
                    self._learn(number, name, [plain(row[number]) for row in group])

    def _learn(self, number: int, name: str, values: list[Any]) -> None:
        arrow = self._arrow
        try:
            found = arrow.array(values).type
            schemas = [arrow.schema([arrow.field("x", kind)]) for kind in (self._kinds[number], found)]
            merged = arrow.unify_schemas(schemas, promote_options="permissive").field("x").type
            if _has_empty_map(arrow, merged):
                self.as_text[name] = "maps without keys"
            elif _loses_digits(arrow, self._kinds[number], found, merged):
                self.as_text[name] = "integers and fractions beside each other"
            self._kinds[number] = merged
        except OverflowError:
            self.as_text[name] = "integers beyond 64 bits"
        except arrow.ArrowException:
            self.as_text[name] = "values of several kinds"

    @property
    def schema(self) -> Any:
        arrow = self._arrow
        fields = []
        for name, kind in zip(self.columns, self._kinds, strict=True):
            told = arrow.string() if name in self.as_text or arrow.types.is_null(kind) else kind
            fields.append(arrow.field(name, told))
        return arrow.schema(fields)


class ParquetTable:
    """Writes rows of columns whose kinds are known."""

    def __init__(self, file: Bytes, kinds: Kinds) -> None:
        from pyarrow import parquet

        self._kinds = kinds
        self._arrow = _library()
        self._schema = kinds.schema
        self._writer = parquet.ParquetWriter(
            self._arrow.PythonFile(_Stream(file), mode="w"), self._schema, compression="zstd"
        )
        self._rows: list[Sequence[Any]] = []

    def write(self, values: Sequence[Any]) -> None:
        self._rows.append(values)
        if len(self._rows) == GROUP_ROWS:
            self._put()

    def end(self) -> None:
        self._put()
        self._writer.close()

    def _put(self) -> None:
        if not self._rows:
            return
        arrays = []
        for number, field in enumerate(self._schema):
            values = [plain(row[number]) for row in self._rows]
            if field.name in self._kinds.as_text:
                values = [_text(value) for value in values]
            arrays.append(self._arrow.array(values, type=field.type))
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


class _Stream:
    """As much of a file as arrow wants to see; it is closed by whoever opened it."""

    closed = False

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self._at = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing is held back here."""


def plain(value: Any) -> Any:
    """Numbers as numbers; half a surrogate pair is no character."""
    if isinstance(value, Literal):
        return float(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else as_json(value)


def _has_empty_map(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_map(arrow, field.type) for field in kind)
    return bool(arrow.types.is_list(kind)) and _has_empty_map(arrow, kind.value_type)


def _loses_digits(arrow: Any, before: Any, found: Any, merged: Any) -> bool:
    """Integers that became fractions may have lost their last digits."""
    whole = any(arrow.types.is_integer(kind) for kind in (before, found))
    return whole and bool(arrow.types.is_floating(merged))


def _library() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise UsageInvalid(
            "parquet needs pyarrow, which is not installed.",
            name="missing-extra",
            hints=("fix: pip install 'claude-job-runner[parquet]'",),
        ) from None
    return pa
