"""A simulator on a socket in a thread of its own, for commands that speak to the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runner.clock import SystemClock
from runner.simulator import RunningServer, Simulator, SimulatorConfig, serve


@contextmanager
def served(**config: Any) -> Iterator[RunningServer]:
    """The server, its brain at `server.simulator`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = serve(Simulator(SimulatorConfig(**config), SystemClock()))
    server = asyncio.run_coroutine_threadsafe(start, loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
