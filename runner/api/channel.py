"""One connection to one origin: a byte stream with the reader of its replies beside it.

Knows sockets and TLS; knows nothing of httpx, of pools or of what is sent. It stands on the event loop's own
transports: they take half the time of a stream over them, and do TLS in compiled code.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

from runner.api.dial import dial
from runner.api.http1 import ReplyReader

# A middlebox that forgets idle connections does so after minutes (some clouds: 350 s). Probing from the first
# minute on keeps a long silent answer alive and finds a vanished peer within about six minutes.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 60
KEEPALIVE_PROBES = 5
# What may lie here unread before the peer is made to wait.
MAX_UNREAD_BYTES = 256 * 1024


class Place(NamedTuple):
    """An origin: where connections are interchangeable."""

    scheme: str
    host: str
    port: int


class Channel(asyncio.Protocol):
    """A connection, used by one task at a time. `reader` makes replies of what comes, `is_sent` says that the request
    is out as a whole, `idle_since` when the connection was last given back."""

    __slots__ = (
        "_ended", "_fault", "_full", "_held", "_poll", "_transport", "_unread", "_unread_bytes", "_waiter",
        "idle_since", "is_sent", "place", "reader",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self.place = place
        self.reader = ReplyReader()
        self.is_sent = False
        self.idle_since = 0.0
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._ended = False  # nothing more will come
        self._fault: Exception | None = None
        self._full = False  # what was written has not all been taken by the kernel
        self._held = False  # the peer is made to wait
        self._waiter: asyncio.Future[None] | None = None

    # --- one exchange after another

    def is_spent(self) -> bool:
        """True when the peer has hung up, or spoke unasked: nothing may be sent on it any more.

        An idle HTTP/1.1 connection has nothing to read. What the loop has not come round to yet the kernel knows.
        """
        return self._ended or bool(self._unread) or self._transport.is_closing() or bool(self._poll.poll(0))

    def next_cycle(self) -> bool:
        """Make ready for the next request; False when this exchange was the connection's last."""
        if not self.is_sent or not self.reader.is_whole or self.reader.is_last or self._full:
            return False
        self.reader.next()
        self.is_sent = False
        return True

    def close(self) -> None:
        """At once, whatever is still under way."""
        self._transport.abort()

    # --- bytes

    def write(self, data: bytes) -> None:
        """Raises what broke the connection."""
        if self._ended:
            raise self._fault or ConnectionResetError("the server hung up")
        self._transport.write(data)

    async def written(self, limit_s: float | None) -> None:
        """Until the kernel has taken all, or there is something to read. Raises TimeoutError."""
        while self._full and not self._ended and not self._unread:
            await self._change(limit_s)

    def take(self) -> bytes | None:
        """What has come since, b"" at the end, None when there is nothing now."""
        if not self._unread:
            return b"" if self._ended else None
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()
        return data

    async def read(self, limit_s: float | None) -> bytes:
        """Some bytes, b"" at the end. Raises TimeoutError, or what broke the connection."""
        while (data := self.take()) is None:
            await self._change(limit_s)
        if not data and self._fault is not None:
            raise self._fault
        return data

    async def _change(self, limit_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if limit_s is None else loop.call_later(limit_s, _expire, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _changed(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # so that "written" means: the kernel has it
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._held:
            self._held = True
            self._transport.pause_reading()
        self._changed()

    def eof_received(self) -> None:
        self._ended = True
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._fault = self._fault or exc
        self._changed()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._changed()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


async def open_channel(place: Place, context: ssl.SSLContext | None) -> Channel:
    """Connect, and shake hands where there is TLS. Raises OSError or ssl.SSLError."""
    raw = await dial(place.host, place.port)
    try:
        _set_options(raw)
        _, channel = await asyncio.get_running_loop().create_connection(
            lambda: Channel(place), sock=raw, ssl=context, server_hostname=place.host if context else None
        )
    except BaseException:
        raw.close()
        raise
    return channel


def _set_options(raw: socket.socket) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # macOS has the latter
    if idle is not None:
        raw.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_S)
    if hasattr(socket, "TCP_KEEPINTVL"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def tls_context(env: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS context of this process: made on first need, since it costs about 20 ms, and then shared."""
    return _tls_context(env.get("SSL_CERT_FILE") or None, env.get("SSL_CERT_DIR") or None)


@lru_cache(maxsize=4)
def _tls_context(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile, capath=capath)
    if cafile is None and capath is None and _trusts_nobody(context):
        import certifi  # httpx brings it; a slim container has no certificates of its own

        context.load_verify_locations(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trusts_nobody(context: ssl.SSLContext) -> bool:
    """No certificates loaded, and no folder from which OpenSSL would load them when asked."""
    folder = ssl.get_default_verify_paths().capath
    return not context.cert_store_stats()["x509_ca"] and not (folder and any(Path(folder).iterdir()))
