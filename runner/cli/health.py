"""`/healthz` and `/metrics` of a worker, for whoever supervises it. Plain HTTP, one answer a connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
from anyio import to_thread
from anyio.abc import SocketStream

from runner.cli.metrics import METRICS_TYPE, exposition
from runner.domain.seen import StoreSeen
from runner.errors import StoreFault, UsageInvalid

ASK_BYTES = 4_096
ASK_S = 5.0


class Patient(Protocol):
    """What is asked for its health."""

    @property
    def is_well(self) -> bool: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def runs(self) -> list[str]: ...

    @property
    def waited_s(self) -> Mapping[str, float]: ...


async def served(port: int, patient: Callable[[], Patient], store: Callable[[], StoreSeen]) -> None:
    """Answer on every address of this machine, until cancelled. `store` blocks."""
    try:
        listener = await anyio.create_tcp_listener(local_port=port)
    except OSError as problem:
        raise UsageInvalid(f"port {port} cannot be used: {problem.strerror}.") from None

    async def answer(stream: SocketStream) -> None:
        async with stream:
            with anyio.move_on_after(ASK_S):
                asked = await stream.receive(ASK_BYTES)
                await stream.send(await _reply(asked, patient(), store))

    await listener.serve(answer)


async def _reply(asked: bytes, patient: Patient, store: Callable[[], StoreSeen]) -> bytes:
    words = asked.split(b" ", 2)
    path = words[1].partition(b"?")[0] if len(words) > 1 else b""
    if path == b"/healthz":
        told = {"well": patient.is_well, "in_flight": patient.in_flight, "runs": patient.runs}
        status = "200 OK" if patient.is_well else "503 Service Unavailable"
        return _http(status, "application/json", json.dumps(told).encode())
    if path == b"/metrics":
        text = exposition(patient.in_flight, patient.waited_s, await _seen(store))
        if text is None:
            return _http("501 Not Implemented", "text/plain", b"pip install 'claude-job-runner[metrics]'\n")
        return _http("200 OK", METRICS_TYPE, text)
    return _http("404 Not Found", "text/plain", b"/healthz or /metrics\n")


async def _seen(store: Callable[[], StoreSeen]) -> StoreSeen | None:
    """While the database is away there are the numbers of this process."""
    try:
        return await to_thread.run_sync(store, abandon_on_cancel=True)
    except StoreFault:
        return None


def _http(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
