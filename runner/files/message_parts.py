"""What output lines need of an answer, read from its bytes without unpacking them.

Texts stay raw JSON: pieces of a JSON string put together are a JSON string again, whatever is in them, half a
surrogate pair included.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from runner.files.strict_json import refuse_constant


class Block(msgspec.Struct):
    """One content block; the fields of kinds that are not asked for stay empty."""

    type: str = ""
    text: msgspec.Raw = msgspec.Raw()
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw()


class Message(msgspec.Struct):
    id: str = ""
    content: list[Block] = []


_decoder = msgspec.json.Decoder(Message)


def message_parts(message: bytes) -> Message:
    """The answer's blocks. The fast reader refuses half a surrogate pair; the standard library's does not."""
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError:
        told = json.loads(message)
        return Message(id=told.get("id", ""), content=[_block(block) for block in told["content"]])


def _block(told: dict[str, Any]) -> Block:
    return Block(
        type=told.get("type", ""),
        text=msgspec.Raw(json.dumps(told.get("text", "")).encode()),
        id=told.get("id", ""),
        name=told.get("name", ""),
        input=msgspec.Raw(json.dumps(told.get("input", {})).encode()),
    )


def raw_text(message: Message) -> bytes:
    """The text blocks as one JSON string."""
    return b'"' + b"".join(bytes(block.text)[1:-1] for block in message.content if block.type == "text") + b'"'


def raw_json_inside(raw: bytes) -> bytes | None:
    """The JSON value that a text spells, as bytes without line breaks; None when it spells none."""
    text = json.loads(raw).strip()
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
    return _without_line_breaks(text, value)


def _without_line_breaks(text: str, value: Any) -> bytes:
    """Inside JSON a raw line break can only stand between tokens, where a blank does as well."""
    try:
        return text.translate({0x0A: " ", 0x0D: " "}).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
