"""Files that an answer tells of: what code execution and skills have written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def output_files(message: Mapping[str, Any]) -> list[str]:
    """The ids of files in the results of server tools, each once, in their order."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    results = [block for block in blocks if isinstance(block, Mapping) and _is_result(block.get("type"))]
    return list(dict.fromkeys(file_id for block in results for file_id in _ids(block.get("content"))))


def _is_result(kind: Any) -> bool:
    return isinstance(kind, str) and "code_execution" in kind and kind.endswith("_tool_result")


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("file_id"), str):
            yield value["file_id"]
        for part in value.values():
            yield from _ids(part)
    elif isinstance(value, list):
        for part in value:
            yield from _ids(part)
