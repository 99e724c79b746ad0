"""A number of input tokens that a request cannot exceed, from its body alone.

Every token stands for at least one byte of what is sent, so the body's own length is a bound of its text; images
and what the API adds by itself come on top. Of a document nobody knows how long it is: what bounds it is the model's
context, beyond which a request is refused and costs nothing. Where the API goes on by itself there is no bound.
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


# More than any context holds.
ANY_NUMBER = 10**9


class _AnyLength(Exception):
    """A document in the request may be of any length."""


class _GoesOn(Exception):
    """The API goes on by itself with what is in the request."""


def prompt_tokens_bound(body: Mapping[str, Any], body_bytes: int) -> int | None:
    """The bound of a request of `body_bytes`, or None where there is none; it may be more than the model takes."""
    if _brings_server_tools(body):
        return None
    try:
        images = sum(_images(turn.get("content")) for turn in body["messages"]) + _images(body.get("system"))
    except _AnyLength:
        return ANY_NUMBER
    except _GoesOn:
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
    if kind == "container_upload":
        raise _GoesOn
    if type(source) is dict and source.get("type") in FETCHED_SOURCES:
        raise _AnyLength
    if kind == "document" and type(source) is dict:
        # The pages of a PDF count as images, and compression hides how many there are.
        if source.get("type") == "base64":
            raise _AnyLength
        return _images(source.get("content"))
    return _images(block.get("content"))
