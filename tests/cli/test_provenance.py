"""Beside every file of results stands what it is: of which run, what was asked, what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.engine.provenance import meta_path
from tests.cli.conftest import Cli

JOB = {"name": "sort", "model": "claude-haiku-5-5", "prompt": "Sort: {{ text }}", "tags": {"team": "a"}}


def job_in(folder: Path) -> None:
    (folder / "job.yaml").write_text(json.dumps(JOB))
    texts = ["a", "b", "[[sim:refusal]]", "c", "d"]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_results_say_what_they_are(cli: Cli, folder: Path) -> None:
    job_in(folder)
    assert cli("run", "job.yaml", "-i", "rows.jsonl", "-o", "out.csv", "--simulate").exit_code == 3
    meta = told(folder / "out.csv.meta.json")
    shown = json.loads(cli("show", "latest", "--json").stdout)
    assert (meta["run"], meta["job"], meta["tags"], meta["simulated"]) == (shown["run"], "sort", {"team": "a"}, True)
    assert (meta["rows"], meta["statuses"]) == (5, {"refused": 1, "succeeded": 4})
    assert meta["cost_usd"] == pytest.approx(shown["cost"]["spent_usd"])
    assert meta["input"]["records"] == 5
    assert len(meta["input"]["sha256"]) == len(meta["prompt_sha256"]) == 64
    assert meta["price_versions"]
    assert meta["output"] == {"form": "runner", "files": ["out.csv"]}
    assert (folder / "out.csv.meta.json").stat().st_mode & 0o777 == 0o600


def test_the_same_results_say_the_same_wherever_they_are_written(cli: Cli, folder: Path) -> None:
    job_in(folder)
    cli("run", "job.yaml", "-i", "rows.jsonl", "-o", "out.jsonl", "--simulate")
    assert cli("export", "latest", "-o", "again/out.jsonl").exit_code == 0
    assert told(folder / "again" / "out.jsonl.meta.json") == told(folder / "out.jsonl.meta.json")
    assert cli("export", "latest", "-o", "-").exit_code == 0
    assert cli("export", "latest", "-o", "/dev/null").exit_code == 0
    assert not Path("/dev/null.meta.json").exists()


def test_parts_share_one_that_readers_of_folders_pass_over(cli: Cli, folder: Path) -> None:
    job_in(folder)
    job = {**JOB, "output": {"path": "parts/part-{n}.parquet", "part_rows": 2}}
    (folder / "job.yaml").write_text(json.dumps(job))
    cli("run", "job.yaml", "-i", "rows.jsonl", "--simulate")
    assert told(folder / "parts" / "_part.meta.json")["output"]["files"] == [
        f"part-0000{n}.parquet" for n in (1, 2, 3)
    ]
    from pyarrow import dataset

    assert dataset.dataset(folder / "parts").count_rows() == 5


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("out.csv", "out.csv.meta.json"),
        ("s3://bucket/day/out.jsonl.gz", "s3://bucket/day/out.jsonl.gz.meta.json"),
        ("s3://bucket/day/part-{n}.parquet", "s3://bucket/day/_part.meta.json"),
        ("{n}.csv", "_parts.meta.json"),
        ("a/x_{n}_y.csv.gz", "a/_xy.meta.json"),
        ("-", None),
        ("/dev/null", None),
    ],
)
def test_where_it_stands(path: str, beside: str | None) -> None:
    assert meta_path(path) == beside
