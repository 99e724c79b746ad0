"""The input that every client reads: one prompt a line, the same bytes for the same number of rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

MODEL = "claude-haiku-5-5"
MAX_TOKENS = 1000
LINE_BYTES = 1024

_TEXT = (
    "the order a lamp arrived late from shop with paper box and one broken glass shade but after two days"
    " somebody called me about an exchange which was kind so this review is mixed I would buy again perhaps"
)


def write_prompts(path: Path, rows: int, line_bytes: int = LINE_BYTES) -> None:
    """Lines of `line_bytes` bytes each, with an id and a prompt that no other line has."""
    dice, words = random.Random(1), _TEXT.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            line = {"custom_id": f"r{number:07}", "prompt": f"Review {number}: "}
            left = line_bytes - len(json.dumps(line)) - 1
            text = " ".join(dice.choices(words, k=left // 2))
            line["prompt"] += text[:left]
            file.write(json.dumps(line) + "\n")


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
