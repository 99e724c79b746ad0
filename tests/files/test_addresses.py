"""Inputs and outputs at an address: a web server and an object store of our own, read and written for real."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.domain.job import InputSpec, Job
from runner.errors import InputInvalid, JobInvalid, RunnerError
from runner.files import input_door
from runner.files.input_door import opened_door
from runner.files.sinks.targets import Targets
from runner.files.sources.blocks import records
from tests.acceptance.doors import object_store, web_server

ROWS: list[dict[str, Any]] = [{"id": f"r{n}", "text": f"line\u2028 {n}\n{{{{7*7}}}}"} for n in range(300)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(LINES))
    (folder / "rows.json").write_text(json.dumps(ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    with web_server(folder) as url:
        yield url


@pytest.fixture(scope="module")
def store_env() -> Iterator[dict[str, str]]:
    with object_store() as env:
        yield env


@pytest.fixture
def store(store_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in store_env.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    if not files.exists("bucket"):
        files.mkdir("bucket")
    return files


def rows_at(url: str, folder: Path, **spec: Any) -> list[dict[str, Any]]:
    with opened_door(Job(name="t", input=InputSpec(path=url, **spec)), folder / "spool") as source:
        once = [json.loads(line) for block in source.blocks() for _, line in records(block)]
        again = [json.loads(line) for block in source.blocks() for _, line in records(block)]
        assert once == again
        return once


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json", "rows.parquet", "rows.json?signature=abc"])
def test_a_file_on_the_web_is_read_like_one_here(web: str, tmp_path: Path, name: str) -> None:
    assert rows_at(f"{web}/{name}", tmp_path) == ROWS
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_is_too_large_to_fetch_first_is_read_as_a_stream(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_door, "CHECK_FIRST_BYTES", 100)
    spec = InputSpec(path=f"{web}/rows.parquet")
    with opened_door(Job(name="t", input=spec), tmp_path / "spool") as source:
        assert not source.checkable
        assert sum(len(records(block)) for block in source.blocks()) == 300
        assert not any(path.is_file() for path in (tmp_path / "spool").rglob("*"))


def test_objects_of_a_pattern_are_one_input(store: Any, tmp_path: Path) -> None:
    store.pipe("bucket/in/a.jsonl.gz", gzip.compress(LINES[: LINES.index(b"r150") - 8]))
    store.pipe("bucket/in/b.jsonl", LINES[LINES.index(b"r150") - 8 :])
    assert rows_at("s3://bucket/in/*.jsonl*", tmp_path) == ROWS


def test_what_is_not_there_is_said_in_one_sentence(web: str, store: Any, tmp_path: Path) -> None:
    for url, sentence in (
        (f"{web}/none.jsonl?secret=1", "there is nothing at"),
        ("s3://bucket/none.jsonl", "there is nothing at"),
        ("s3://bucket/none/*.jsonl", "no file fits"),
        ("nonsense://x/y", "is no address that can be read"),
        ("http://127.0.0.1:9/x.jsonl", "could not be read"),
    ):
        with pytest.raises(RunnerError) as caught:
            rows_at(url, tmp_path)
        assert sentence in caught.value.message
        assert "secret" not in caught.value.message


def test_a_password_in_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="holds a password"):
        rows_at("https://me:hunter2@example.com/x.jsonl", tmp_path)


def test_an_output_appears_in_the_store_whole_or_not_at_all(store: Any) -> None:
    def half() -> None:
        with Targets("s3://bucket/out/part-{n}.jsonl.gz", 2) as targets:
            targets.next_file().write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert store.glob("bucket/out/**") == []
    with Targets("s3://bucket/out/part-{n}.jsonl.gz", 2) as targets:
        targets.next_file().write(LINES)
        targets.complete()
    assert gzip.decompress(store.cat("bucket/out/part-00001.jsonl.gz")) == LINES


def test_a_web_address_cannot_be_written(web: str) -> None:
    with pytest.raises(JobInvalid, match="can be read and not written"), Targets(f"{web}/out.jsonl", 2) as targets:
        targets.next_file()
