"""The JSON Schemas that answers are to follow, as a job holds them: in `output_config.format` and in strict tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.domain.schema_limits import MAX_STRICT_TOOLS
from runner.domain.schema_limits import schema_problems as problems_of_schema
from runner.domain.trap import anyway
from runner.files.job_yaml import Document, Problem
from runner.files.job_yaml import Path as KeyPath


def schema_problems(document: Document, request: dict[str, Any], path: KeyPath) -> Iterator[Problem]:
    """What the API would refuse about them."""
    for where, schema in _schemas(request):
        for found in problems_of_schema(schema):
            full = (*path, *where, *found.path)
            place = document.key_place(full) or document.value_place(full)
            name = ".".join(str(part) for part in found.path)
            subject = f"the schema's {name}: " if name else "the schema: "
            yield Problem(place=place, sentence=f"{subject}{found.sentence} ({anyway('schema')})")
    strict = [where for where, _ in _schemas(request) if where[0] == "tools"]
    if len(strict) > MAX_STRICT_TOOLS:
        sentence = f"{len(strict)} strict tools are more than the API takes, {MAX_STRICT_TOOLS} ({anyway('schema')})"
        yield Problem(place=document.value_place((*path, "tools")), sentence=sentence)


def _schemas(request: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    config = request.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict) and "schema" in wanted:
        yield ("output_config", "format", "schema"), wanted["schema"]
    tools = request.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("strict") is True and "input_schema" in tool:
            yield ("tools", number, "input_schema"), tool["input_schema"]
