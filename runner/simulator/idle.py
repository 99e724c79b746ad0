"""Work for idle moments: done in short slices on the event loop, between one reply and the next.

It knows neither batches nor sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class IdleWork:
    """Calls `slice_of_work` until it says that nothing is left; `stir` when there may be more."""

    def __init__(self, slice_of_work: Callable[[], bool]) -> None:
        self._slice = slice_of_work
        self._task: asyncio.Task[None] | None = None

    def stir(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        while self._slice():  # noqa: ASYNC110 - it waits for nothing, it lets others have their turn
            await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
