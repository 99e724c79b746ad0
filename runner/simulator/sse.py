"""A message as the server-sent events that build it.

The order and shapes of the documented stream; where it breaks is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from runner.simulator.prompt import tokens_of_text

PIECE_CHARACTERS = 24
CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")

Message = dict[str, Any]
Block = dict[str, Any]


def event(name: str, data: Any) -> bytes:
    """One event on the wire."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))


def message_events(message: Message) -> tuple[bytes, ...]:
    """The whole stream of a message, `message_start` to `message_stop`."""
    return tuple(_events(message))


def produced_tokens(output_tokens: int, events: int, whole: int) -> int:
    """How many of the output tokens are written when the first `events` of `whole` events were sent."""
    if events >= whole - 2:
        return output_tokens
    return min(output_tokens, output_tokens * events // whole + 1)


def _events(message: Message) -> Iterator[bytes]:
    yield event("message_start", {"type": "message_start", "message": _opening(message)})
    yield event("ping", {"type": "ping"})
    if "mood" in message:
        yield event("weather", {"type": "weather", "sky": "clear"})
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    yield event("message_delta", _closing(message))
    yield event("message_stop", {"type": "message_stop"})


def _opening(message: Message) -> Message:
    usage = message["usage"] | {"output_tokens": min(1, message["usage"]["output_tokens"])}
    empty: Message = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
    return message | empty | {"usage": usage}


def _closing(message: Message) -> Message:
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details", "container")}
    usage = {name: value for name, value in message["usage"].items() if name not in ("service_tier", "speed")}
    return {"type": "message_delta", "delta": delta, "usage": usage}


def _block_events(index: int, block: Block) -> Iterator[bytes]:
    start = {"type": "content_block_start", "index": index, "content_block": _empty(block)}
    yield event("content_block_start", start)
    for delta in _deltas(block):
        yield event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
    yield event("content_block_stop", {"type": "content_block_stop", "index": index})


def _empty(block: Block) -> Block:
    if block["type"] == "text":
        return block | {"text": "", "citations": None}
    if block["type"] in CALLS:
        return block | {"input": {}}
    if block["type"] == "thinking":
        return block | {"thinking": "", "signature": ""}
    return block


def _deltas(block: Block) -> Iterator[Block]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in _pieces(block["text"]))
        for citation in block["citations"] or ():
            yield {"type": "citations_delta", "citation": citation}
    elif block["type"] in CALLS:
        text = msgspec.json.encode(block["input"]).decode()
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in _pieces(text))
    elif block["type"] == "thinking":
        if block["thinking"]:
            yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}


def _pieces(text: str) -> Iterator[str]:
    step = max(PIECE_CHARACTERS, tokens_of_text(text) // 50)  # a long answer needs no thousand events
    return (text[start : start + step] for start in range(0, len(text), step))
