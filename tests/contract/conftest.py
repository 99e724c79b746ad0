"""A simulator and the official client that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import pytest

from runner.clock import SystemClock
from runner.simulator import RunningServer, Simulator, SimulatorConfig, serve

Connect = Callable[..., Awaitable[tuple[RunningServer, anthropic.AsyncAnthropic]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`server, sdk = await connect(seed=1)`."""
    async with AsyncExitStack() as stack:

        async def connector(**settings: Any) -> tuple[RunningServer, anthropic.AsyncAnthropic]:
            server = await serve(Simulator(SimulatorConfig(**settings), SystemClock()))
            stack.push_async_callback(server.close)
            sdk = anthropic.AsyncAnthropic(api_key="sk-ant-test", base_url=server.url, max_retries=0)
            return server, await stack.enter_async_context(sdk)

        yield connector
