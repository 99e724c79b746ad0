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

import anyio
import anyio.lowlevel
import httpx

from runner.api.channel import Channel, Place, open_channel, tls_context
from runner.api.exchange import BROKEN, Journey, Limits, converse, next_piece, told
from runner.api.proxies import proxy_for
from runner.clock import Clock, SystemClock
from runner.errors import UsageInvalid

# Below the idle limits of common load balancers (60 s), so that we hang up first and never send into a closing door.
KEEPALIVE_EXPIRY_S = 30.0

DEFAULT_PORTS = {"http": 80, "https": 443}


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
        limits: Limits = request.extensions.get("timeout", {})
        journey: Journey = request.extensions.get("journey") or Journey(billable=False)
        journey.sent = False
        channel = await self._take(_place_of(request.url), limits.get("connect"))
        try:
            head = await converse(channel, request, journey, limits)
        except BaseException:
            self._drop(channel)
            raise
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=_Body(self, channel, limits.get("read")),
            extensions={"http_version": b"HTTP/" + head.version, "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        self._closed = True
        for stack in self._kept.values():
            while stack:
                stack.pop().close()
        while self._busy:
            self._busy.pop().close()
        await anyio.lowlevel.checkpoint()  # in which the event loop closes the sockets

    async def _take(self, place: Place, connect_s: float | None) -> Channel:
        stack = self._kept.get(place)
        while stack:
            channel = stack.pop()
            if not self._expired(channel) and not channel.is_spent():
                self._busy.add(channel)
                return channel
            channel.close()
        return await self._connect(place, connect_s)

    async def _connect(self, place: Place, connect_s: float | None) -> Channel:
        context = self._tls() if place.scheme == "https" else None
        try:
            with anyio.fail_after(connect_s):
                channel = await open_channel(place, context)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection to {place.host} in {connect_s} s") from error
        except BROKEN as error:
            raise httpx.ConnectError(f"cannot connect to {place.host}:{place.port}: {told(error)}") from error
        self._busy.add(channel)
        return channel

    def _tls(self) -> ssl.SSLContext:
        return self._ssl_context or tls_context(self._env)

    def _expired(self, channel: Channel) -> bool:
        return self._clock.monotonic() - channel.idle_since > self._keepalive_expiry_s

    def _give_back(self, channel: Channel) -> None:
        """Keep the connection if both sides may go on with it."""
        if self._closed or not channel.next_cycle():
            self._drop(channel)
            return
        self._busy.discard(channel)
        channel.idle_since = self._clock.monotonic()
        stack = self._kept.setdefault(channel.place, deque())
        stack.append(channel)
        # The bottom of a stack is the longest idle: after a busy hour the rest is let go one by one.
        while self._expired(stack[0]):
            stack.popleft().close()

    def _drop(self, channel: Channel) -> None:
        self._busy.discard(channel)
        channel.close()


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
            while piece := await next_piece(channel, self._read_s):
                yield piece
        except BaseException:
            await self.aclose()
            raise
        self._channel = None
        self._transport._give_back(channel)

    async def aclose(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            self._transport._drop(channel)


def _place_of(url: httpx.URL) -> Place:
    scheme = url.scheme
    if scheme not in DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol(f"neither http nor https: {scheme!r}")
    return Place(scheme, url.host, url.port or DEFAULT_PORTS[scheme])


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


__all__ = ["Journey", "PooledTransport", "make_transport"]
