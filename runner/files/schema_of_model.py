"""A pydantic model as the JSON Schema that answers are to follow: `{ $model: "shapes:Invoice" }`.

What the API cannot hold answers to, such as `minimum`, is moved into the description, where the model reads it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runner.domain.schema_limits import FORMATS, UNSUPPORTED


def schema_of_model(name: str, folder: Path) -> dict[str, Any]:
    """The schema of `module:Class`, looked for beside the job file first. Raises ValueError with what is wrong."""
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ValueError(f"{name} is not of the form module:Class")
    sys.path.insert(0, str(folder.absolute()))
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as problem:
        raise ValueError(f"{name} cannot be imported: {problem}") from None
    finally:
        sys.path.remove(str(folder.absolute()))
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        raise ValueError(f"{name} is no pydantic model")
    closed: dict[str, Any] = _closed(found.model_json_schema())
    return closed


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    told = {name: _closed(part) for name, part in schema.items() if name not in ("title", "default")}
    if "properties" in schema:
        # Names of properties are not keywords.
        told["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        told["additionalProperties"] = False
    return _with_limits_described(told)


def _with_limits_described(told: dict[str, Any]) -> dict[str, Any]:
    limits = [name for name in UNSUPPORTED if name in told]
    if told.get("minItems", 0) not in (0, 1):
        limits.append("minItems")
    if isinstance(told.get("format"), str) and told["format"] not in FORMATS:
        limits.append("format")
    if not limits or "properties" in told:
        return told
    words = ", ".join(f"{name}: {told.pop(name)}" for name in limits)
    told["description"] = f"{told['description']} ({words})" if told.get("description") else words
    return told
