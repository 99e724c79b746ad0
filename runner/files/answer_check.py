"""Does an answer follow its schema? The value that it spells, or what is wrong with it, in words for the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol, cast

import msgspec
from msgspec import Struct

from runner.files.message_parts import Message, message_parts, raw_text
from runner.files.strict_json import refuse_constant

# What is told of an answer that breaks its schema in many places.
SHOWN_PROBLEMS = 3
MAX_SHOWN_CHARS = 600


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Any: ...


class Checked(Struct, frozen=True, kw_only=True):
    """`problem` is None where the answer follows the schema, and `value` then what it says."""

    value: Any = None
    problem: str | None = None


class AnswerCheck:
    """The schemas of one way to ask: of the text, and of strict tools by name."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        config = request.get("output_config")
        wanted = config.get("format") if isinstance(config, Mapping) else None
        self._schema = wanted.get("schema") if isinstance(wanted, Mapping) else None
        tools = request.get("tools")
        self._tools: dict[str, Any] = {
            str(tool["name"]): tool["input_schema"]
            for tool in (tools if isinstance(tools, list) else ())
            if isinstance(tool, Mapping) and tool.get("strict") is True and "input_schema" in tool and "name" in tool
        }

    @property
    def looks(self) -> bool:
        """Is there anything that answers are to follow?"""
        return self._schema is not None or bool(self._tools)

    def checked(self, message: bytes) -> Checked:
        """The answer's value: what its text spells, or the input of its strict tool call."""
        parts = message_parts(message)
        calls = [block for block in parts.content if block.type == "tool_use" and block.name in self._tools]
        if calls:
            return self._checked_calls(calls)
        return Checked() if self._schema is None else self._checked_text(parts)

    def _checked_calls(self, calls: list[Any]) -> Checked:
        values = []
        for call in calls:
            value = json.loads(bytes(call.input) or b"{}")
            problem = _problem(self._tool_validators[call.name], value)
            if problem is not None:
                return Checked(problem=f"the input of the tool {call.name} does not follow its schema: {problem}")
            values.append(value)
        return Checked(value=values[0])

    def _checked_text(self, parts: Message) -> Checked:
        text = json.loads(raw_text(parts)).strip()
        if not text:
            return Checked(problem="it holds no text")
        try:
            value = json.loads(text, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as found:
            return Checked(problem=f"it is not JSON: {found}")
        problem = _problem(self._text_validator, value)
        return Checked(value=value) if problem is None else Checked(problem=problem)

    @cached_property
    def _text_validator(self) -> _Validator:
        return _validator(self._schema)

    @cached_property
    def _tool_validators(self) -> dict[str, _Validator]:
        return {name: _validator(schema) for name, schema in self._tools.items()}


def _validator(schema: Any) -> _Validator:
    from jsonschema import Draft202012Validator

    # Nothing is fetched: a reference out of the schema is refused when the job is read.
    return cast("_Validator", Draft202012Validator(schema))


def _problem(validator: _Validator, value: Any) -> str | None:
    try:
        found = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    except RecursionError:
        return "it is nested too deeply"
    if not found:
        return None
    told = [f"{error.json_path}: {error.message}" for error in found[:SHOWN_PROBLEMS]]
    more = f"; and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    return ("; ".join(told) + more)[:MAX_SHOWN_CHARS]


def stop_reason_of(message: bytes) -> str:
    """Why the service stopped there."""
    return _decode(message).stop_reason or ""


class _Stopped(msgspec.Struct):
    stop_reason: str | None = None


_decode = msgspec.json.Decoder(_Stopped).decode
