"""From every source format to every format of results and back: what both can hold comes through as it was."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.domain.result import ExportedRow
from runner.files.sinks.csv_table import CsvTable, inert
from runner.files.sinks.lines import Lines, column_line
from runner.files.sinks.parquet_table import Kinds, ParquetTable
from runner.files.sinks.targets import Targets
from runner.files.source import open_input
from tests.files.test_sinks import COLUMNS, exported
from tests.files.test_sources import FORMS, ROWS, lines_of, written

NAMES = ["id", "text"]
SINKS = ["jsonl", "json", "csv", "tsv.gz", "parquet", "jsonl.zst"]


def write(path: Path, rows: list[ExportedRow], names: list[str], *, raw: bool = True) -> dict[str, str]:
    """Results in the format of the name; the columns that became text, and why."""
    kind = path.name.split(".")[1]
    kinds = Kinds(names)
    if kind == "parquet":
        kinds.learn(COLUMNS.values(row, names) for row in rows)
    with Targets(str(path), 1_000) as targets:
        file = targets.next_file()
        if kind.startswith("json"):
            lines = Lines(file, column_line(COLUMNS, names), array=kind == "json")
            for row in rows:
                lines.write(row)
            lines.end()
        else:
            delimiter = "\t" if kind == "tsv" else ","
            table = (
                ParquetTable(file, kinds)
                if kind == "parquet"
                else CsvTable(file, names, delimiter=delimiter, raw=raw)
            )
            for row in rows:
                table.write(COLUMNS.values(row, names))
            table.end()
        targets.complete()
    return kinds.as_text


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]}-{form[1].__name__}")
def test_texts_come_through_every_pair_of_formats(
    tmp_path: Path, form: tuple[str, Callable[[list[dict[str, Any]]], bytes]], sink: str
) -> None:
    name, make = form
    lines = lines_of(open_input(str(written(tmp_path, name, make(ROWS)))))
    assert write(tmp_path / f"out.{sink}", [exported(n, line) for n, line in enumerate(lines)], NAMES) == {}
    assert [json.loads(line) for line in lines_of(open_input(str(tmp_path / f"out.{sink}")))] == ROWS


@pytest.mark.parametrize("sink", ["csv", "tsv.gz"])
def test_what_would_be_a_formula_comes_back_with_its_apostrophe_and_nothing_else_changes(
    tmp_path: Path, sink: str
) -> None:
    write(tmp_path / f"out.{sink}", [exported(n, row) for n, row in enumerate(ROWS)], NAMES, raw=False)
    back = [json.loads(line) for line in lines_of(open_input(str(tmp_path / f"out.{sink}")))]
    assert [row["text"] for row in back] == [inert(row["text"]) for row in ROWS]


TYPED = pa.table(
    {
        "none": pa.array([None, None], pa.string()),
        "yes": pa.array([True, None]),
        "int": pa.array([2**63 - 1, -(2**63)]),
        "float": pa.array([1.5, 1e-300]),
        "digits": pa.array([Decimal("12345678901234567890.10"), None]),
        "day": pa.array([date(2026, 2, 28), None]),
        "at": pa.array([datetime(2026, 11, 21, 8, 0, 0, 1, tzinfo=UTC), None]),
        "list": pa.array([[1, None, 3], []]),
        "map": pa.array([{"a": [{"b": "ü\u2028"}]}, {"a": None}]),
        "text": pa.array(["=1+1\n\x00", "null"]),
    }
)
AS_JSON: list[dict[str, Any]] = [
    {
        "none": None, "yes": True, "int": 2**63 - 1, "float": 1.5, "digits": "12345678901234567890.10",
        "day": "2026-02-28", "at": "2026-11-21T08:00:00.000001Z", "list": [1, None, 3],
        "map": {"a": [{"b": "ü\u2028"}]}, "text": "=1+1\n\x00",
    },
    {
        "none": None, "yes": None, "int": -(2**63), "float": 1e-300, "digits": None, "day": None, "at": None,
        "list": [], "map": {"a": None}, "text": "null",
    },
]  # fmt: skip


def typed_parquet(_rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    parquet.write_table(TYPED, data)
    return data.getvalue()


WITH_KINDS = [form for form in FORMS if "csv" not in form[0] and "tsv" not in form[0] and "parquet" not in form[0]]
TYPED_FORMS = [*WITH_KINDS, ("in.parquet", typed_parquet)]


def as_cell(value: Any) -> str:
    """What a table of texts has of a value."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("form", TYPED_FORMS, ids=lambda form: f"{form[0]}-{form[1].__name__}")
def test_values_of_every_kind_come_through_every_pair_of_formats_as_far_as_these_have_kinds(
    tmp_path: Path, form: tuple[str, Callable[[list[dict[str, Any]]], bytes]], sink: str
) -> None:
    name, make = form
    lines = lines_of(open_input(str(written(tmp_path, name, make(AS_JSON)))))
    names = list(AS_JSON[0])
    assert write(tmp_path / f"out.{sink}", [exported(n, line) for n, line in enumerate(lines)], names) == {}
    back = [json.loads(line) for line in lines_of(open_input(str(tmp_path / f"out.{sink}")))]
    has_kinds = not sink.startswith(("csv", "tsv"))
    expected = AS_JSON if has_kinds else [{key: as_cell(value) for key, value in row.items()} for row in AS_JSON]
    assert back == expected


CANNOT_KEEP = [
    ("huge", [10**30, 1], "integers beyond 64 bits", [str(10**30), "1"]),
    ("kinds", [1, "a"], "values of several kinds", ["1", "a"]),
    ("empty", [{}, {}], "maps without keys", ["{}", "{}"]),
    ("digits", [9007199254740993, 0.5], "values of several kinds", ["9007199254740993", "0.5"]),
]


@pytest.mark.parametrize(("name", "values", "told", "kept"), CANNOT_KEEP)
@pytest.mark.parametrize("form", WITH_KINDS, ids=lambda form: f"{form[0]}-{form[1].__name__}")
def test_what_parquet_cannot_keep_is_told_and_written_as_text_and_json_keeps_it(
    tmp_path: Path, form: Any, name: str, values: list[Any], told: str, kept: list[str]
) -> None:
    source, make = form
    lines = lines_of(open_input(str(written(tmp_path, source, make([{name: value} for value in values])))))
    rows = [exported(n, line) for n, line in enumerate(lines)]
    assert write(tmp_path / "out.parquet", rows, [name]) == {name: told}
    assert [json.loads(line)[name] for line in lines_of(open_input(str(tmp_path / "out.parquet")))] == kept
    assert write(tmp_path / "out.jsonl", rows, [name]) == {}
    assert [json.loads(line)[name] for line in lines_of(open_input(str(tmp_path / "out.jsonl")))] == values


VALUES = (
    b'{"null": null, "yes": true, "n": 9007199254740993, "f": 1.50, "l": [1, null],'
    b' "m": {"a": [{"b": "\xc3\xbc", "c": 0.10}]}}'
)
NAMES_OF_VALUES = ["null", "yes", "n", "f", "l", "m"]


@pytest.mark.parametrize("sink", ["jsonl", "json", "parquet"])
def test_values_of_every_kind_come_through_formats_that_have_kinds(tmp_path: Path, sink: str) -> None:
    assert write(tmp_path / f"out.{sink}", [exported(0, VALUES)], NAMES_OF_VALUES) == {}
    (line,) = lines_of(open_input(str(tmp_path / f"out.{sink}")))
    assert json.loads(line) == json.loads(VALUES)
    if sink != "parquet":
        assert b"1.50" in line


def test_a_table_of_texts_has_json_where_it_has_no_kinds(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", [exported(0, VALUES)], NAMES_OF_VALUES)
    (line,) = lines_of(open_input(str(tmp_path / "out.csv")))
    assert json.loads(line) == {
        "null": "",
        "yes": "true",
        "n": "9007199254740993",
        "f": "1.50",
        "l": "[1, null]",
        "m": '{"a": [{"b": "ü", "c": 0.10}]}',
    }
