"""Holding a run while something is done about it: the lease is extended, and whoever lost it stops."""

from __future__ import annotations

from typing import NoReturn

import anyio
from anyio import to_thread

from runner.clock import Clock
from runner.domain.run import Run
from runner.errors import RunnerError
from runner.store.holder import HEARTBEAT_S, Hold, taken_over


async def beat(hold: Hold, run: Run, clock: Clock) -> NoReturn:
    """Until it is cancelled. Raises RunLocked when somebody has taken the run over."""
    while True:
        await anyio.sleep(HEARTBEAT_S)
        if not await to_thread.run_sync(hold.extend, clock.now_us()):
            raise taken_over(run)


def first_of(group: BaseExceptionGroup[RunnerError]) -> RunnerError:
    """What ended a group of tasks; the others were stopped for it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, RunnerError):
        raise TypeError("a group of RunnerError holds nothing else")
    return error
