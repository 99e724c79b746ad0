"""Which rows are asked: by an expression, by chance with a seed, or those nobody has answered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from runner.domain.job import InputSpec, Job, OnBadRow
from runner.domain.sampling import drawn, in_share
from runner.errors import InputInvalid, JobInvalid
from runner.files.check import check_input
from runner.files.input_door import Answered, opened_door
from runner.files.render import Renderer
from runner.files.sources.blocks import records


def selected(
    folder: Path, rows: Iterable[Any], answered: Answered | None = None, **spec: Any
) -> list[tuple[int, Any]]:
    path = folder / "in.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    job = Job(name="t", params={"least": 3}, input=InputSpec(path=str(path), **spec))
    with opened_door(job, folder / "spool", answered=answered) as source:
        return [(n, json.loads(line)) for block in source.blocks() for n, line in records(block)]


NUMBERS = [{"id": f"r{n}", "n": n, "lang": "de" if n % 2 else "en"} for n in range(1, 11)]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("row.n > 8", [9, 10]),
        ("n == params.least", [3]),
        ("row.lang in ['de'] and row['n'] < 4", [1, 3]),
        ("row.other is defined", []),
    ],
)
def test_rows_are_kept_where_the_expression_is_true(tmp_path: Path, where: str, kept: list[int]) -> None:
    assert [number for number, _ in selected(tmp_path, NUMBERS, where=where)] == kept


def test_a_row_that_cannot_be_judged_stops_or_is_left_out(tmp_path: Path) -> None:
    rows = [{"n": 1}, {"m": 2}, {"n": 3}]
    with pytest.raises(InputInvalid, match=r"line 2 cannot be judged by input\.where: the row has no .n."):
        selected(tmp_path, rows, where="row.n > 0")
    kept = selected(tmp_path, rows, where="row.n > 0", on_bad_row=OnBadRow.SKIP)
    assert [number for number, _ in kept] == [1, 3]


@pytest.mark.parametrize(
    "where", ["row.n >", "{{ row.n }}", "row.n }} x {{ 1", "().__class__.__bases__[0]", "9**9**9**9**9"]
)
def test_an_expression_is_checked_and_stays_in_its_sandbox(tmp_path: Path, where: str) -> None:
    with pytest.raises(JobInvalid):
        selected(tmp_path, NUMBERS, where=where)


def test_what_a_row_says_is_never_an_expression(tmp_path: Path) -> None:
    rows = [{"id": "a", "lang": "{{ 1 }}' or true or '"}]
    assert selected(tmp_path, rows, where="row.lang == 'de'") == []


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_its_numbers(tmp_path: Path) -> None:
    first = selected(tmp_path, NUMBERS, sample=4, seed=7)
    assert len(first) == 4
    assert first == selected(tmp_path, NUMBERS, sample=4, seed=7)
    assert first != selected(tmp_path, NUMBERS, sample=4, seed=8)
    assert all(row["n"] == number for number, row in first)
    assert [number for number, _ in first] == sorted(number for number, _ in first)


def test_a_sample_is_drawn_of_the_rows_that_fit(tmp_path: Path) -> None:
    assert len(selected(tmp_path, NUMBERS, sample=4, where="row.lang == 'de'")) == 4


def test_a_share_is_about_that_share_and_a_size_exactly_that_size() -> None:
    assert 900 < sum(in_share(1, n, 0.1) for n in range(10_000)) < 1_100
    assert len(drawn(1, range(10_000), 100)) == 100
    counts = [0] * 10
    for seed in range(2_000):
        for number in drawn(seed, range(10), 1):
            counts[number] += 1
    assert min(counts) > 140  # each of ten rows about 200 times


def test_rows_that_were_answered_are_left_out_by_their_keys(tmp_path: Path) -> None:
    def answered(keys: list[str]) -> set[str]:
        return {key for key in keys if key in {"r1", "r3"}}

    kept = selected(tmp_path, NUMBERS[:4], answered, unanswered=True, id="id")
    assert [row["id"] for _, row in kept] == ["r2", "r4"]


def test_a_selection_changes_neither_digest_nor_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"prompt": "a", "n": 1}\nnot json\n{"prompt": "b", "n": 2}\n')
    job = Job(name="t", model="m", input=InputSpec(path=str(path), where="row.n == 2"))
    with opened_door(job, tmp_path / "spool") as source:
        report = check_input(source, Renderer(job))
    with opened_door(Job(name="t", input=InputSpec(path=str(path))), tmp_path / "spool") as source:
        whole = list(source.blocks())
    assert (report.records, [bad.line for bad in report.bad_rows]) == (1, [2])
    assert report.digest == whole[-1].digest
