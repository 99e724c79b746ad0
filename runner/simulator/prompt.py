"""How long a prompt is, and the fingerprint by which an answer can be matched to it.

Estimates only: about four bytes a token, never more tokens than bytes. Marks for caches are no part of a prompt: they
change what it costs and not what is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

BYTES_PER_TOKEN = 4
MAX_IMAGE_TOKENS = 1568
DIGEST_LENGTH = 16
MARK = "cache_control"
_PROMPT_FIELDS = ("messages", "model", "system")

_MARK_BYTES = f'"{MARK}"'.encode()

_encoder = msgspec.json.Encoder(order="sorted")


def prompt_digest(params: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over model, messages and system as compact JSON with sorted keys."""
    prompt = {name: params[name] for name in _PROMPT_FIELDS if name in params}
    encoded = _encoder.encode(prompt)
    if _MARK_BYTES in encoded:
        encoded = _encoder.encode(_without_marks(prompt))
    return hashlib.sha256(encoded).hexdigest()[:DIGEST_LENGTH]


def _without_marks(prompt: dict[str, Any]) -> dict[str, Any]:
    told = prompt | {"messages": [unmarked(message) for message in prompt["messages"]]}
    if isinstance(prompt.get("system"), list):
        told["system"] = [unmarked(block) for block in prompt["system"]]
    return told


def unmarked(block: Any) -> Any:
    """A block or message without its own mark and those of the blocks in it."""
    if not isinstance(block, dict):
        return block
    told = {name: value for name, value in block.items() if name != MARK}
    if isinstance(told.get("content"), list):
        told["content"] = [unmarked(inner) for inner in told["content"]]
    return told


def input_tokens(params: Mapping[str, Any]) -> int:
    """What the prompt counts as: system, messages, tools and output schema."""
    size = content_bytes(params.get("system") or "")
    for message in params["messages"]:
        size += content_bytes(message["content"])
    if params.get("tools"):
        size += tool_bytes([unmarked(tool) for tool in params["tools"]])
    for extra in (params.get("output_config"), params.get("mcp_servers")):
        if extra:
            size += len(_encoder.encode(extra))
    return max(1, tokens_of_bytes(size))


def tool_bytes(tools: Any) -> int:
    """One tool or a list of them, without marks."""
    return len(_encoder.encode(tools))


def tokens_of_bytes(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def tokens_of_text(text: str) -> int:
    return tokens_of_bytes(len(text) if text.isascii() else len(text.encode()))


def content_bytes(content: Any) -> int:
    """A text, a block or a list of blocks."""
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode())
    if isinstance(content, list):
        return sum(map(content_bytes, content))
    if isinstance(content, dict):
        return _block_bytes(content)
    return len(_encoder.encode(content))


def _block_bytes(block: dict[str, Any]) -> int:
    """The values that a model reads; an image counts by its picture, which is never above the cap."""
    if block.get("type") == "image":
        return min(len(_encoder.encode(unmarked(block))), MAX_IMAGE_TOKENS * BYTES_PER_TOKEN)
    skipped = ("type", MARK, "signature")
    return sum(content_bytes(value) for name, value in block.items() if name not in skipped)
