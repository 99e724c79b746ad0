"""The row shapes that need no template, and how each becomes the fields of a Messages request.

A row with a template is only columns for it; these shapes are looked for when the job has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner.files.bad_row import BadRow
from runner.files.openai_line import translate_body

Fields = dict[str, Any]

KNOWN_SHAPES = (
    '"prompt", "messages", "conversations", "input" with "target", '
    ' "custom_id" with "params", or "custom_id" with "url" and "body"'
)


def fields_of(row: Mapping[str, Any], *, sampling_allowed: bool, drop: Callable[[str], None]) -> Fields:
    """The request fields that the row itself brings: messages, and perhaps system, model and others.

    A field that has no counterpart is told to `drop`. Raises BadRow for a row of no known shape.
    """
    shape = shape_of(row)
    if shape is None:
        raise BadRow(f"has no prompt and the job has no template: expected {KNOWN_SHAPES}")
    if shape == "body":
        return translate_body(row, sampling_allowed=sampling_allowed, drop=drop)
    return _READERS[shape](row)


def shape_of(row: Mapping[str, Any]) -> str | None:
    """The column that says what the row asks, None where none does."""
    if "body" in row and ("url" in row or "method" in row):
        return "body"
    for name in ("prompt", "messages", "conversations", "params"):
        if name in row:
            return name
    return "input" if "input" in row and "target" in row else None


def _of_prompt(row: Mapping[str, Any]) -> Fields:
    prompt = row["prompt"]
    if type(prompt) is not str:
        raise BadRow('has a "prompt" that is not text')
    if not prompt or prompt.isspace():
        raise BadRow('has an empty "prompt"')
    return _with_options(row, {"messages": [{"role": "user", "content": prompt}]})


def _of_messages(row: Mapping[str, Any]) -> Fields:
    """A system turn at the top moves to `system`; a last assistant turn is the expected answer, and is not sent."""
    turns = checked_messages(row["messages"], '"messages"')
    fields: Fields = {}
    if turns[0]["role"] == "system":
        fields["system"] = turns[0].get("content")
        turns = turns[1:]
    if turns and turns[-1]["role"] == "assistant":
        turns = turns[:-1]
    if not turns:
        raise BadRow('has no turn to send in "messages"')
    fields["messages"] = turns
    return _with_options(row, fields)


# Who speaks, in the words of chat sets.
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def _of_conversation(row: Mapping[str, Any]) -> Fields:
    """`[{from, value}]`, as many chat sets have it."""
    turns = row["conversations"]
    if type(turns) is not list or not turns:
        raise BadRow('has "conversations" that are not a list of turns')
    messages = []
    for turn in turns:
        role = ROLES.get(turn.get("from", "")) if type(turn) is dict and type(turn.get("from")) is str else None
        if role is None or type(turn.get("value")) is not str:
            raise BadRow('has a turn in "conversations" without a known "from" and a "value"')
        messages.append({"role": role, "content": turn["value"]})
    return _of_messages({**row, "messages": messages})


def _of_sample(row: Mapping[str, Any]) -> Fields:
    """`input` and `target`, as evaluations have them: the target stays in the row as the expected answer."""
    told = row["input"]
    if type(told) is str:
        return _of_prompt({**row, "prompt": told})
    return _of_messages({**row, "messages": told})


def _of_params(row: Mapping[str, Any]) -> Fields:
    params = _params(row)
    checked_messages(params.get("messages"), '"params.messages"')
    return dict(params)


def _with_options(row: Mapping[str, Any], fields: Fields) -> Fields:
    """`system` and `params` beside a prompt: the row's own system text and its own request fields."""
    if row.get("system") is not None:
        if type(row["system"]) not in (str, list):
            raise BadRow('has a "system" that is neither text nor a list of blocks')
        fields["system"] = row["system"]
    return {**_params(row), **fields} if "params" in row else fields


def _params(row: Mapping[str, Any]) -> Fields:
    params = row["params"]
    if type(params) is not dict:
        raise BadRow('has "params" that are not an object')
    return params


def checked_messages(messages: Any, name: str) -> list[dict[str, Any]]:
    """`messages` if it is a list of turns with roles and content, else BadRow."""
    if type(messages) is not list:
        raise BadRow(f"has no {name}" if messages is None else f"has {name} that are not a list")
    if not messages:
        raise BadRow(f"has empty {name}")
    for turn in messages:
        if type(turn) is not dict or type(turn.get("role")) is not str:
            raise BadRow(f'has a turn without a "role" in {name}')
    return messages


_READERS: dict[str, Callable[[Mapping[str, Any]], Fields]] = {
    "prompt": _of_prompt,
    "messages": _of_messages,
    "conversations": _of_conversation,
    "params": _of_params,
    "input": _of_sample,
}
_OPTIONS = frozenset({"system", "params"})
# All columns that go into the request of a row of this shape.
READ_COLUMNS: dict[str, frozenset[str]] = {
    "body": frozenset({"body", "url", "method"}),
    "prompt": _OPTIONS | {"prompt"},
    "messages": _OPTIONS | {"messages"},
    "conversations": _OPTIONS | {"conversations"},
    "params": frozenset({"params"}),
    "input": _OPTIONS | {"input", "target"},
}
