"""The body of a reply, read to its end within bounds: whole, or as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx
import msgspec

from runner.api.sse import EventParser, MessageAssembler, StreamMalformed
from runner.api.wire import outcome_of_stream
from runner.domain.outcome import Outcome

# The longest answer (300,000 tokens) is a few megabytes; a reply beyond this is no message.
MAX_REPLY_BYTES = 64_000_000
# Between `message_stop` and the end of the body there is nothing to come; worth a moment to keep the connection.
TAIL_S = 1.0


class TooLong(Exception):
    """A reply beyond MAX_REPLY_BYTES."""


async def read_stream(response: httpx.Response, headers: Mapping[str, str]) -> Outcome:
    parser, assembler = EventParser(), MessageAssembler()
    try:
        await _feed(response, parser, assembler)
    except StreamMalformed as error:
        return outcome_of_stream(assembler, headers, broken=f"cannot be understood: {error}")
    except (httpx.HTTPError, httpx.StreamError) as error:
        return outcome_of_stream(assembler, headers, broken=f"broke: {error}")
    return outcome_of_stream(assembler, headers)


async def _feed(response: httpx.Response, parser: EventParser, assembler: MessageAssembler) -> None:
    """Read until the message is whole, and then to the end of the body if that is at hand."""
    size = 0
    chunks = response.aiter_bytes()
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise StreamMalformed(f"longer than {MAX_REPLY_BYTES} bytes")
        for event in parser.feed(chunk):
            assembler.feed(event)
        if assembler.finished or assembler.error is not None:
            break
    with anyio.move_on_after(TAIL_S):
        try:
            async for _ in chunks:
                pass
        except httpx.HTTPError:
            pass  # the message is whole; only the connection is lost


async def read_body(response: httpx.Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in _pieces(response):
        size += len(piece)
        if size > MAX_REPLY_BYTES:
            raise TooLong(f"HTTP {response.status_code} with more than {MAX_REPLY_BYTES} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's bytes, past httpx's two layers of decoding where there is nothing to decode."""
    encoded = any(name.lower() == b"content-encoding" for name, _ in response.headers.raw)
    if encoded or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(response.stream)


def lowered_headers(response: httpx.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def object_of(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a reply, None where it is none."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return told if isinstance(told, dict) else None
