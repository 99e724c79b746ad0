"""How long a prompt is, and the fingerprint by which an answer can be matched to it.

Estimates only: about four bytes a token, never more tokens than bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

BYTES_PER_TOKEN = 4
MAX_IMAGE_TOKENS = 1568
DIGEST_LENGTH = 16
_PROMPT_FIELDS = ("messages", "model", "system")

_encoder = msgspec.json.Encoder(order="sorted")


def prompt_digest(params: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over model, messages and system as compact JSON with sorted keys."""
    prompt = {name: params[name] for name in _PROMPT_FIELDS if name in params}
    return hashlib.sha256(_encoder.encode(prompt)).hexdigest()[:DIGEST_LENGTH]


def input_tokens(params: Mapping[str, Any]) -> int:
    """What the prompt counts as: system, messages, tools and output schema."""
    size = _content_bytes(params.get("system") or "")
    for message in params["messages"]:
        size += _content_bytes(message["content"])
    for extra in (params.get("tools"), params.get("output_config"), params.get("mcp_servers")):
        if extra:
            size += len(_encoder.encode(extra))
    return max(1, tokens_of_bytes(size))


def tokens_of_bytes(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def tokens_of_text(text: str) -> int:
    return tokens_of_bytes(len(text) if text.isascii() else len(text.encode()))


def _content_bytes(content: Any) -> int:
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode())
    if isinstance(content, list):
        return sum(map(_content_bytes, content))
    if isinstance(content, dict):
        return _block_bytes(content)
    return len(_encoder.encode(content))


def _block_bytes(block: dict[str, Any]) -> int:
    """The values that a model reads; an image counts by its picture, which is never above the cap."""
    if block.get("type") == "image":
        return min(len(_encoder.encode(block)), MAX_IMAGE_TOKENS * BYTES_PER_TOKEN)
    skipped = ("type", "cache_control", "signature")
    return sum(_content_bytes(value) for name, value in block.items() if name not in skipped)
