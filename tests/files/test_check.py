"""The whole input before the first send."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.job import InputSpec, Job, OnBadRow
from runner.errors import InputInvalid, JobInvalid
from runner.files import double_keys
from runner.files.check import InputReport, can_check_first, check_input, first_difference, refuse_bad_rows
from runner.files.double_keys import KeyLedger
from runner.files.render import Renderer
from runner.files.source import open_input
from runner.files.sources import blocks
from runner.files.sources.blocks import records

GOLDEN: list[tuple[bytes, str | None]] = [
    (b'\xef\xbb\xbf{"prompt": "bom"}\r', None),
    (b"", None),
    (b'{"prompt": "a\xe2\x80\xa8b\xc2\x85c"}', None),
    (b'{"prompt": "nul \\u0000"}', None),
    (b'{"prompt": "half \\ud83d"}', "holds half a character"),
    (b'{"prompt": "x", "n": NaN}', "holds NaN"),
    (b'{"prompt": "x", "prompt": "y"}', 'has the key "prompt" twice'),
    (b'{"prompt": "x", "n": 123456789012345678901234567890}', None),
    (b'{"prompt": "x", "n": 1' + b"0" * 5000 + b"}", "holds an integer of more than"),
    (b'{"prompt": "x", "n": 1e999}', "holds the number 1e999"),
    (b'{"prompt": "\xff"}', "is not UTF-8"),
    (b"   \r", None),
    (b"[1]", "is a JSON array"),
    (b'{"prompt": "no final newline"}', None),
]


def written(folder: Path, *lines: bytes | dict[str, Any]) -> str:
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return str(path)


def checked(path: str, limit: int | None = None, **fields: Any) -> InputReport:
    renderer = Renderer(Job(**{"name": "t", "model": "m", **fields}))
    return check_input(open_input(path), renderer, limit=limit)


def test_the_golden_file_shows_every_bad_line_with_its_reason(tmp_path: Path) -> None:
    path = written(tmp_path, *(line for line, _ in GOLDEN))
    report = checked(path)
    expected = [(n, reason) for n, (_, reason) in enumerate(GOLDEN, 1) if reason]
    assert [bad.line for bad in report.bad_rows] == list(report.bad_lines) == [n for n, _ in expected]
    for bad, (_, reason) in zip(report.bad_rows, expected, strict=True):
        assert bad.reason.startswith(reason)
    assert report.records == 5
    assert report.digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_rows_pass_with_the_bytes_they_came_in(tmp_path: Path) -> None:
    good = b'{"prompt":  "\\u00e9 \xc3\xa9", "n": 1.10e2}'
    with open_input(written(tmp_path, good + b"\r")) as opened:
        assert [payload for block in opened.blocks() for _, payload in records(block)] == [good]


def test_two_lines_with_one_key_are_both_named(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "id": key} for key in ("a", "b", "a", 7, "7", "a")]
    report = checked(written(tmp_path, *rows), input=InputSpec(id="id"))
    assert [(bad.line, bad.reason) for bad in report.bad_rows] == [
        (3, 'has the key "a" of line 1 again'),
        (5, 'has the key "7" of line 4 again'),
        (6, 'has the key "a" of line 1 again'),
    ]
    assert (report.records, report.bad_count, list(report.bad_lines)) == (3, 3, [3, 5, 6])


def test_the_key_of_a_bad_row_counts_for_nothing(tmp_path: Path) -> None:
    rows = [{"custom_id": "a", "prompt": ""}, {"custom_id": "a", "prompt": "x"}]
    report = checked(written(tmp_path, *rows))
    assert (list(report.bad_lines), report.records, report.has_keys) == ([1], 1, True)


@given(st.lists(st.text(max_size=2), max_size=60), st.integers(1, 20))
def test_doubles_are_found_across_spilled_partitions(keys: list[str], spill_above: int) -> None:
    with KeyLedger(spill_above_keys=spill_above) as ledger:
        for key in keys:
            ledger.add(key)
            ledger.spill_if_large()
        found = ledger.doubles()
    assert found == {hash(key) for key in keys if keys.count(key) > 1}


def test_keys_with_one_hash_are_no_doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double_keys.KeyLedger, "doubles", lambda self: frozenset({hash("a"), hash("b")}))
    report = checked(written(tmp_path, {"prompt": "x", "custom_id": "a"}, {"prompt": "x", "custom_id": "b"}))
    assert report.bad_count == 0


def test_only_the_first_bad_rows_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    report = checked(written(tmp_path, *[b"x"] * 100))
    assert (len(report.bad_rows), report.bad_count, len(report.bad_lines)) == (20, 100, 100)


def test_a_limit_counts_good_rows_and_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "1"}, b"bad", {"prompt": "2"}, b"never looked at")
    report = checked(path, limit=2)
    assert (report.records, list(report.bad_lines)) == (2, [2])


def test_memory_does_not_grow_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double_keys, "SPILL_ABOVE_KEYS", 1_000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
    peaks = []
    for count in (4_000, 32_000):
        path = written(tmp_path, *[{"prompt": "x" * 50, "custom_id": f"key-{n}"} for n in range(count)])
        tracemalloc.start()
        assert checked(path).records == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000


def test_bad_rows_are_one_error_that_shows_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "x"}, b'{"id": 16, "text": "He said "no" and left"}', b"y")
    report = checked(path)
    with pytest.raises(InputInvalid) as caught:
        refuse_bad_rows(report)
    assert caught.value.name == "bad-row"
    assert caught.value.message == f"{path} line 2 is not JSON: expected ',' at column 30."
    assert caught.value.hints[0] == '2 | {"id": 16, "text": "He said "no" and left"}'
    assert caught.value.hints[1].startswith(f"{path} line 3 is not JSON")
    assert "nothing was sent" in caught.value.hints[-1]


def test_a_column_that_no_row_has_is_the_jobs_fault(tmp_path: Path) -> None:
    report = checked(written(tmp_path, {"Comment": "x"}, {"Comment": "y"}), prompt="{{ comment }}")
    with pytest.raises(JobInvalid) as caught:
        refuse_bad_rows(report)
    assert caught.value.name == "missing-column"
    assert 'did you mean "Comment"?' in caught.value.message


def test_only_local_files_of_a_size_are_checked_first(tmp_path: Path) -> None:
    opened = open_input(written(tmp_path, {"prompt": "x"}))
    assert can_check_first(opened)
    assert not can_check_first(opened, check_first_bytes=3)
    assert not can_check_first(open_input("-"))


LINES = [b'{"a":1}', b'{"a":2}', b'{"a":3}']


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (LINES, None),
        ([b"", *LINES, b""], None),
        ([*LINES, b'{"a":4}'], 4),
        (LINES[:2], 3),
        ([LINES[0], b'{"a": 2}', LINES[2]], 2),
        ([LINES[1], LINES[0], LINES[2]], 1),
        ([], 1),
    ],
)
def test_the_first_line_that_differs_is_named(tmp_path: Path, now: list[bytes], difference: int | None) -> None:
    assert first_difference(open_input(written(tmp_path, *now)), iter(LINES)) == difference


def test_an_input_that_goes_on_after_what_was_staged_so_far_is_the_same(tmp_path: Path) -> None:
    opened = open_input(written(tmp_path, *LINES))
    assert first_difference(opened, iter(LINES[:1]), whole=False) is None


def test_records_are_drawn_in_the_one_pass_of_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, *({"prompt": f"p{n}"} if n % 3 else b"no json" for n in range(3_000)))
    source, passes = open_input(path), []
    read = source.blocks
    monkeypatch.setattr(source, "blocks", lambda: passes.append(1) or read())
    report = check_input(source, Renderer(Job(name="t", model="m")), on_bad_row=OnBadRow.SKIP, draw=50)
    assert len(passes) == 1
    good = [{"prompt": f"p{n}"} for n in range(3_000) if n % 3]
    assert [json.loads(record.payload) for record in report.drawn] == [good[record.number] for record in report.drawn]
    assert len(report.drawn) == 50
    assert checked(path).drawn == []


def test_drawn_records_have_the_numbers_that_they_get_when_double_keys_are_left_out(tmp_path: Path) -> None:
    rows = [{"id": f"k{n // 2 if n < 200 else n}", "prompt": f"p{n}"} for n in range(1_000)]
    job = Job(name="t", model="m", input=InputSpec(id="id"))
    report = check_input(
        open_input(written(tmp_path, *rows)), Renderer(job), on_bad_row=OnBadRow.SKIP, limit=900, draw=900
    )
    assert (report.records, len(report.drawn)) == (800, 800)
    kept = [row for n, row in enumerate(rows[:900]) if n >= 200 or n % 2 == 0]
    assert [json.loads(record.payload) for record in sorted(report.drawn, key=lambda record: record.number)] == kept
    assert sorted(record.number for record in report.drawn) == list(range(800))
