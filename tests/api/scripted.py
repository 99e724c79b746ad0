"""A server that does as it is told, byte by byte: each test scripts what a connection gets to hear."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from runner.api.client import Client, Connection
from runner.api.credentials import Credential
from runner.api.transport import PooledTransport
from runner.domain.request import MessagesRequest

KEY = "sk-ant-api-CANARY-0123456789-x4Qd"

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": "positive"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 14, "output_tokens": 3, "service_tier": "standard"},
}


@dataclass
class Seen:
    """A request as the server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Wire:
    """The server's side of one connection."""

    def __init__(self, server: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer

    async def head(self) -> Seen | None:
        """The next request's head, None at the end of the connection."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        seen = Seen(method, target, headers, b"")
        self.server.requests.append(seen)
        return seen

    async def request(self) -> Seen | None:
        """The next request whole."""
        seen = await self.head()
        if seen is not None:
            seen.body = await self.reader.readexactly(int(seen.headers.get("content-length", 0)))
        return seen

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop would call it a RuntimeError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Hang up rudely: the peer gets a RST."""
        told = self.writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(told.fileno())) as raw:  # uvloop's own object refuses options
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


@dataclass
class Served:
    port: int = 0
    connections: int = 0
    requests: list[Seen] = field(default_factory=list)
    open: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def served(script: Script, **options: Any) -> AsyncIterator[Served]:
    """A server on a free port of this machine; whatever it still does at the end is stopped."""
    told = Served(scheme="https" if "ssl" in options else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        told.connections += 1
        told.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(Wire(told, reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            told.open -= 1
            writer.close()
            with suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()
            tasks.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, **options)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def reply(
    body: bytes | object = b"", *, status: int = 200, headers: dict[str, str] | None = None, length: bool = True
) -> bytes:
    """A whole reply; objects go as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    told = {"content-type": "application/json", **(headers or {})}
    if length:
        told.setdefault("content-length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} Told\r\n{head}\r\n".encode() + body


def always(data: bytes) -> Script:
    """A script that answers each request with the same bytes."""

    async def script(wire: Wire) -> None:
        while await wire.request() is not None:
            await wire.send(data)

    return script


def once(data: bytes, *, reset: bool = False) -> Script:
    """A script that answers one request with these bytes and hangs up."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(data)
        if reset:
            await asyncio.sleep(0.05)
            wire.reset()

    return script


def connection(url: str, **changes: Any) -> Connection:
    credential = Credential(kind="api_key", secret=KEY, source="ANTHROPIC_API_KEY")
    return Connection(**{"credential": credential, "base_url": url, **changes})


@asynccontextmanager
async def client_of(script: Script, **changes: Any) -> AsyncIterator[tuple[Client, Served]]:
    async with served(script) as server, Client(connection(server.url, **changes), PooledTransport(env={})) as client:
        yield client, server


def asked(body: bytes = b'{"model":"m"}', *, stream: bool = False, betas: tuple[str, ...] = ()) -> MessagesRequest:
    return MessagesRequest(body=body, model="m", max_tokens=16, stream=stream, prompt_tokens_bound=None, betas=betas)


def open_connections(http: PooledTransport) -> int:
    """Kept and busy ones together."""
    return len(http._busy) + sum(map(len, http._kept.values()))
