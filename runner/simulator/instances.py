"""A valid instance of a JSON Schema, chosen by a seeded dice: the subset that structured outputs accept.

It knows nothing of messages.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from runner.simulator.patterns import text_matching

Schema = Mapping[str, Any]

MAX_DEPTH = 12  # deeper than any schema that the service compiles; only a recursive one gets there

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper")
_FORMATS = {
    "date-time": "2026-11-{day:02d}T12:00:00Z",
    "date": "2026-11-{day:02d}",
    "time": "12:{day:02d}:00Z",
    "duration": "P{day}D",
    "email": "person{day}@example.com",
    "hostname": "host{day}.example.com",
    "uri": "https://example.com/{day}",
    "ipv4": "192.0.2.{day}",
    "ipv6": "2001:db8::{day}",
    "uuid": "00000000-0000-4000-8000-0000000000{day:02d}",
}


def instance_of(schema: Schema, *, seed: str, digest: str) -> Any:
    """One instance; free strings end with the digest, so that a test can tell whose answer it is."""
    return _Maker(schema, random.Random(seed), digest).make(schema, 0)


class _Maker:
    def __init__(self, root: Schema, dice: random.Random, digest: str) -> None:
        self._root = root
        self._dice = dice
        self._digest = digest

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return None
        if "$ref" in schema:
            return self.make(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._dice.choice(schema["enum"])
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self.make(self._choose(schema[union], depth), depth + 1)
        if "allOf" in schema:
            return self.make(self._merged(schema), depth + 1)
        return self._of_type(schema, depth)

    def _resolve(self, ref: str) -> Any:
        target: Any = self._root
        for part in ref.removeprefix("#").strip("/").split("/"):
            if part and isinstance(target, Mapping):
                target = target.get(part.replace("~1", "/").replace("~0", "~"), {})
        return target

    def _choose(self, options: list[Any], depth: int) -> Any:
        """Deep down the shortest way out, so that a recursive schema ends."""
        return self._dice.choice(options) if depth < MAX_DEPTH // 2 else min(options, key=lambda o: len(str(o)))

    def _merged(self, schema: Schema) -> dict[str, Any]:
        merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            merged["properties"] = {**merged.get("properties", {}), **part.get("properties", {})}
            merged["required"] = [*merged.get("required", []), *part.get("required", [])]
            merged.update({name: part[name] for name in part if name not in ("properties", "required")})
        return {name: value for name, value in merged.items() if value not in ({}, [])}

    def _of_type(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._dice.choice(kind)
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        return self._scalar(kind, schema)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        """Required properties first, the others by a throw of the dice."""
        properties = schema.get("properties", {})
        required = list(dict.fromkeys(schema.get("required", ())))
        optional = [name for name in properties if name not in required and self._dice.random() < 0.5]
        return {name: self.make(properties.get(name, {}), depth + 1) for name in required + optional}

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 3)))
        count = self._dice.randint(least, most) if depth < MAX_DEPTH // 2 else least
        return [self.make(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def _scalar(self, kind: str, schema: Schema) -> Any:
        if kind == "boolean":
            return self._dice.random() < 0.5
        if kind == "integer":
            return self._dice.randint(*_whole_bounds(schema))
        if kind == "number":
            low, high = _whole_bounds(schema)
            return low if low == high else min(high, self._dice.randint(low, high - 1) + 0.5)
        return None if kind == "null" else self._string(schema)

    def _string(self, schema: Schema) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]].format(day=self._dice.randint(1, 28))
        if "pattern" in schema:
            return text_matching(schema["pattern"])
        text = f"{self._dice.choice(_WORDS)} {self._dice.choice(_WORDS)} [{self._digest}]"
        text = text[: schema.get("maxLength", len(text))]
        return text.ljust(int(schema.get("minLength", 0)), ".")


def _whole_bounds(schema: Schema) -> tuple[int, int]:
    low = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    high = int(schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 101) - 1))
    return low, max(low, high)
