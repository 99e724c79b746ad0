"""A simulator on a real socket, closed when its test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from runner.clock import Clock, SystemClock
from runner.simulator import RunningServer, Simulator, SimulatorConfig, serve
from tests.simulator.calls import HEADERS

Start = Callable[..., Awaitable[tuple[RunningServer, httpx.AsyncClient]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`server, client = await start(seed=1, clock=...)`."""
    async with AsyncExitStack() as stack:

        async def starter(clock: Clock | None = None, **settings: Any) -> tuple[RunningServer, httpx.AsyncClient]:
            simulator = Simulator(SimulatorConfig(**settings), clock or SystemClock())
            server = await serve(simulator)
            stack.push_async_callback(server.close)
            client = httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False)
            return server, await stack.enter_async_context(client)

        yield starter
