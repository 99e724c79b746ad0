"""Results in every format: what each can keep it keeps, what it cannot is told, and a file is there whole or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import parquet

from runner.domain.result import ExportedRow, RowResult
from runner.domain.states import RowStatus
from runner.files.sinks.columns import Columns, found_columns
from runner.files.sinks.csv_table import CsvTable, inert
from runner.files.sinks.lines import Lines, column_line
from runner.files.sinks.parquet_table import Kinds, ParquetTable
from runner.files.sinks.targets import Targets
from runner.files.source import open_input
from runner.files.sources.blocks import records


def exported(idx: int, row: bytes | dict[str, Any], answer: str | None = None, **more: Any) -> ExportedRow:
    told: dict[str, Any] = {
        "idx": idx, "record": idx, "variant": 0, "repeat": 0, "round": 1, "key": f"k{idx}",
        "status": RowStatus.SUCCEEDED, "stop_reason": "end_turn", "model": "m", "usage": None, "cost_pico": 1_230_000,
        "price_version": "1", "request_id": None, "attempts": 1, "latency_us": 1_000, "batch": None,
        "error_type": None, "error_message": None,
    }  # fmt: skip
    message = (
        None if answer is None else json.dumps({"id": "x", "content": [{"type": "text", "text": answer}]}).encode()
    )
    line = row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
    return ExportedRow(result=RowResult(**{**told, **more}), row=line, message=message)


COLUMNS = Columns("r_1")
NASTY = [
    "plain", "", " ", "a,b;c\td",
    'say "no"', "two\nlines\r\nthree", "\u2028\u2029\u0085", "𠮷 e\u0301 \u202e", "nul \x00",
    "{{7*7}}", "null", "true", "1e5", "00123", "\ufeffbom",
]  # fmt: skip


def as_csv(rows: list[ExportedRow], names: list[str], **told: Any) -> list[list[str]]:
    data = io.BytesIO()
    table = CsvTable(data, names, **told)
    for row in rows:
        table.write(COLUMNS.values(row, names))
    table.end()
    return list(csv.reader(io.StringIO(data.getvalue().decode(), newline="")))


def as_parquet(rows: list[ExportedRow], names: list[str]) -> tuple[pa.Table, dict[str, str]]:
    data = io.BytesIO()
    kinds = Kinds(names)
    kinds.learn(COLUMNS.values(row, names) for row in rows)
    table = ParquetTable(data, kinds)
    for row in rows:
        table.write(COLUMNS.values(row, names))
    table.end()
    return parquet.read_table(io.BytesIO(data.getvalue())), kinds.as_text


def test_texts_come_back_from_every_format_as_they_went(tmp_path: Path) -> None:
    rows = [exported(n, {"text": text}) for n, text in enumerate(NASTY)]
    found, as_text = as_parquet(rows, ["text"])
    assert (found.column("text").to_pylist(), as_text) == (NASTY, {})
    assert [row[0] for row in as_csv(rows, ["text"], raw=True)[1:]] == NASTY
    data = io.BytesIO()
    lines = Lines(data, column_line(COLUMNS, ["text"]), array=True)
    for row in rows:
        lines.write(row)
    lines.end()
    assert [row["text"] for row in json.loads(data.getvalue())] == NASTY


def test_a_csv_that_was_written_is_read_as_the_same_rows(tmp_path: Path) -> None:
    rows = [exported(n, {"id": str(n), "text": text}) for n, text in enumerate(NASTY)]
    path = tmp_path / "out.csv.gz"
    with Targets(str(path), 10) as targets:
        table = CsvTable(targets.next_file(), ["id", "text"])
        for row in rows:
            table.write(COLUMNS.values(row, ["id", "text"]))
        targets.complete()
    read = [json.loads(line) for block in open_input(str(path)).blocks() for _, line in records(block)]
    assert [row["text"].removeprefix("'") for row in read] == NASTY


def test_numbers_keep_their_digits_in_text_and_their_kind_in_parquet() -> None:
    row = exported(
        0, b'{"big": 99999999999999999999, "money": 12.10, "exact": 0.1234567890123456789, "n": 9223372036854775807}'
    )
    names = ["big", "money", "exact", "n", "_cost_usd"]
    assert as_csv([row], names)[1] == [
        "99999999999999999999",
        "12.10",
        "0.1234567890123456789",
        str(2**63 - 1),
        "0.00000123",
    ]
    found, as_text = as_parquet([row], names)
    assert as_text == {"big": "integers beyond 64 bits"}
    assert found.to_pylist()[0] == {
        "big": "99999999999999999999", "money": 12.1, "exact": 0.12345678901234568, "n": 2**63 - 1,
        "_cost_usd": 1.23e-06,
    }  # fmt: skip


def test_nested_values_stay_nested_where_the_format_can_and_are_json_where_not() -> None:
    row = {"list": [1, None, 2], "map": {"a": {"b": [True, False], "ü": "x"}}, "none": None, "no": False, "empty": {}}
    names = list(row)
    found, as_text = as_parquet([exported(0, row)], names)
    assert found.to_pylist()[0] == {**row, "empty": "{}"}
    assert as_text == {"empty": "maps without keys"}
    assert as_csv([exported(0, row)], names)[1] == [
        "[1, null, 2]",
        '{"a": {"b": [true, false], "ü": "x"}}',
        "",
        "false",
        "{}",
    ]


def test_a_column_of_several_kinds_is_text_and_that_is_told() -> None:
    rows = [exported(0, {"x": 1}), exported(1, {"x": "one"}), exported(2, {"x": {"y": 1}}), exported(3, {})]
    found, as_text = as_parquet(rows, ["x"])
    assert found.column("x").to_pylist() == ["1", "one", '{"y": 1}', None]
    assert as_text == {"x": "values of several kinds"}


def test_kinds_are_those_of_all_rows_and_not_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.files.sinks import parquet_table

    monkeypatch.setattr(parquet_table, "GROUP_ROWS", 2)
    rows = [exported(n, {"x": None if n < 5 else {"a": n, **({"b": "z"} if n == 9 else {})}}) for n in range(10)]
    found, as_text = as_parquet(rows, ["x"])
    assert as_text == {}
    assert found.column("x").to_pylist()[9] == {"a": 9, "b": "z"}


FORMULAS = [
    "=1+1", "+1+1", "-1+cmd", "@SUM(A1)", "\tx", "\rx", "\n=1", "  =1", "＝1", "－1", "＠x", "=cmd|' /C calc'!A0",
    "\ufeff=1", "-", "+49 170 x", "\x00=1", "=HYPERLINK(\"http://x\")", "%0A=1"[3:], "\u00a0=1", "\u3000=1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula_to_a_spreadsheet(text: str) -> None:
    assert inert(text) == f"'{text}"
    assert as_csv([exported(0, {"x": text})], ["x"])[1] == [f"'{text}"]
    assert as_csv([exported(0, {"x": text})], ["x"], raw=True)[1] == [text]
    assert as_csv([exported(0, {text: "x"})], [text])[0] == [f"'{text}"]


@pytest.mark.parametrize("text", ["-5", "+3.25", "-1,000.5", "-1e-9", "5%", "a=b", "x@y", "2-1"])
def test_numbers_and_plain_texts_stay_as_they_are(text: str) -> None:
    assert inert(text) == text


def test_a_name_alone_is_the_rows_column_before_it_is_the_answers() -> None:
    row = exported(0, {"id": 1, "label": "mine"}, '{"label": "theirs", "score": {"a": 0.50}}')
    names = ["label", "output.label", "row.label", "score.a", "output", "_status", "_text", "none"]
    assert COLUMNS.values(row, names) == [
        "mine", "theirs", "mine", "0.50", {"label": "theirs", "score": {"a": "0.50"}}, "succeeded",
        '{"label": "theirs", "score": {"a": 0.50}}', None,
    ]  # fmt: skip


def test_without_columns_a_table_has_those_of_the_rows_the_answers_and_the_result() -> None:
    rows = [exported(0, {"a": 1}, '{"x": 1}'), exported(1, {"b": 1, "_status": "mine"}, "no json")]
    assert found_columns(rows, parse_json=True) == [
        "a", "b", "row._status", "output.x", "_status", "_error", "_cost_usd", "_model",
    ]  # fmt: skip
    assert found_columns(rows, parse_json=False)[3] == "_text"
    assert COLUMNS.values(rows[1], ["row._status", "_status"]) == ["mine", "succeeded"]


def _write_parts(path: str, count: int, fail_at: int | None = None) -> list[str]:
    with Targets(path, 2) as targets:
        file = targets.next_file()
        for n in range(count):
            if n == fail_at:
                raise RuntimeError("in the middle")
            if targets.is_full():
                targets.complete()
                file = targets.next_file()
                targets.is_full()
            file.write(b"%d\n" % n)
        targets.complete()
    return targets.paths


def test_parts_have_so_many_rows_and_appear_together(tmp_path: Path) -> None:
    paths = _write_parts(str(tmp_path / "o" / "part-{n}.txt"), 5)
    assert [Path(path).name for path in paths] == ["part-00001.txt", "part-00002.txt", "part-00003.txt"]
    assert [Path(path).read_bytes() for path in paths] == [b"0\n1\n", b"2\n3\n", b"4\n"]
    assert all(Path(path).stat().st_mode & 0o777 == 0o600 for path in paths)


def test_parts_that_are_not_finished_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _write_parts(str(tmp_path / "part-{n}.txt"), 5, fail_at=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "unpack"), [("gz", gzip.decompress), ("zst", zstd.decompress), ("txt", bytes)])
def test_an_output_is_packed_as_its_name_says(tmp_path: Path, ending: str, unpack: Any) -> None:
    path = tmp_path / f"out.{ending}"
    with Targets(str(path), 10) as targets:
        targets.next_file().write(b"x" * 100_000)
        targets.complete()
    assert unpack(path.read_bytes()) == b"x" * 100_000


def test_a_row_is_never_a_file_name(tmp_path: Path) -> None:
    row = exported(0, {"id": "../../etc/passwd"}, key="../../x")
    with Targets(str(tmp_path / "out.csv"), 10) as targets:
        table = CsvTable(targets.next_file(), ["id", "_key"])
        table.write(COLUMNS.values(row, ["id", "_key"]))
        targets.complete()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
