"""The simulator as a process of its own: `python -m runner.simulator`, or the command that calls `run_forever`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

from runner.clock import SystemClock
from runner.simulator.config import SimulatorConfig, config_from_json
from runner.simulator.server import serve
from runner.simulator.simulator import Simulator


def run_forever(config: SimulatorConfig, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until SIGINT or SIGTERM; one line on stdout says when and where."""
    _run(_serve_until_stopped(config, host, port))


async def _serve_until_stopped(config: SimulatorConfig, host: str, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    server = await serve(Simulator(config, SystemClock()), host, port)
    sys.stdout.write(f"listening on {server.url}\n")
    sys.stdout.flush()
    await stopped.wait()
    await server.close()


def _run(main: Coroutine[None, None, None]) -> None:
    """On uvloop where it exists: about twice the requests a second."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(main)
        return
    asyncio.run(main)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m runner.simulator", description="The Claude API offline.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--config", default="{}", help="a JSON object of settings, or @FILE")
    told = parser.parse_args(arguments)
    text = Path(told.config[1:]).read_text() if told.config.startswith("@") else told.config
    config = config_from_json(text)
    if told.seed is not None:
        config = replace(config, seed=told.seed)
    run_forever(config, told.host, told.port)
