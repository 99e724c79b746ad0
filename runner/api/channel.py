"""One connection to one origin: a byte stream with the HTTP/1.1 state machine beside it.

Knows sockets, TLS and h11; knows nothing of httpx, of pools or of what is sent.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

# A middlebox that forgets idle connections does so after minutes (some clouds: 350 s). Probing from the first
# minute on keeps a long silent answer alive and finds a vanished peer within about six minutes.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 60
KEEPALIVE_PROBES = 5
# Headers of a reply beyond this are no API's; h11's own default of 16 KB is small for some gateways.
MAX_HEAD_BYTES = 64 * 1024


class Place(NamedTuple):
    """An origin: where connections are interchangeable."""

    scheme: str
    host: str
    port: int


class Channel:
    """A connection. `http` is the state of the exchange on it, `idle_since` when it was last given back."""

    __slots__ = ("early", "http", "idle_since", "place", "stream")

    def __init__(self, place: Place, stream: ByteStream) -> None:
        self.place = place
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.idle_since = 0.0
        self.early: h11.Response | None = None

    def is_spent(self) -> bool:
        """True when the peer has hung up, or spoke unasked: nothing may be sent on it any more.

        An idle HTTP/1.1 connection has nothing to read, so a readable socket means its end either way.
        """
        descriptor = self._descriptor()
        if descriptor < 0:
            return True
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(0))

    def next_cycle(self) -> bool:
        """Make ready for the next request; False when this exchange was the connection's last."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if not done or self.http.trailing_data[0]:
            return False
        self.http.start_next_cycle()
        self.early = None
        return True

    async def aclose(self) -> None:
        """Close at once, also while being cancelled: a socket must not outlive its request."""
        with anyio.CancelScope(shield=True):
            # An error here says that it is gone, which is what was wanted.
            with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self.stream.aclose()

    def _descriptor(self) -> int:
        try:
            return _descriptor_of(self.stream)
        except (OSError, ValueError, AttributeError):
            return -1


async def open_channel(place: Place, context: ssl.SSLContext | None) -> Channel:
    """Connect, and shake hands where there is TLS. Raises OSError, ssl.SSLError or anyio's broken streams."""
    tcp = await anyio.connect_tcp(place.host, place.port)
    try:
        _set_options(_descriptor_of(tcp))
        if context is None:
            return Channel(place, tcp)
        # Not "standard compatible": servers close without the TLS goodbye, and HTTP frames its bodies itself.
        tls = await TLSStream.wrap(tcp, hostname=place.host, ssl_context=context, standard_compatible=False)
        return Channel(place, tls)
    except BaseException:
        await anyio.aclose_forcefully(tcp)
        raise


def _descriptor_of(stream: ByteStream) -> int:
    return stream.extra(SocketAttribute.raw_socket).fileno()  # noqa: S610 - anyio's, not Django's


def _set_options(descriptor: int) -> None:
    """Through a duplicate, because uvloop's socket object refuses options; they belong to the open socket."""
    with socket.socket(fileno=os.dup(descriptor)) as raw:
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
