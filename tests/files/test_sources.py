"""Every format gives the same records, in the same order, each time it is read, and says what is wrong where."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import parquet

from runner.domain.job import InputSpec, Job
from runner.errors import InputInvalid, RunnerError
from runner.files.check import check_input, first_difference
from runner.files.input_door import opened_door
from runner.files.render import Renderer
from runner.files.source import Input, open_input
from runner.files.sources import blocks, json_values
from runner.files.sources.blocks import records
from runner.files.sources.formats import Format, Reading

TEXTS = [
    "plain",
    "a\u2028b\u2029c\u0085d\x0be\x0cf",
    "line\nbreak and\r\nanother",
    'quotes " and "" and , ; \t',
    "{{7*7}}",
    "=cmd|' /C calc'!A0",
    "𠮷 e\u0301 \u202e \u200d",
    "nul \x00 in it",
    " leading and trailing ",
    "",
]
ROWS: list[dict[str, Any]] = [{"id": f"r{n}", "text": text} for n, text in enumerate(TEXTS)]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2, ensure_ascii=False).encode()


def as_values(rows: list[dict[str, Any]]) -> bytes:
    return "\n\n".join(json.dumps(row, indent=1) for row in rows).encode()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_tsv(rows: list[dict[str, Any]]) -> bytes:
    return as_csv(rows, "\t")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), data, row_group_size=3)
    return data.getvalue()


FORMS: list[tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = [
    ("in.jsonl", as_jsonl),
    ("in.json", as_json),
    ("in.json", as_values),
    ("in.csv", as_csv),
    ("in.tsv", as_tsv),
    ("in.parquet", as_parquet),
    ("in.csv.gz", lambda rows: gzip.compress(as_csv(rows))),
    ("in.json.zst", lambda rows: zstd.compress(as_json(rows))),
]


@pytest.fixture(params=FORMS, ids=lambda form: f"{form[0]}-{form[1].__name__}")
def form(request: pytest.FixtureRequest) -> tuple[str, Callable[[list[dict[str, Any]]], bytes]]:
    return request.param  # type: ignore[no-any-return]


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lines_of(source: Input) -> list[bytes]:
    return [line for block in source.blocks() for _, line in records(block)]


def rows_of(source: Input) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(source)]


def test_every_format_gives_the_same_rows(tmp_path: Path, form: Any) -> None:
    name, write = form
    assert rows_of(open_input(str(written(tmp_path, name, write(ROWS))))) == ROWS


def test_every_format_can_be_taken_up_at_the_end_of_any_block(
    tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "PIECE_BYTES", 16)
    monkeypatch.setattr(json_values, "PIECE_BYTES", 16)
    name, write = form
    path = str(written(tmp_path, name, write(ROWS)))
    whole = list(open_input(path).blocks())
    assert len(whole) > 3
    for n, block in enumerate(whole):
        source = open_input(path)
        assert list(source.blocks(block.end_offset)) == whole[n + 1 :]
        assert source.prefix_digest == block.digest


def test_every_format_may_be_left_in_the_middle_without_a_word(
    tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    name, write = form
    source = open_input(str(written(tmp_path, name, write(ROWS * 50))))
    for reading in (source.blocks(), source.blocks()):
        next(reading)
        reading.close()
        del reading
    gc.collect()
    assert complaints == []


def test_the_first_line_that_differs_is_named_in_every_format(tmp_path: Path, form: Any) -> None:
    name, write = form
    staged = lines_of(open_input(str(written(tmp_path, name, write(ROWS)))))
    changed = [*ROWS[:4], {"id": "r4", "text": "other"}, *ROWS[5:]]
    source = open_input(str(written(tmp_path, name, write(changed))))
    numbers = [number for block in source.blocks() for number, _ in records(block)]
    assert first_difference(source, iter(staged)) == numbers[4]


def test_files_of_a_pattern_are_one_input_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, rows in (("b.csv", ROWS[2:4]), ("a.jsonl", ROWS[:2]), ("sub/c.json", ROWS[4:])):
        written(tmp_path, name, dict(FORMS)[Path(name).name.replace(Path(name).stem, "in")](rows))
    written(tmp_path, "a.txt.skip", b"no")
    source = open_input(str(tmp_path / "**" / "*.[cj]s*"))
    assert rows_of(source) == ROWS


def test_a_bad_row_of_a_pattern_is_named_by_its_own_file_and_line(tmp_path: Path) -> None:
    written(tmp_path, "a.jsonl", b'{"prompt": "x"}\n{"prompt": "y"}\n')
    written(tmp_path, "b.csv", b'prompt,n\nfine,1\n"two\nlines",2\nshort\n')
    source = open_input(str(tmp_path / "*"))
    report = check_input(source, Renderer(Job(name="t", model="m")))
    (bad,) = report.bad_rows
    assert bad.sentence() == f"{tmp_path}/b.csv line 5 has 1 value, the header has 2."
    assert report.records == 4


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'a,b\n1,2\n"x"y,3\n', "line 3 is not CSV"),
        (b'a,b\n1,"no end\n', "line 2 is not CSV: unexpected end of data"),
        (b"a,a\n1,2\n", "names column 'a' twice"),
        (b"a,,c\n1,2,3\n", "column 2 has no name"),
        (b"a;b\n1;2\n", "has one column by ',', and its header holds ';'"),
        (b"", "holds no rows"),
        (b"a,b,\n1,2,\n", "column 3 has no name"),
        (b"PK\x03\x04 and so on", "is a zip file, as spreadsheets are, whatever its name says"),
        (b"PAR1 and so on", "is parquet, whatever its name says"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_csv_that_cannot_be_believed_says_why(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(InputInvalid, match=sentence.replace("'", ".")):
        lines_of(open_input(str(written(tmp_path, "in.csv", data))))


def test_blank_lines_above_the_header_and_commas_behind_the_last_value_are_understood(tmp_path: Path) -> None:
    path = str(written(tmp_path, "in.csv", b"\n\nprompt,n\nfine,1\n\nfine,2\nfine,3,\n"))
    report = check_input(open_input(path), Renderer(Job(name="t", model="m")))
    assert report.records == 2
    assert report.bad_rows[0].sentence() == f"{path} line 7 has 3 values, the header has 2: it ends in a comma."


def test_bytes_that_are_not_utf_8_make_a_row_bad_and_not_the_file(tmp_path: Path) -> None:
    path = str(written(tmp_path, "in.csv", b"prompt,n\nfine,1\ncaf\xe9,2\nfine,3\n"))
    report = check_input(open_input(path), Renderer(Job(name="t", model="m")))
    assert (report.records, report.bad_rows[0].line) == (2, 3)
    assert 'is not UTF-8: byte 0xe9 in column "prompt"' in report.bad_rows[0].reason
    source = open_input(path, reading=Reading(encoding="cp1252"))
    assert rows_of(source)[1] == {"prompt": "café", "n": "2"}


def test_a_delimiter_and_an_encoding_may_be_told(tmp_path: Path) -> None:
    path = str(written(tmp_path, "in.csv", "prompt;n\nÄ;1\n".encode("utf-16")))
    assert rows_of(open_input(path, reading=Reading(encoding="utf-16", delimiter=";"))) == [{"prompt": "Ä", "n": "1"}]


def test_a_format_may_be_told_whatever_the_name(tmp_path: Path) -> None:
    path = str(written(tmp_path, "export.txt", as_csv(ROWS)))
    assert rows_of(open_input(path, reading=Reading(format=Format.CSV))) == ROWS


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'[{"a": 1}, {"a": 2]', "line 1 is not JSON"),
        (b'[{"a": 1}\n {"a": 2}]', r"line 2 is not JSON: expected ',' or '\]'"),
        (b'[{"a": 1}', "the array has no end"),
        (b'[{"a": 1}] x', "something follows the end"),
        (b'[{"a": "caf\xe9"}]', "is not UTF-8"),
        (b"[" + b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_json_file_that_breaks_off_says_where(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(InputInvalid, match=sentence):
        lines_of(open_input(str(written(tmp_path, "in.json", data))))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": 1, "a": 2}', 'has the key "a" twice'),
        (b'{"a": 1e999}', "holds the number 1e999"),
        (b'{"a": "\\ud800"}', "holds half a character"),
        (b"[1, 2]", "is a JSON array"),
        (b"12", "is a number"),
    ],
)
def test_what_json_lines_refuse_is_refused_in_an_array_too(tmp_path: Path, value: bytes, reason: str) -> None:
    path = str(written(tmp_path, "in.json", b'[{"prompt": "x"},\n' + value + b"]"))
    report = check_input(open_input(path), Renderer(Job(name="t", model="m")))
    assert [(bad.line, bad.reason.startswith(reason)) for bad in report.bad_rows] == [(2, True)]


def test_values_of_json_files_keep_their_own_bytes(tmp_path: Path) -> None:
    value = b'{"n": 12345678901234567890123.4500, "big": 99999999999999999999, "e": 1E+2}'
    assert lines_of(open_input(str(written(tmp_path, "in.json", b"[" + value + b"]")))) == [value]


def test_parquet_keeps_what_json_can_hold(tmp_path: Path) -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    table = pa.table(
        {
            "i": pa.array([2**63 - 1]),
            "u": pa.array([2**64 - 1], pa.uint64()),
            "f": pa.array([float("nan")]),
            "d": pa.array([Decimal("12.10")]),
            "t": pa.array([datetime(2026, 11, 21, 8, 0, 0, 1, tzinfo=UTC)]),
            "ns": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns")),
            "day": pa.array([date(2026, 2, 28)]),
            "b": pa.array([b"\xff\x00"]),
            "l": pa.array([[1, None, 3]]),
            "s": pa.array([{"x": {"y": [None, "z"]}}]),
            "none": pa.array([None]),
            "no": pa.array([False]),
        }
    )
    path = tmp_path / "in.parquet"
    parquet.write_table(table, path)
    (row,) = rows_of(open_input(str(path)))
    assert row == {
        "i": 2**63 - 1,
        "u": 2**64 - 1,
        "f": None,
        "d": "12.10",
        "t": "2026-11-21T08:00:00.000001Z",
        "ns": "2023-11-14 22:13:20.000000001",
        "day": "2026-02-28",
        "b": "/wA=",
        "l": [1, None, 3],
        "s": {"x": {"y": [None, "z"]}},
        "none": None,
        "no": False,
    }


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="is damaged or no parquet"):
        lines_of(open_input(str(written(tmp_path, "in.parquet", b"PAR1 not at all"))))


@pytest.mark.parametrize("name", ["in.csv", "in.json", "in.parquet"])
def test_memory_does_not_grow_with_the_rows_of_any_format(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    write = {"in.csv": as_csv, "in.json": as_json, "in.parquet": as_parquet}[name]
    peaks = []
    for count in (20_000, 60_000):
        rows = [{"id": str(n), "prompt": sha256(b"%d" % n).hexdigest()} for n in range(count)]
        data = write(rows)
        if name == "in.parquet":  # one group of rows, as most programs write them
            parquet.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        else:
            written(tmp_path, name, data)
        del data, rows
        source = open_input(str(tmp_path / name))
        tracemalloc.start()
        assert sum(len(records(block)) for block in source.blocks()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3 + 100_000


def test_stdin_may_be_any_format_and_is_checked_like_a_file(tmp_path: Path) -> None:
    job = Job(name="t", input=InputSpec(path="-", format="csv"))
    with opened_door(job, tmp_path / "spool", stdin=io.BytesIO(gzip.compress(as_csv(ROWS)))) as source:
        assert (source.place, source.checkable) == ("stdin", True)
        assert rows_of(source) == rows_of(source) == ROWS
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_query_gives_rows_with_its_parameters_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "their.db") as theirs:
        theirs.execute("create table tickets (id text, body text, n real, day text)")
        theirs.executemany(
            "insert into tickets values (?, ?, ?, ?)", [(f"t{n}", "{{7*7}}", n / 2, None) for n in (1, 2)]
        )
    theirs.close()
    monkeypatch.setenv("THEIR_DB", f"sqlite:///{tmp_path}/their.db")
    spec = InputSpec(sql="select * from tickets where id = :wanted", database="${THEIR_DB}")
    job = Job(name="t", input=spec, params={"wanted": "t2' or '1'='1"})
    with opened_door(job, tmp_path / "spool") as source:
        assert rows_of(source) == []
    job = Job(name="t", input=spec, params={"wanted": "t2"})
    with opened_door(job, tmp_path / "spool") as source:
        assert source.checkable
        assert rows_of(source) == [{"id": "t2", "body": "{{7*7}}", "n": 1.0, "day": None}]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (InputSpec(sql="select :day", database="sqlite://"), "input.sql uses :day, and there is no such parameter"),
        (InputSpec(sql="select 1 as a, 2 as a", database="sqlite://"), "gives two columns named 'a'"),
        (InputSpec(sql="selec 1", database="sqlite://"), "input.sql could not be run: near"),
        (InputSpec(sql="create table x (a)", database="sqlite://"), "gives no rows"),
        (InputSpec(sql="select 1", database="${NOT_SET_URL}"), "needs ${NOT_SET_URL}, which is not set"),
        (InputSpec(sql="select 1", database="nonsense"), "input.database is no URL"),
    ],
)
def test_a_query_that_cannot_be_run_says_why_and_shows_no_password(
    tmp_path: Path, spec: InputSpec, sentence: str
) -> None:
    with pytest.raises(RunnerError) as caught, opened_door(Job(name="t", input=spec), tmp_path):
        pass
    assert sentence in caught.value.message


def test_a_dataset_of_hugging_face_is_read_as_it_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    written(tmp_path / "set", "train.jsonl", as_jsonl(ROWS))
    job = Job(name="t", input=InputSpec(dataset=str(tmp_path / "set"), split="train"))
    with opened_door(job, tmp_path / "spool") as source:
        assert rows_of(source) == ROWS


def test_what_a_killed_process_left_in_the_spool_is_taken_away(tmp_path: Path) -> None:
    dead, alive = tmp_path / "spool" / "input-999999999-x", tmp_path / "spool" / "input-1-x"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "stdin").write_bytes(b"somebody's rows")
    with opened_door(Job(name="t", input=InputSpec(path="-")), tmp_path / "spool", stdin=io.BytesIO(b"{}")) as source:
        assert rows_of(source) == [{}]
        assert not dead.exists()
    assert list((tmp_path / "spool").iterdir()) == [alive]
