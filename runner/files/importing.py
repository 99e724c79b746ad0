"""Rows of other programs as rows of ours: batch files of OpenAI and Anthropic, chat sets, prompts in a table.

Every row comes out as `custom_id` and `params`, which say everything by themselves, with an expected answer and other
columns beside them where there are any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from runner.domain.importing import Imported
from runner.files.ask import SAMPLING
from runner.files.bad_row import BadRow
from runner.files.shapes import READ_COLUMNS, fields_of, shape_of
from runner.files.source import Input, records
from runner.files.strict_json import parse_object
from runner.files.template import missing_column

PROMPT_COLUMNS = ("prompt", "question", "instruction", "input", "text")
_encode = msgspec.json.Encoder().encode
Row = Mapping[str, Any]


def imported_rows(
    source: Input,
    found: Imported,
    *,
    prompt: str | None,
    id_column: str | None,
    keeps_model: Callable[[str], bool],
) -> Iterator[bytes]:
    """Our rows, as JSON lines. Rows that cannot be had, and models that are not ours, are left out; `found` tells."""
    number = 0
    for block in source.blocks():
        for line_number, line in records(block):
            number += 1
            try:
                row = parse_object(line)
                told = _one(row, number, found.dropped, prompt=prompt, id_column=id_column)
            except BadRow as bad:
                found.refuse(source.where(line_number), bad.reason)
                continue
            _drop_unknown(told["params"], found, keeps_model)
            found.answers += "expected" in told
            found.rows += 1
            yield _encode(told)


def _drop_unknown(params: dict[str, Any], found: Imported, keeps_model: Callable[[str], bool]) -> None:
    """What the present API would refuse in a row that says all by itself."""
    for name in sorted(SAMPLING & params.keys()):
        del params[name]
        found.dropped[f"params.{name}"] += 1
    model = params.get("model")
    if model is not None and not keeps_model(str(model)):
        found.dropped[f"the model {model}"] += 1
        del params["model"]
    found.without_model += "model" not in params


def _one(
    row: Row, number: int, dropped: Counter[str], *, prompt: str | None, id_column: str | None
) -> dict[str, Any]:
    """A row of ours. What is in none of its parts stays beside them as a column, else it is told as dropped."""
    key_column = _key_column(row, id_column)
    key = row.get(key_column)
    told: dict[str, Any] = {"custom_id": str(key) if key not in (None, "") else f"row-{number}"}
    shape = shape_of(row) if prompt is None else None
    if shape is not None:
        told["params"] = fields_of(row, sampling_allowed=False, drop=lambda name: dropped.update([name]))
        expected, read = _expected(row), READ_COLUMNS[shape]
    else:
        column = _prompt_column(row, prompt)
        told["params"] = {"messages": [{"role": "user", "content": row[column]}]}
        expected, read = None, frozenset({column})
    if expected is not None:
        told["expected"] = expected
    for name in row.keys() - read - {key_column}:
        if name in told:
            dropped[f"the column {name}"] += 1
    return told | {name: value for name, value in row.items() if name not in {*told, *read, key_column}}


def _key_column(row: Row, id_column: str | None) -> str:
    if id_column is not None and id_column not in row:
        raise missing_column(id_column, row, "which is to be its key")
    return id_column or ("custom_id" if "custom_id" in row else "id")


def _prompt_column(row: Row, told: str | None) -> str:
    column = told or next((name for name in PROMPT_COLUMNS if type(row.get(name)) is str), None)
    if column is None:
        raise BadRow("has no prompt: none of its columns is one that is known; --prompt COLUMN names it")
    if column not in row:
        raise missing_column(column, row, "which is to be its prompt")
    if type(row[column]) is not str or not row[column].strip():
        raise BadRow(f'has no text in "{column}"')
    return column


def _expected(row: Row) -> Any:
    """The answer that is in the row: a last assistant turn, or a target."""
    if "target" in row:
        return row["target"]
    turns = row.get("messages") or row.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict):
        return None
    last = turns[-1]
    if last.get("role") == "assistant":
        return last.get("content")
    return last.get("value") if last.get("from") in ("gpt", "assistant") else None
