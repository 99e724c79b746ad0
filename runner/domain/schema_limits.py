"""What a schema may not be when the API is to keep to it: for `output_config.format` and for strict tools. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.domain.trap import Path, Trap

MOST_STRICT_TOOLS = 20
MOST_OPTIONAL = 24
MOST_UNIONS = 16
# What the grammar does not know; beside these array limits other than minItems of 0 or 1.
UNKNOWN = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems",
)  # fmt: skip
MAX_DEPTH = 60


@dataclass
class _Tally:
    optional: int = 0
    unions: int = 0
    traps: list[Trap] = field(default_factory=list)


def schema_traps(output: Any, tools: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Trap]:
    """`output` is the schema of output_config.format, None without one; `tools` come with their numbers."""
    tally = _Tally()
    if isinstance(output, Mapping):
        _look(output, ("output_config", "format", "schema"), tally, 0)
        _circles(output, ("output_config", "format", "schema"), tally)
    strict = [(number, tool) for number, tool in tools if tool.get("strict") is True]
    for number, tool in strict:
        schema = tool.get("input_schema")
        if isinstance(schema, Mapping):
            _look(schema, ("tools", number, "input_schema"), tally, 0)
            _circles(schema, ("tools", number, "input_schema"), tally)
    yield from tally.traps
    where: Path = ("output_config", "format", "schema") if isinstance(output, Mapping) else ("tools",)
    for many, most, what in (
        (len(strict), MOST_STRICT_TOOLS, "strict tools"),
        (tally.optional, MOST_OPTIONAL, "optional parameters in all strict schemas together"),
        (tally.unions, MOST_UNIONS, "parameters of several types in all strict schemas together"),
    ):
        if many > most:
            yield _trap(where, f"{many} {what} are too many", f"at most {most}")


def _look(schema: Any, path: Path, tally: _Tally, depth: int) -> None:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return
    for word in UNKNOWN:
        if word in schema:
            sentence = f'the API keeps to no schema with "{word}"'
            tally.traps.append(_trap((*path, word), sentence, "remove it, and say it in a description"))
    if schema.get("minItems") not in (None, 0, 1):
        tally.traps.append(_trap((*path, "minItems"), "minItems may be 0 or 1 here", "remove it"))
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        tally.traps.append(_trap((*path, "$ref"), "a $ref may only lead into the schema itself", "put it in place"))
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        sentence = "an object needs additionalProperties: false"
        tally.traps.append(_trap(path, sentence, "add it"))
    if isinstance(schema.get("type"), (list, tuple)) or "anyOf" in schema:
        tally.unions += 1
    _look_inside(schema, path, tally, depth)


def _look_inside(schema: Mapping[str, Any], path: Path, tally: _Tally, depth: int) -> None:
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, Mapping):
        needed = required if isinstance(required, (list, tuple)) else ()
        tally.optional += sum(name not in needed for name in properties)
        for name, part in properties.items():
            _look(part, (*path, "properties", name), tally, depth + 1)
    for word in ("$defs", "definitions"):
        if isinstance(named := schema.get(word), Mapping):
            for name, part in named.items():
                _look(part, (*path, word, name), tally, depth + 1)
    for word in ("anyOf", "allOf"):
        parts = schema.get(word)
        for number, part in enumerate(parts if isinstance(parts, (list, tuple)) else ()):
            if word == "allOf" and isinstance(part, Mapping) and "$ref" in part:
                tally.traps.append(_trap((*path, word, number), "allOf may hold no $ref", "put it in place"))
            _look(part, (*path, word, number), tally, depth + 1)
    _look(schema.get("items"), (*path, "items"), tally, depth + 1)


def _circles(root: Mapping[str, Any], path: Path, tally: _Tally) -> None:
    """A definition that leads back to itself."""
    definitions = {
        f"#/{word}/{name}": part
        for word in ("$defs", "definitions")
        if isinstance(root.get(word), Mapping)
        for name, part in root[word].items()
    }
    leads = {name: set(_references(part)) for name, part in definitions.items()}
    leads["#"] = set(
        _references({name: value for name, value in root.items() if name not in ("$defs", "definitions")})
    )
    for name, first in leads.items():
        seen, ahead = set[str](), list(first)
        while ahead:
            here = ahead.pop()
            if here == name:
                sentence = f"{name} leads back to itself, and recursive schemas are not taken"
                tally.traps.append(_trap(path, sentence, "spell out as many levels as you need"))
                return
            if here not in seen:
                seen.add(here)
                ahead.extend(leads.get(here, ()))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _references(part)


def _trap(path: Path, sentence: str, fix: str) -> Trap:
    return Trap(path=path, rule="schema", sentence=sentence, fix=fix)
