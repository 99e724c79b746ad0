"""What the API takes of a JSON Schema that answers are held to: the first thing it would refuse, and where.

Of the documentation of structured outputs; a schema that passes may still be called too complex.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

MAX_STRICT_TOOLS = 20
MAX_OPTIONAL = 24
MAX_UNIONS = 16

TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
UNSUPPORTED = {
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "limits of numbers"
    ),
    **dict.fromkeys(("minLength", "maxLength"), "lengths of texts"),
    **dict.fromkeys(("maxItems", "uniqueItems", "contains", "prefixItems"), "limits of lists but minItems 0 or 1"),
    **dict.fromkeys(("minProperties", "maxProperties", "patternProperties", "propertyNames"), "limits of keys"),
    **dict.fromkeys(("if", "then", "else", "not", "dependentSchemas", "dependentRequired", "oneOf"), "conditions"),
}

Path = tuple[str | int, ...]


class SchemaProblem(Struct, frozen=True, kw_only=True):
    """What the API would refuse. `path` leads there from the schema's root."""

    path: Path
    sentence: str


class _Counts:
    """What is limited for the whole schema."""

    def __init__(self) -> None:
        self.optional = 0
        self.unions = 0


def schema_problems(schema: Any) -> list[SchemaProblem]:
    """Everything in one schema that would be refused."""
    if not isinstance(schema, Mapping):
        return [SchemaProblem(path=(), sentence="must be a JSON Schema, a map")]
    counts = _Counts()
    found = list(_problems(schema, (), schema, counts))
    found += list(_recursions(schema))
    if counts.optional > MAX_OPTIONAL:
        sentence = f"has {counts.optional} optional properties; the API takes {MAX_OPTIONAL}: list more in required"
        found.append(SchemaProblem(path=(), sentence=sentence))
    if counts.unions > MAX_UNIONS:
        sentence = f"has {counts.unions} properties of several types; the API takes {MAX_UNIONS}"
        found.append(SchemaProblem(path=(), sentence=sentence))
    return found


def _problems(schema: Any, path: Path, root: Mapping[str, Any], counts: _Counts) -> Iterator[SchemaProblem]:
    if not isinstance(schema, Mapping):
        if not isinstance(schema, bool):
            yield SchemaProblem(path=path, sentence="must be a JSON Schema, a map")
        return
    for name, what in UNSUPPORTED.items():
        if name in schema:
            sentence = f"{name} is not supported: answers cannot be held to {what}; say it in the description"
            yield SchemaProblem(path=(*path, name), sentence=sentence)
    yield from _of_keywords(schema, path, root)
    yield from _of_object(schema, path, counts)
    if isinstance(schema.get("type"), list) or "anyOf" in schema:
        counts.unions += 1
    for part, where in _inner(schema):
        yield from _problems(part, (*path, *where), root, counts)


def _of_keywords(schema: Mapping[str, Any], path: Path, root: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    named = schema.get("type", [])
    for kind in [named] if isinstance(named, str) else named if isinstance(named, list) else [named]:
        if kind not in TYPES:
            yield SchemaProblem(path=(*path, "type"), sentence=f"{kind} is no type: {', '.join(sorted(TYPES))}")
    if schema.get("minItems", 0) not in (0, 1):
        yield SchemaProblem(path=(*path, "minItems"), sentence="minItems must be 0 or 1")
    form = schema.get("format")
    if isinstance(form, str) and form not in FORMATS:
        yield SchemaProblem(path=(*path, "format"), sentence=f"the format {form} is not supported")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _compiles(pattern):
        yield SchemaProblem(path=(*path, "pattern"), sentence="is not a regular expression")
    reference = schema.get("$ref")
    if isinstance(reference, str) and resolved(root, reference) is None:
        sentence = f"{reference} is not in this schema; only #/$defs/... can be referred to"
        yield SchemaProblem(path=(*path, "$ref"), sentence=sentence)
    for part in schema.get("allOf", []) if isinstance(schema.get("allOf"), list) else []:
        if isinstance(part, Mapping) and "$ref" in part:
            yield SchemaProblem(path=(*path, "allOf"), sentence="allOf cannot hold a $ref")


def _of_object(schema: Mapping[str, Any], path: Path, counts: _Counts) -> Iterator[SchemaProblem]:
    properties = schema.get("properties")
    kind = schema.get("type")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind) and not isinstance(properties, Mapping):
        return
    if schema.get("additionalProperties") is not False:
        yield SchemaProblem(path=path, sentence="an object needs additionalProperties: false")
    required = schema.get("required", [])
    names = list(properties) if isinstance(properties, Mapping) else []
    if isinstance(required, list):
        counts.optional += sum(name not in required for name in names)
        for name in required:
            if name not in names:
                yield SchemaProblem(path=(*path, "required"), sentence=f"required names {name}, which is no property")


def _recursions(root: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    """A definition that leads back to itself."""
    for group in ("$defs", "definitions"):
        parts = root.get(group)
        for name in parts if isinstance(parts, Mapping) else ():
            if _leads_to(root, f"#/{group}/{name}"):
                sentence = "leads back to itself; the API takes no recursion"
                yield SchemaProblem(path=(group, str(name)), sentence=sentence)


def _leads_to(root: Mapping[str, Any], start: str) -> bool:
    seen: set[str] = set()
    waiting = list(_references(resolved(root, start)))
    while waiting:
        reference = waiting.pop()
        if reference == start:
            return True
        if reference not in seen:
            seen.add(reference)
            waiting += _references(resolved(root, reference))
    return False


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part, _ in _inner(schema):
            yield from _references(part)


def resolved(root: Mapping[str, Any], reference: str) -> Any:
    """What a local reference means, None where it means nothing."""
    if not reference.startswith("#"):
        return None
    target: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        target = target.get(name) if isinstance(target, Mapping) else None
    return target


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[Any, Path]]:
    for group in ("properties", "$defs", "definitions"):
        parts = schema.get(group)
        if isinstance(parts, Mapping):
            yield from ((part, (group, str(name))) for name, part in parts.items())
    for group in ("anyOf", "allOf"):
        listed = schema.get(group)
        for number, part in enumerate(listed if isinstance(listed, list) else ()):
            yield part, (group, number)
    if "items" in schema:
        yield schema["items"], ("items",)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
