"""Which JSON Schemas the service takes: sound ones for tools, and a smaller language for structured outputs.

Pure: a schema in, the first problem out, or None. What an instance looks like is said in `instances`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from runner.simulator.problems import Problem, invalid

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_SHAPES: dict[str, type | tuple[type, ...]] = {
    "properties": dict,
    "$defs": dict,
    "definitions": dict,
    "required": list,
    "enum": list,
    "anyOf": list,
    "oneOf": list,
    "allOf": list,
    "type": (str, list),
    "items": (dict, bool),
    "pattern": str,
    "format": str,
    "$ref": str,
    "minItems": int,
    "maxItems": int,
    "minLength": int,
    "maxLength": int,
    "minimum": (int, float),
    "maximum": (int, float),
    "exclusiveMinimum": (int, float),
    "exclusiveMaximum": (int, float),
}
_NOT_EMPTY = ("enum", "anyOf", "oneOf", "allOf", "type")
_NO_GRAMMAR_FOR = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip


def unsound(schema: Any, where: str) -> Problem | None:
    """Not a JSON Schema at all."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return invalid(f"{where}: Input should be a JSON schema")
    return _misshapen(schema, where) or _first(unsound(part, path) for path, part in _inner(schema, where))


def without_grammar(schema: Any, where: str) -> Problem | None:
    """Sound, but beyond what structured outputs and strict tools can be held to."""
    if not isinstance(schema, dict):
        return None
    for name in _NO_GRAMMAR_FOR:
        if name in schema:
            return invalid(f"{where}: property '{name}' is not supported")
    if schema.get("minItems", 0) not in (0, 1):
        return invalid(f"{where}: 'minItems' must be 0 or 1")
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return invalid(f"{where}: 'additionalProperties' must be false for objects")
    return _first(without_grammar(part, path) for path, part in _inner(schema, where))


def _misshapen(schema: dict[str, Any], where: str) -> Problem | None:
    for name, shape in _SHAPES.items():
        if name in schema and not isinstance(schema[name], shape):
            return invalid(f"{where}.{name}: has the wrong type for a JSON schema")
    for name in _NOT_EMPTY:
        if name in schema and not schema[name]:
            return invalid(f"{where}.{name}: must not be empty")
    if any(not isinstance(name, str) for name in schema.get("required", ())):
        return invalid(f"{where}.required: must be a list of names")
    return _unknown_type(schema, where) or _unreadable_pattern(schema, where)


def _unknown_type(schema: dict[str, Any], where: str) -> Problem | None:
    told = schema.get("type", [])
    named = [told] if isinstance(told, str) else told
    wrong = [name for name in named if name not in TYPES]
    return invalid(f"{where}.type: {wrong[0]!r} is not a type") if wrong else None


def _unreadable_pattern(schema: dict[str, Any], where: str) -> Problem | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about patterns that a later version may read otherwise
            re.compile(schema.get("pattern", ""))
    except re.error as error:
        return invalid(f"{where}.pattern: {error}")
    return None


def _inner(schema: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for group in ("properties", "$defs", "definitions"):
        for name, part in schema.get(group, {}).items():
            yield f"{where}.{group}.{name}", part
    for group in ("anyOf", "oneOf", "allOf"):
        for number, part in enumerate(schema.get(group, ())):
            yield f"{where}.{group}.{number}", part
    if "items" in schema:
        yield f"{where}.items", schema["items"]


def _first(problems: Iterator[Problem | None]) -> Problem | None:
    return next((problem for problem in problems if problem is not None), None)
