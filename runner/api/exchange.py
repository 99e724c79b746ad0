"""One request and its reply on one connection: written, listened for, read, with httpx's errors for what goes wrong.

What matters to the caller is the line between "nothing was sent" and everything after it; `Journey` draws it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
import h11
import httpx

from runner.api.channel import Channel
from runner.failpoints import Failpoint, failpoint

# Bodies up to this go out in one write; above it we also listen, for a server that answers before the end.
ONE_WRITE_BYTES = 64 * 1024
# After a broken write an answer may already lie in the socket; it does not take longer than this to read.
LAST_WORDS_S = 1.0

BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError)

Limits = Mapping[str, float | None]  # httpx's: seconds for connect, read, write, pool


@dataclass(slots=True)
class Journey:
    """How far a call got, in the request's extension `journey`. `sent` stays None where a transport cannot tell."""

    billable: bool
    sent: bool | None = None


async def converse(channel: Channel, request: httpx.Request, journey: Journey, limits: Limits) -> h11.Response:
    """Send the request and wait for the head of its reply."""
    await _send(channel, request, journey, limits)
    head = await _read_head(channel, limits.get("read"))
    if journey.billable:
        failpoint(Failpoint.FIRST_BYTE)
    return head


def told(error: BaseException) -> str:
    """An error in words; anyio hides the reason in what caused it."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return str(cause or error) or type(error).__name__


# --- sending


async def _send(channel: Channel, request: httpx.Request, journey: Journey, limits: Limits) -> None:
    head = _head_bytes(channel, request)
    if journey.billable:
        failpoint(Failpoint.SEND_BEFORE)
    journey.sent = True
    if isinstance(request.stream, httpx.ByteStream) and len(request.content) <= ONE_WRITE_BYTES:
        body = request.content
        rest = channel.http.send(h11.Data(data=body)) if body else b""
        end = channel.http.send(h11.EndOfMessage())
        await _write_all_at_once(channel, b"".join((head, rest or b"", end or b"")), limits)
    else:
        await _send_listening(channel, head, request, limits)
    if journey.billable:
        failpoint(Failpoint.SEND_AFTER)


def _head_bytes(channel: Channel, request: httpx.Request) -> bytes:
    try:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        return channel.http.send(head) or b""
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error


async def _write_all_at_once(channel: Channel, data: bytes, limits: Limits) -> None:
    try:
        await _write(channel, data, limits.get("write"))
    except httpx.WriteError as error:
        await _hear_last_words(channel, error)


async def _write(channel: Channel, data: bytes, write_s: float | None) -> None:
    try:
        with anyio.fail_after(write_s):
            await channel.stream.send(data)
    except TimeoutError as error:
        raise httpx.WriteTimeout(f"the server took nothing more for {write_s} s") from error
    except BROKEN as error:
        raise httpx.WriteError(f"the connection broke while sending: {told(error)}") from error


async def _send_listening(channel: Channel, head: bytes, request: httpx.Request, limits: Limits) -> None:
    """Send a large body, and stop where the server answers before its end (a 413 from an edge)."""
    fault: Exception | None = None
    async with anyio.create_task_group() as group:
        upload = anyio.CancelScope()
        group.start_soon(_listen, channel, upload)
        with upload:
            try:
                await _write(channel, head, limits.get("write"))
                await _write_body(channel, request, limits.get("write"))
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                fault = error
        group.cancel_scope.cancel()
    if isinstance(fault, httpx.WriteError):
        await _hear_last_words(channel, fault)
    elif fault is not None and channel.early is None:
        raise fault
    elif upload.cancelled_caught and channel.early is None:
        raise httpx.WriteError("the server hung up while the request was being sent")


async def _write_body(channel: Channel, request: httpx.Request, write_s: float | None) -> None:
    try:
        async for piece in _pieces(request):
            await _write(channel, channel.http.send(h11.Data(data=piece)) or b"", write_s)
        end = channel.http.send(h11.EndOfMessage())
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    if end:
        await _write(channel, end, write_s)


async def _pieces(request: httpx.Request) -> AsyncIterator[bytes]:
    if isinstance(request.stream, httpx.ByteStream):
        body = request.content
        for start in range(0, len(body), ONE_WRITE_BYTES):
            yield body[start : start + ONE_WRITE_BYTES]
    elif isinstance(request.stream, httpx.AsyncByteStream):
        async for piece in request.stream:
            if piece:
                yield piece
    else:
        raise httpx.UnsupportedProtocol("an async transport needs bytes or an async iterable as content")


async def _listen(channel: Channel, upload: anyio.CancelScope) -> None:
    """Whatever comes before the body is out ends the upload: a reply, an end, nonsense."""
    with suppress(httpx.TransportError):  # the upload's own end tells what happened
        channel.early = await _read_head(channel, None)
    upload.cancel()


async def _hear_last_words(channel: Channel, error: httpx.WriteError) -> None:
    """A server that refuses may answer and close; the answer says more than the broken write."""
    if channel.early is None:
        with anyio.move_on_after(LAST_WORDS_S):
            try:
                channel.early = await _read_head(channel, None)
            except httpx.TransportError:
                raise error from None
    if channel.early is None:
        raise error


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
    while True:
        try:
            event = channel.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            channel.http.receive_data(await _read(channel, read_s))
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error


async def _read(channel: Channel, read_s: float | None) -> bytes:
    try:
        with anyio.fail_after(read_s):
            return await channel.stream.receive()
    except anyio.EndOfStream:
        return b""
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"the server said nothing for {read_s} s") from error
    except BROKEN as error:
        raise httpx.ReadError(f"the connection broke while reading: {told(error)}") from error
