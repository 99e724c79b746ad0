"""The columns of a result: those of its row, of its answer, and what became of it.

A name alone means the row's column, else the answer's; `row.x` and `output.x` say which. What begins with `_` is
about the result. So a model that answers with a key of the row's never takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from runner.domain.job import Job, OutputSpec
from runner.domain.nearest import did_you_mean
from runner.domain.result import ExportedRow
from runner.files.message_parts import message_parts, raw_json_inside, raw_text
from runner.files.output_lines import usd_number

ROW, OUTPUT = "row.", "output."
# What a table has at its end when nothing is said about columns.
LAST_COLUMNS = ("_status", "_error", "_cost_usd", "_model")
# Columns that a table may have; more are the mark of keys that are data.
MAX_COLUMNS = 2_000


class Literal(str):
    """A number in the digits in which it stood."""

    __slots__ = ()


_decode = json.JSONDecoder(parse_float=Literal).decode


def read_exactly(data: bytes) -> Any:
    """JSON with its numbers' own digits."""
    return _decode(data.decode())


class Answer:
    """What an answer spells in JSON, read when it is asked for: most columns are not of it."""

    __slots__ = ("_message", "_value")

    def __init__(self, message: bytes | None) -> None:
        self._message = message

    @property
    def value(self) -> Any:
        if not hasattr(self, "_value"):
            self._value = answer_value(self._message)
        return self._value


class Columns:
    """Looks up columns of results of one run. `variants` are their names."""

    def __init__(self, run: str, variants: Sequence[str] = ()) -> None:
        self._run = run
        self._variants = variants

    def values(self, exported: ExportedRow, names: Iterable[str]) -> list[Any]:
        row, answer = read_exactly(exported.row), Answer(exported.message)
        return [self._value(name, exported, row, answer) for name in names]

    def _value(self, name: str, exported: ExportedRow, row: Mapping[str, Any], answer: Answer) -> Any:
        if name.startswith("_") and name in FACTS:
            return self._fact(name, exported)
        if name.startswith(OUTPUT):
            return inside(answer.value, name.removeprefix(OUTPUT))
        if name.startswith(ROW) and name not in row:
            return row.get(name.removeprefix(ROW))
        if name in row:
            return row[name]
        return answer.value if name == "output" else inside(answer.value, name)

    def _fact(self, name: str, exported: ExportedRow) -> Any:
        result = exported.result
        if name == "_text":
            return None if exported.message is None else json.loads(raw_text(message_parts(exported.message)))
        if name == "_run":
            return self._run
        if name == "_variant":
            return self._variants[result.variant] if self._variants else None
        if name == "_cost_usd":
            cost = bytes(usd_number(result.cost_pico)).decode()
            return None if cost == "null" else Literal(cost)
        if name == "_latency_ms":
            return None if result.latency_us is None else round(result.latency_us / 1000)
        if name in TOKENS:
            return None if result.usage is None else getattr(result.usage, TOKENS[name])
        value = getattr(result, FACTS[name])
        return str(value) if name == "_status" else value


TOKENS = {"_input_tokens": "prompt_tokens", "_output_tokens": "output_tokens"}
FACTS = {
    "_key": "key",
    "_index": "idx",
    "_status": "status",
    "_error": "error_type",
    "_message": "error_message",
    "_cost_usd": "cost_pico",
    "_model": "model",
    "_variant": "variant",
    "_repeat": "repeat",
    "_run": "run",
    "_text": "text",
    "_stop_reason": "stop_reason",
    "_attempts": "attempts",
    "_latency_ms": "latency_us",
    "_request_id": "request_id",
    "_batch": "batch",
    **dict.fromkeys(TOKENS, "usage"),
}


def reads_json(job: Job, spec: OutputSpec) -> bool:
    """Is an answer a value? Where a schema was asked for, or the job says so."""
    requests = [job.request, *(variant.request for variant in job.variants)]
    configs = [request.get("output_config") for request in requests]
    tools = [tool for request in requests for tool in _list(request.get("tools"))]
    strict = any(isinstance(tool, dict) and tool.get("strict") is True for tool in tools)
    return spec.parse_json or strict or any(isinstance(config, dict) and "format" in config for config in configs)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def column_doubts(names: Iterable[str], of_rows: Collection[str]) -> Iterator[str]:
    """Sentences about columns of an output that nothing may fill, by the columns that some rows have. What no row has
    and is like none of theirs is left to the answers."""
    for name in names:
        plain = name.removeprefix(ROW)
        if name in FACTS or plain in of_rows or name.startswith(OUTPUT) or name == "output":
            continue
        meant = did_you_mean(plain, [*of_rows, *FACTS])
        if name.startswith((ROW, "_")):
            yield f"output: there is no column {name}{meant}; it will be empty."
        elif meant:
            yield f"output: no row has a column {name}{meant}; it is looked for in the answers."


def answer_value(message: bytes | None) -> Any:
    """What the answer spells in JSON: its text, else the input of its first tool call; None where it spells none."""
    if message is None:
        return None
    parts = message_parts(message)
    raw = raw_json_inside(raw_text(parts))
    if raw is None:
        raw = next((bytes(block.input) for block in parts.content if block.type == "tool_use"), None)
    return None if raw is None else read_exactly(raw)


def inside(value: Any, path: str) -> Any:
    """`a.b` of nested maps; None where there is none."""
    if isinstance(value, Mapping) and path in value:
        return value[path]
    name, _, rest = path.partition(".")
    if not isinstance(value, Mapping) or name not in value:
        return None
    return inside(value[name], rest) if rest else value[name]


def found_columns(rows: Iterable[ExportedRow], *, parse_json: bool) -> list[str]:
    """All columns of some results: those of the rows in the order in which they come, those of the answers, the last.

    An answer that is no map is one column.
    """
    of_rows: dict[str, None] = {}
    of_answers: dict[str, None] = {}
    for exported in rows:
        for name in read_exactly(exported.row):
            of_rows[f"{ROW}{name}" if name in FACTS or name.startswith((OUTPUT, ROW)) else name] = None
        output = answer_value(exported.message) if parse_json else None
        if isinstance(output, Mapping):
            of_answers |= dict.fromkeys(f"{OUTPUT}{name}" for name in output)
        if len(of_rows) + len(of_answers) > MAX_COLUMNS:
            break
    return [*of_rows, *(of_answers if parse_json and of_answers else {"_text": None}), *LAST_COLUMNS]


def exact(value: object) -> object:
    """The value as it is encoded with its numbers' own digits, and without halves of characters."""
    if isinstance(value, Literal):
        return msgspec.Raw(str(value).encode())
    if isinstance(value, dict):
        return {name: exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [exact(part) for part in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
