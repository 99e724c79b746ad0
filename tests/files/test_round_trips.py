"""From every source format to every format of results and back: what both can hold comes through as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
