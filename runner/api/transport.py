"""An httpx transport with constant work per request.

httpx's own pool walks all connections twice for each request, which costs more than everything else at some
hundred slots. Here a finished connection goes on top of a stack and the next request takes it from there. How many
there are is bounded by the caller's slots, so nothing waits in here.
"""

from __future__ import annotations

import os
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
import h11
import httpx

from runner.api.channel import Channel, Place, open_channel, tls_context
from runner.api.proxies import proxy_for
from runner.clock import Clock, SystemClock
from runner.errors import UsageInvalid
from runner.failpoints import Failpoint, failpoint

# Bodies up to this go out in one write; above it we also listen, for a server that answers before the end.
ONE_WRITE_BYTES = 64 * 1024
# After a broken write an answer may already lie in the socket; it does not take longer than this to read.
LAST_WORDS_S = 1.0
# Below the idle limits of common load balancers (60 s), so that we hang up first and never send into a closing door.
KEEPALIVE_EXPIRY_S = 30.0

DEFAULT_PORTS = {"http": 80, "https": 443}
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError)


@dataclass(slots=True)
class Journey:
    """How far a call got, in the request's extension `journey`. `sent` stays None where a transport cannot tell."""

    billable: bool
    sent: bool | None = None


class PooledTransport(httpx.AsyncBaseTransport):
    """Connections kept in a stack per origin; the last one used is the next one taken."""

    def __init__(
        self,
        *,
        keepalive_expiry_s: float = KEEPALIVE_EXPIRY_S,
        ssl_context: ssl.SSLContext | None = None,
        env: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._keepalive_expiry_s = keepalive_expiry_s
        self._ssl_context = ssl_context
        self._env = os.environ if env is None else env
        self._clock = clock or SystemClock()
        self._kept: dict[Place, deque[Channel]] = {}
        self._busy: set[Channel] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits: Mapping[str, float | None] = request.extensions.get("timeout", {})
        journey: Journey = request.extensions.get("journey") or Journey(billable=False)
        journey.sent = False
        channel = await self._take(_place_of(request.url), limits.get("connect"))
        try:
            await _send(channel, request, journey, limits)
            head = await _read_head(channel, limits.get("read"))
            if journey.billable:
                failpoint(Failpoint.FIRST_BYTE)
        except BaseException:
            await self._drop(channel)
            raise
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=_Body(self, channel, limits.get("read")),
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        self._closed = True
        for stack in self._kept.values():
            while stack:
                await stack.pop().aclose()
        while self._busy:
            await self._busy.pop().aclose()

    @property
    def open_connections(self) -> int:
        """Kept and busy ones together."""
        return len(self._busy) + sum(map(len, self._kept.values()))

    async def _take(self, place: Place, connect_s: float | None) -> Channel:
        stack = self._kept.get(place)
        while stack:
            channel = stack.pop()
            if not self._expired(channel) and not channel.is_spent():
                self._busy.add(channel)
                return channel
            await channel.aclose()
        return await self._connect(place, connect_s)

    async def _connect(self, place: Place, connect_s: float | None) -> Channel:
        context = self._tls() if place.scheme == "https" else None
        try:
            with anyio.fail_after(connect_s):
                channel = await open_channel(place, context)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection to {place.host} in {connect_s} s") from error
        except (*BROKEN, anyio.EndOfStream) as error:
            raise httpx.ConnectError(f"cannot connect to {place.host}:{place.port}: {_told(error)}") from error
        self._busy.add(channel)
        return channel

    def _tls(self) -> ssl.SSLContext:
        return self._ssl_context or tls_context(self._env)

    def _expired(self, channel: Channel) -> bool:
        return self._clock.monotonic() - channel.idle_since > self._keepalive_expiry_s

    async def _give_back(self, channel: Channel) -> None:
        """Keep the connection if both sides may go on with it."""
        if self._closed or not channel.next_cycle():
            await self._drop(channel)
            return
        self._busy.discard(channel)
        channel.idle_since = self._clock.monotonic()
        stack = self._kept.setdefault(channel.place, deque())
        stack.append(channel)
        # The bottom of a stack is the longest idle: after a busy hour the rest is let go one by one.
        while self._expired(stack[0]):
            await stack.popleft().aclose()

    async def _drop(self, channel: Channel) -> None:
        self._busy.discard(channel)
        await channel.aclose()


class _Body(httpx.AsyncByteStream):
    """The reply's body. Read to its end, it gives the connection back; left early, it closes it."""

    def __init__(self, transport: PooledTransport, channel: Channel, read_s: float | None) -> None:
        self._transport = transport
        self._channel: Channel | None = channel
        self._read_s = read_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        channel = self._channel
        if channel is None:
            return
        try:
            while isinstance(event := await _next_event(channel, self._read_s), h11.Data):
                yield bytes(event.data)
        except BaseException:
            await self.aclose()
            raise
        self._channel = None
        await self._transport._give_back(channel)

    async def aclose(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._transport._drop(channel)


def _place_of(url: httpx.URL) -> Place:
    scheme = url.scheme
    if scheme not in DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol(f"neither http nor https: {scheme!r}")
    return Place(scheme, url.host, url.port or DEFAULT_PORTS[scheme])


def _told(error: BaseException) -> str:
    """An error in words; anyio hides the reason in what caused it."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return str(cause or error) or type(error).__name__


# --- sending


async def _send(
    channel: Channel, request: httpx.Request, journey: Journey, limits: Mapping[str, float | None]
) -> None:
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


async def _write_all_at_once(channel: Channel, data: bytes, limits: Mapping[str, float | None]) -> None:
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
        raise httpx.WriteError(f"the connection broke while sending: {_told(error)}") from error


async def _send_listening(
    channel: Channel, head: bytes, request: httpx.Request, limits: Mapping[str, float | None]
) -> None:
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
        event = await _next_event(channel, read_s)
        if isinstance(event, h11.Response):
            return event
        if not isinstance(event, h11.InformationalResponse):
            raise httpx.RemoteProtocolError("the server hung up without a reply")


async def _next_event(channel: Channel, read_s: float | None) -> Any:
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
        raise httpx.ReadError(f"the connection broke while reading: {_told(error)}") from error


# --- choosing


def make_transport(
    base_url: str, concurrency: int, env: Mapping[str, str] | None = None, clock: Clock | None = None
) -> httpx.AsyncBaseTransport:
    """Ours, or httpx's own where a proxy stands between: tunnels are its trade, and a proxy is slower anyhow."""
    env = os.environ if env is None else env
    proxy = proxy_for(base_url, env)
    if proxy is None:
        return PooledTransport(env=env, clock=clock)
    limits = httpx.Limits(
        max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=KEEPALIVE_EXPIRY_S
    )
    try:
        return httpx.AsyncHTTPTransport(
            verify=tls_context(env), proxy=httpx.Proxy(proxy), limits=limits, trust_env=False
        )
    except (ValueError, ImportError) as error:
        raise UsageInvalid(f"the proxy of the environment cannot be used: {error}", name="proxy") from error
