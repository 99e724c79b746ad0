"""Server-sent events: bytes in, events out, and a message put together again from them. Pure.

Lines end at CR, LF or CRLF and nowhere else: text from the model may hold any other separator Unicode knows, so
nothing here is split as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event. `name` is what the `event:` field says, else "message"."""

    name: str
    data: bytes


class StreamMalformed(Exception):
    """The stream does not say what a Messages stream says."""


class EventParser:
    """Feed it chunks as they come, cut anywhere; it returns the events that are complete."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line that has not ended
        self._after_cr = False
        self._first = True
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end within `chunk`. An event that never ends, never was."""
        return [event for line in self._lines(chunk) if (event := self._take(line)) is not None]

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF that was cut
        if not chunk:
            return
        first, *rest = _LINE_END.split(chunk)
        self._pieces.append(first)
        for line in rest:
            yield b"".join(self._pieces)
            self._pieces = [line]
        self._after_cr = chunk.endswith(b"\r")

    def _take(self, line: bytes) -> Event | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        return None  # comments, `id`, `retry` and fields to come

    def _dispatch(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data = b"", []
        if not data:
            return None
        return Event(name.decode("utf-8", "replace") or "message", b"\n".join(data))


class MessageAssembler:
    """Puts a Messages stream together to the message that a plain call would have returned.

    Unknown events and deltas are passed over and unknown fields kept, because the API may grow. `error` holds the
    body of an `error` event; `finished` is true only after `message_stop`.
    """

    def __init__(self) -> None:
        self.finished = False
        self.error: bytes | None = None
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}

    @property
    def started(self) -> bool:
        return self._message is not None

    @property
    def usage(self) -> dict[str, Any]:
        """Usage as far as it has been told; the last word only when `finished`."""
        return (self._message or {}).get("usage") or {}

    @property
    def stop_reason(self) -> str | None:
        return (self._message or {}).get("stop_reason")

    def feed(self, event: Event) -> None:
        """Take one event; raises StreamMalformed on what cannot be understood without losing content."""
        if self.finished or self.error is not None:
            return
        told = _decoded(event.data)
        kind = told.get("type") or event.name
        if kind == "error":
            self.error = event.data
        elif (take := _TAKERS.get(kind)) is not None:
            try:
                take(self, told)
            except (KeyError, TypeError, AttributeError) as error:
                raise StreamMalformed(f"{kind}: {error!r}") from error

    def message(self) -> dict[str, Any]:
        """The message so far. Tool input is decoded; what was cut in the middle stands beside it as text."""
        if self._message is None:
            raise StreamMalformed("no message_start")
        return {**self._message, "content": [self._whole(index) for index in sorted(self._blocks)]}

    def message_bytes(self) -> bytes:
        """The message so far as JSON."""
        return msgspec.json.encode(self.message())

    def _whole(self, index: int) -> dict[str, Any]:
        block = dict(self._blocks[index])
        for field in ("text", "thinking", "signature"):
            if (pieces := self._texts.get((index, field))) is not None:
                block[field] = (block.get(field) or "") + "".join(pieces)
        partial = "".join(self._texts.get((index, "partial_json"), ()))
        if partial:
            block.update(_tool_input(partial))
        return block

    def _add(self, index: int, field: str, piece: str) -> None:
        self._texts.setdefault((index, field), []).append(piece)

    def _on_message_start(self, told: dict[str, Any]) -> None:
        self._message = dict(told["message"])

    def _on_block_start(self, told: dict[str, Any]) -> None:
        self._blocks[told["index"]] = dict(told["content_block"])

    def _on_block_delta(self, told: dict[str, Any]) -> None:
        index, delta = told["index"], told["delta"]
        if index not in self._blocks:
            raise StreamMalformed(f"a delta for block {index}, which never began")
        kind = delta["type"]
        if kind == "citations_delta":
            block = self._blocks[index]
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif (field := _DELTA_FIELDS.get(kind)) is not None:
            self._add(index, field, delta[field])

    def _on_message_delta(self, told: dict[str, Any]) -> None:
        message = self._message
        if message is None:
            raise StreamMalformed("message_delta before message_start")
        message.update(told["delta"])
        message["usage"] = _merged(message.get("usage") or {}, told.get("usage") or {})
        message.update({name: value for name, value in told.items() if name not in _OF_THE_EVENT})

    def _on_message_stop(self, _told: dict[str, Any]) -> None:
        self.finished = True


_TAKERS = {
    "message_start": MessageAssembler._on_message_start,
    "content_block_start": MessageAssembler._on_block_start,
    "content_block_delta": MessageAssembler._on_block_delta,
    "message_delta": MessageAssembler._on_message_delta,
    "message_stop": MessageAssembler._on_message_stop,
}
_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
_OF_THE_EVENT = frozenset({"type", "delta", "usage"})


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise StreamMalformed(f"an event that is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise StreamMalformed("an event that is not an object")
    return told


def _tool_input(partial: str) -> dict[str, Any]:
    """`input`, as the model wrote it to the byte; a call cut by `max_tokens` keeps its half as text."""
    try:
        msgspec.json.decode(partial)
    except msgspec.DecodeError:
        return {"input": {}, "partial_json": partial}
    return {"input": msgspec.Raw(partial.encode())}


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Counts in `message_delta` are cumulative: a later number replaces an earlier one, silence replaces nothing."""
    merged = dict(old)
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        elif value is not None or name not in merged:
            merged[name] = value
    return merged
