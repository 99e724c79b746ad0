"""Holding a run while something is done about it: the lease is extended, and whoever lost it stops."""

from __future__ import annotations

from typing import NoReturn

import anyio
from anyio import to_thread

from runner.clock import Clock
from runner.domain.run import Run
from runner.store.holder import HEARTBEAT_S, Hold, taken_over


async def beat(hold: Hold, run: Run, clock: Clock) -> NoReturn:
    """Until it is cancelled. Raises RunLocked when somebody has taken the run over."""
    while True:
        await anyio.sleep(HEARTBEAT_S)
        if not await to_thread.run_sync(hold.extend, clock.now_us()):
            raise taken_over(run)
