"""Calls that go on after a paused turn: what was said so far goes back with the next request, and in the end the
turns make one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from runner.domain.outcome import Usage
from runner.domain.request import MessagesRequest


def continued(request: MessagesRequest, turns: Sequence[bytes]) -> MessagesRequest:
    """The request with the content of earlier turns appended, unchanged, a message for each."""
    if not turns:
        return request
    said = [{"role": "assistant", "content": _content([turn])} for turn in turns]
    return grown(request, said, container=_container(turns[-1]))


def grown(request: MessagesRequest, said: Sequence[dict[str, Any]], *, container: Any = None) -> MessagesRequest:
    """The request with these messages after its own."""
    if not said:
        return request
    body = msgspec.json.decode(request.body)
    body["messages"] += said
    if container is not None:
        own = body.get("container")
        body["container"] = {**own, "id": container} if isinstance(own, dict) else own or container
    encoded = msgspec.json.encode(body)
    bound = request.prompt_tokens_bound
    more = len(encoded) - len(request.body)
    return replace(request, body=encoded, prompt_tokens_bound=None if bound is None else bound + more)


def joined(turns: Sequence[bytes], last: bytes) -> bytes:
    """The last message with the content of all turns before its own."""
    if not turns:
        return last
    message = msgspec.json.decode(last)
    message["content"] = [*_content(turns), *message["content"]]
    return msgspec.json.encode(message)


def encode_usage(usage: Usage) -> bytes:
    return msgspec.json.encode(usage)


def decode_usage(data: bytes) -> Usage:
    return msgspec.json.decode(data, type=Usage)


def _content(turns: Sequence[bytes]) -> list[Any]:
    return [block for turn in turns for block in msgspec.json.decode(turn)["content"]]


def _container(turn: bytes) -> Any:
    told = msgspec.json.decode(turn).get("container")
    return told.get("id") if isinstance(told, dict) else None
