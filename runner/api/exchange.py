"""One request and its reply on one connection: written, listened for, read, with httpx's errors for what goes wrong.

What matters to the caller is the line between "nothing was sent" and everything after it; `Journey` draws it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

import h11
import httpx
from msgspec import Struct

from runner.api.channel import Channel
from runner.failpoints import Failpoint, failpoint

# Bodies up to this go out in one write; larger ones in pieces, between which we look for a server that answers early.
ONE_WRITE_BYTES = 64 * 1024

BROKEN = (ssl.SSLError, OSError)

Limits = Mapping[str, float | None]  # httpx's: seconds for connect, read, write, pool


class Journey(Struct):
    """How far a call got, in the request's extension `journey`. `sent` stays None where a transport cannot tell."""

    billable: bool
    sent: bool | None = None


async def converse(channel: Channel, request: httpx.Request, journey: Journey, limits: Limits) -> h11.Response:
    """Send the request and wait for the head of its reply."""
    head = _head_bytes(channel, request)
    if journey.billable:
        failpoint(Failpoint.SEND_BEFORE)
    journey.sent = True
    await _send(channel, head, request, limits.get("write"))
    if journey.billable:
        failpoint(Failpoint.SEND_AFTER)
    reply = await _read_head(channel, limits.get("read"))
    if journey.billable:
        failpoint(Failpoint.FIRST_BYTE)
    return reply


# --- sending


@lru_cache(maxsize=500)
def _head(method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> h11.Request:
    """To look through headers takes as long as all else that sending does, and those of a run's calls differ in their
    lengths alone."""
    return h11.Request(method=method, target=target, headers=list(headers))


def _head_bytes(channel: Channel, request: httpx.Request) -> bytes:
    try:
        return channel.http.send(_head(request.method, request.url.raw_path, tuple(request.headers.raw))) or b""
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error


async def _send(channel: Channel, head: bytes, request: httpx.Request, write_s: float | None) -> None:
    http = channel.http
    stream = request.stream
    body = b"".join(stream) if isinstance(stream, httpx.ByteStream) else None
    try:
        if body is not None and len(body) <= ONE_WRITE_BYTES:
            whole = (head, http.send(h11.Data(data=body)) or b"", http.send(h11.EndOfMessage()) or b"")
            await _write(channel, b"".join(whole), write_s)
            return
        await _write(channel, head, write_s)
        async for piece in _pieces(stream) if body is None else _slices(body):
            if _has_answered(channel):
                return
            await _write(channel, http.send(h11.Data(data=piece)) or b"", write_s)
        if end := http.send(h11.EndOfMessage()):
            await _write(channel, end, write_s)
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error


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
        channel.http.receive_data(data)
        while (event := _next_event(channel)) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                channel.early = event
                return True
    return False


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


async def _read_head(channel: Channel, read_s: float | None) -> h11.Response:
    if channel.early is not None:
        return channel.early
    while True:
        event = await next_event(channel, read_s)
        if isinstance(event, h11.Response):
            return event
        if not isinstance(event, h11.InformationalResponse):
            raise httpx.RemoteProtocolError("the server hung up without a reply")


async def next_event(channel: Channel, read_s: float | None) -> Any:
    while (event := _next_event(channel)) is h11.NEED_DATA:
        try:
            channel.http.receive_data(await channel.read(read_s))
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"the server said nothing for {read_s} s") from error
        except BROKEN as error:
            raise httpx.ReadError(f"the connection broke while reading: {told(error)}") from error
    return event


def _next_event(channel: Channel) -> Any:
    try:
        return channel.http.next_event()
    except h11.RemoteProtocolError as error:
        raise httpx.RemoteProtocolError(str(error)) from error


def told(error: BaseException) -> str:
    """An error in words."""
    return str(error) or type(error).__name__
