"""A number of input tokens that a request cannot exceed, from its body alone.

Every token stands for at least one byte of what is sent, so the body's own length is a bound of its text; images
and what the API adds by itself come on top. Where the API fetches or computes input there is no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The hidden prompt that tools bring along is 290 to 800 tokens; the rest is room for turn marks.
ADDED_BY_THE_API = 1_000
# The largest number of tokens that the API makes of one image.
IMAGE_TOKENS = 4_784

SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "mcp_toolset", "advisor_", "tool_search_")
FETCHED_SOURCES = frozenset({"url", "file"})


class _Unbounded(Exception):
    """Something in the request is fetched or computed by the API."""


def prompt_tokens_bound(body: Mapping[str, Any], body_bytes: int) -> int | None:
    """The bound of a request of `body_bytes`, or None where there is none."""
    if _brings_server_tools(body):
        return None
    try:
        images = sum(_images(turn.get("content")) for turn in body["messages"]) + _images(body.get("system"))
    except _Unbounded:
        return None
    return body_bytes + ADDED_BY_THE_API + images * IMAGE_TOKENS


def _brings_server_tools(body: Mapping[str, Any]) -> bool:
    if body.get("mcp_servers") or "container" in body:
        return True
    tools = body.get("tools") or ()
    return any(isinstance(tool, dict) and str(tool.get("type", "")).startswith(SERVER_TOOLS) for tool in tools)


def _images(content: Any) -> int:
    """Image blocks in a turn's content, those inside tool results and documents too."""
    if type(content) is not list:
        return 0
    return sum(_images_of_block(block) for block in content if type(block) is dict)


def _images_of_block(block: dict[str, Any]) -> int:
    kind = block.get("type")
    source = block.get("source")
    if kind == "image" and not (type(source) is dict and source.get("type") == "url"):
        return 1  # one that was uploaded too: the API makes no more tokens of any
    if kind == "container_upload" or (type(source) is dict and source.get("type") in FETCHED_SOURCES):
        raise _Unbounded
    if kind == "document" and type(source) is dict:
        # The pages of a PDF count as images, and compression hides how many there are.
        if source.get("type") == "base64":
            raise _Unbounded
        return _images(source.get("content"))
    return _images(block.get("content"))
