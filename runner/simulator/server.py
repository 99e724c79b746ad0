"""The simulator on a real socket: connections, framing, and everything that can go wrong on a wire.

It plays the plans that the brain makes, and knows nothing of what they mean. An own server, because no web
framework sends half a body or resets a connection on demand.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from email.utils import formatdate
from typing import cast

from runner.simulator.exchange import Reply, Request
from runner.simulator.http1 import BadHttp, RequestReader
from runner.simulator.idle import IdleWork
from runner.simulator.simulator import Simulator

BACKLOG = 4096
HALF_ARRIVES_S = 0.003  # real time for the first half to be read before the reset overtakes it
HELD_LOOK_S = 0.02  # between two looks whether a reply is still held
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST

_PHRASES = {
    200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required",
    403: "Forbidden", 404: "Not Found", 409: "Conflict", 413: "Request Entity Too Large",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 529: "Overloaded",
}  # fmt: skip


class RunningServer:
    """A simulator that listens. `url` has no trailing slash."""

    def __init__(
        self, simulator: Simulator, listener: asyncio.Server, connections: set[Connection], idle: IdleWork
    ) -> None:
        self.simulator = simulator
        self._idle = idle
        self._listener = listener
        self._connections = connections
        host, port = listener.sockets[0].getsockname()[:2]
        self.port: int = port
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._listener.close()
        await self._idle.stop()
        for connection in tuple(self._connections):
            await connection.drop()
        await asyncio.sleep(0)  # lets the loop close the aborted sockets
        await self._listener.wait_closed()


async def serve(simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Listen in the running asyncio loop; port 0 takes a free one."""
    connections: set[Connection] = set()
    idle = IdleWork(simulator.work_ahead)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(simulator, connections, idle), host, port, backlog=BACKLOG)
    return RunningServer(simulator, listener, connections, idle)


class Connection(asyncio.Protocol):
    """One client connection: requests one after another, each answered before the next is looked at."""

    _transport: asyncio.Transport

    def __init__(self, simulator: Simulator, connections: set[Connection], idle: IdleWork) -> None:
        self._simulator = simulator
        self._idle = idle
        self._connections = connections
        self._reader = RequestReader(simulator.body_limit)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a TCP transport, uvloop's or the library's
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._connections.discard(self)
        self._room.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def drop(self) -> None:
        """End it at once, in the middle of whatever it sends."""
        task = self._task
        self._transport.abort()
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (request := self._reader.take()) is not None:
                self._waiting.append(request)
        except BadHttp:
            self._refuse_bytes()
            return
        if self._reader.take_expectation():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._go_on()

    def _refuse_bytes(self) -> None:
        self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self._transport.close()

    def _go_on(self) -> None:
        """Answer what is waiting; a reply that takes time gets a task."""
        while self._waiting and self._task is None and not self._transport.is_closing():
            request = self._waiting.popleft()
            reply = self._simulator.receive(request)
            if self._simulator.has_work:
                self._idle.stir()
            closes = reply.from_edge or request.headers.get("connection", "").lower() == "close"
            if reply.delay_s or reply.held or reply.wire is not None or reply.events is not None:
                self._task = asyncio.get_running_loop().create_task(self._play(reply, closes))
            else:
                self._send_whole(reply, closes)

    def _send_whole(self, reply: Reply, closes: bool) -> None:
        self._transport.write(self._head(reply, _sized(reply), closes) + reply.body)
        self._finish(reply, "delivered", closes)

    def _finish(self, reply: Reply, how: str, closes: bool) -> None:
        if reply.on_end is not None:
            reply.on_end(how)
        if closes:
            self._transport.close()

    async def _play(self, reply: Reply, closes: bool) -> None:
        try:
            if reply.delay_s:
                await self._simulator.clock.sleep(reply.delay_s)
            while reply.held is not None and reply.held():
                await self._simulator.clock.sleep(HELD_LOOK_S)
            how = await self._sent(reply, closes)
        except asyncio.CancelledError:
            stalls = reply.wire is not None and reply.wire.kind == "stall"
            self._finish(reply, "stalled" if stalls else "disconnected", closes=False)
            raise
        self._task = None
        self._finish(reply, how, closes)
        self._go_on()

    async def _sent(self, reply: Reply, closes: bool) -> str:
        """Play the reply; what became of it."""
        kind = reply.wire.kind if reply.wire else ""
        if kind in ("reset", "executed_reset"):
            return self._reset()
        if kind == "stall":
            return await self._stalled()
        if kind == "reset_half":
            return await self._reset_half(reply)
        if kind == "drip":
            return await self._dripped(reply, closes)
        if kind == "cut_body":
            return await self._cut(reply)
        if reply.events is None:
            self._transport.write(self._head(reply, _sized(reply), closes) + reply.body)
            return "delivered"
        await self._stream(reply, closes)
        return "cut" if kind else "delivered"

    async def _stream(self, reply: Reply, closes: bool) -> None:
        self._transport.write(self._head(reply, "transfer-encoding: chunked\r\n", closes))
        for event in reply.events or ():
            if not event:
                continue  # an empty chunk would end the body
            if reply.event_pause_s:
                await self._simulator.clock.sleep(reply.event_pause_s)
            self._transport.write(_chunk(event))
            await self._room.wait()
        self._transport.write(_chunk(b""))

    def _reset(self) -> str:
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()
        return "reset"

    async def _stalled(self) -> str:
        """Never a byte; ends when the client goes away, which cancels this task."""
        await asyncio.get_running_loop().create_future()
        return "stalled"

    async def _reset_half(self, reply: Reply) -> str:
        self._transport.write(self._half(reply, reply.wire.framing if reply.wire else ""))
        await asyncio.sleep(HALF_ARRIVES_S)
        return self._reset()

    async def _cut(self, reply: Reply) -> str:
        """Half the body, then an ordinary end of the connection."""
        self._transport.write(self._half(reply, reply.wire.framing if reply.wire else ""))
        self._transport.close()
        return "cut"

    def _half(self, reply: Reply, framing: str) -> bytes:
        size, half = _half_of(reply)
        # The events of a message cannot be counted ahead; a file of results comes as it is told.
        if framing == "chunked" or (isinstance(reply.events, tuple) and framing != "close"):
            chunk = _chunk(half) if half else b""  # an empty one would end the body in good order
            return self._head(reply, "transfer-encoding: chunked\r\n", closes=False) + chunk
        if framing == "close":
            return self._head(reply, "", closes=True) + half
        return self._head(reply, f"content-length: {size}\r\n", closes=False) + half

    async def _dripped(self, reply: Reply, closes: bool) -> str:
        every_s = reply.wire.every_s if reply.wire else 0.0
        body = b"".join(reply.events) if reply.events is not None else reply.body
        self._transport.write(self._head(reply, f"content-length: {len(body)}\r\n", closes))
        for byte in body:
            self._transport.write(bytes((byte,)))
            await self._simulator.clock.sleep(every_s)
        return "delivered"

    def _head(self, reply: Reply, framing: str, closes: bool) -> bytes:
        headers = reply.headers if reply.late_headers is None else reply.headers + reply.late_headers()
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        ending = "connection: close\r\n" if closes else ""
        phrase = _PHRASES.get(reply.status, "Unknown")
        date = _http_date(self._simulator.clock.now_us() // 1_000_000)
        return (f"HTTP/1.1 {reply.status} {phrase}\r\ndate: {date}\r\n{lines}{framing}{ending}\r\n").encode("latin-1")


def _sized(reply: Reply) -> str:
    return f"content-length: {len(reply.body)}\r\n"


def _half_of(reply: Reply) -> tuple[int, bytes]:
    """How long the whole body is, and the part of it that still arrives."""
    pieces = (reply.body,) if reply.events is None else reply.events
    size = sum(map(len, pieces))
    wanted = reply.wire.at_byte if reply.wire is not None else None
    upto = size // 2 if wanted is None else min(wanted, size)
    part = bytearray()
    for piece in pieces:
        part += piece[: upto - len(part)]
        if len(part) >= upto:
            break
    return size, bytes(part)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_last_date: tuple[int, str] = (0, formatdate(0, usegmt=True))


def _http_date(second: int) -> str:
    """Rendered once a second; it costs more than parsing a request."""
    global _last_date
    if _last_date[0] != second:
        _last_date = (second, formatdate(second, usegmt=True))
    return _last_date[1]
