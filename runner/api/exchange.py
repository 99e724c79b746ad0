"""One request and its reply on one connection: written, listened for, read, with httpx's errors for what goes wrong.

What matters to the caller is the line between "nothing was sent" and everything after it; `Journey` draws it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from msgspec import Struct

from runner.api.channel import Channel
from runner.api.http1 import Frame, Reply, head_bytes
from runner.failpoints import Failpoint, failpoint

# Bodies up to this go out in one write; larger ones in pieces, between which we look for a server that answers early.
ONE_WRITE_BYTES = 64 * 1024

BROKEN = (ssl.SSLError, OSError)

Limits = Mapping[str, float | None]  # httpx's: seconds for connect, read, write, pool


class Journey(Struct):
    """How far a call got, in the request's extension `journey`. `sent` stays None where a transport cannot tell."""

    billable: bool
    sent: bool | None = None


async def converse(channel: Channel, request: httpx.Request, journey: Journey, limits: Limits) -> Reply:
    """Send the request and wait for the head of its reply."""
    head = head_bytes(request.method, request.url.raw_path, request.headers.raw)
    if journey.billable:
        failpoint(Failpoint.SEND_BEFORE)
    journey.sent = True
    await _send(channel, head, request, limits.get("write"))
    if journey.billable:
        failpoint(Failpoint.SEND_AFTER)
    while channel.reader.head is None:
        await _hear(channel, limits.get("read"))
    if journey.billable:
        failpoint(Failpoint.FIRST_BYTE)
    return channel.reader.head


async def next_piece(channel: Channel, read_s: float | None) -> bytes:
    """Some bytes of the reply's body, b"" at its end."""
    while not (piece := channel.reader.take()) and not channel.reader.is_whole:
        await _hear(channel, read_s)
    return piece


# --- sending


async def _send(channel: Channel, head: bytes, request: httpx.Request, write_s: float | None) -> None:
    frame = Frame(request.headers.raw)
    stream = request.stream
    body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else None
    if body is not None and len(body) <= ONE_WRITE_BYTES:
        await _write(channel, head + frame.piece(body) + frame.end(), write_s)
    else:
        await _write(channel, head, write_s)
        async for piece in _pieces(stream) if body is None else _slices(body):
            if _has_answered(channel):
                return
            await _write(channel, frame.piece(piece), write_s)
        await _write(channel, frame.end(), write_s)
    channel.is_sent = True


async def _write(channel: Channel, data: bytes, write_s: float | None) -> None:
    try:
        channel.write(data)
        await channel.written(write_s)
    except TimeoutError as error:
        raise httpx.WriteTimeout(f"the server took nothing more for {write_s} s") from error
    except BROKEN as error:
        raise httpx.WriteError(f"the connection broke while sending: {told(error)}") from error


def _has_answered(channel: Channel) -> bool:
    """Whether a reply has begun before the request was out (a 413 from an edge). Raises where the server hung up."""
    while (data := channel.take()) is not None:
        if not data:
            raise httpx.WriteError("the server hung up while the request was being sent")
        channel.reader.feed(data)
    return channel.reader.head is not None


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), ONE_WRITE_BYTES):
        yield body[start : start + ONE_WRITE_BYTES]


async def _pieces(stream: Any) -> AsyncIterator[bytes]:
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.UnsupportedProtocol("an async transport needs bytes or an async iterable as content")
    async for piece in stream:
        if piece:
            yield piece


# --- receiving


async def _hear(channel: Channel, read_s: float | None) -> None:
    try:
        data = await channel.read(read_s)
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"the server said nothing for {read_s} s") from error
    except BROKEN as error:
        raise httpx.ReadError(f"the connection broke while reading: {told(error)}") from error
    channel.reader.feed(data)


def told(error: BaseException) -> str:
    """An error in words."""
    return str(error) or type(error).__name__
