"""The input that every client reads: one prompt a line, the same bytes for the same number of rows."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MODEL = "claude-haiku-5-5"
MAX_TOKENS = 1000
LINE_BYTES = 1024
COLUMNS = ("custom_id", "prompt")
GROUP_ROWS = 1 << 20

_TEXT = (
    "the order a lamp arrived late from shop with paper box and one broken glass shade but after two days"
    " somebody called me about an exchange which was kind so this review is mixed I would buy again perhaps"
)


def write_prompts(path: Path, rows: int, line_bytes: int = LINE_BYTES) -> None:
    """Lines of `line_bytes` bytes each, with an id and a prompt that no other line has; in the format of the name."""
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(path.suffix, _write_jsonl)
    write(path, _prompts(rows, line_bytes))


def _prompts(rows: int, line_bytes: int) -> Iterator[dict[str, str]]:
    dice, words = random.Random(1), _TEXT.split()
    for number in range(rows):
        line = {"custom_id": f"r{number:07}", "prompt": f"Review {number}: "}
        left = line_bytes - len(json.dumps(line)) - 1
        text = " ".join(dice.choices(words, k=left // 2))
        line["prompt"] += text[:left]
        yield line


def _write_jsonl(path: Path, prompts: Iterator[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in prompts:
            file.write(json.dumps(line) + "\n")


def _write_csv(path: Path, prompts: Iterator[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(prompts)


def _write_parquet(path: Path, prompts: Iterator[dict[str, str]]) -> None:
    """In groups of about a million rows, as other programs write them."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:
        while rows := list(islice(prompts, GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=GROUP_ROWS)


def read_prompts(path: Path) -> Iterator[tuple[str, str]]:
    """The id and the prompt of each line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["custom_id"], row["prompt"]


def answered_rows(path: Path) -> int:
    """How many rows are in a results file; each is there once and has a text."""
    keys = set()
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            assert row["text"], f"a line of {path} has no text: {line[:300]}"
            assert row["key"] not in keys, f"{path} has the row {row['key']} twice"
            keys.add(row["key"])
    return len(keys)


def check_answers(path: Path, rows: int) -> None:
    """Every row is in the file."""
    answered = answered_rows(path)
    assert answered == rows, f"{path} answers {answered:,} of {rows:,} rows"
