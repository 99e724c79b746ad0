"""The JSON Schema of a job file, for editors: made from the same sections by which a file is checked."""

from __future__ import annotations

import json
from typing import Any

from runner.files.job_schema import JobSection

DRAFT = "http://json-schema.org/draft-07/schema#"


def job_json_schema() -> dict[str, Any]:
    """Draft-07, with unknown keys refused."""
    told = JobSection.model_json_schema(mode="validation")
    definitions = told.pop("$defs", {})
    schema = {
        "$schema": DRAFT,
        "title": "runner job",
        "description": "What to ask, of which model, within which limits.",
        **{name: value for name, value in told.items() if name not in ("title", "description")},
        "definitions": definitions,
    }
    text = json.dumps(schema).replace("#/$defs/", "#/definitions/")
    plain: dict[str, Any] = _without_titles(json.loads(text))
    return plain


def _without_titles(value: Any) -> Any:
    """Titles that only repeat a name, and defaults that are no words of the file."""
    if isinstance(value, list):
        return [_without_titles(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_titles(part)
        for name, part in value.items()
        if not (name == "title" and isinstance(part, str) and part != "runner job") and name != "default"
    }


def job_json_schema_text() -> str:
    return json.dumps(job_json_schema(), indent=2) + "\n"
