"""A clock for async tests that moves only when it is turned, or jumps by itself when nothing else can happen.

    async with clock.autojump():
        await something_that_takes_half_an_hour()   # a moment of real time

Autojump goes to the next sleeper as soon as the event loop has nothing left to do. Where something outside the loop
may still be at work (a socket, a thread of the program's own) it first waits for a few milliseconds of silence:
no call of the clock, no event on the loop's selector. A call in `anyio.to_thread` always counts as work; other
work can be announced by `with clock.busy():`. One clock serves one event loop; threads may read it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_threads

START_US = 1_795_255_200_000_000  # 2026-11-21 10:00 UTC
SILENCE_S = 0.005
SETTLING_PASSES = 10


class TurnedClock:
    """`runner.clock.Clock` with virtual time. `offset_us` moves shared time alone, as a wrong wall clock would."""

    def __init__(self, start_us: int = START_US, offset_us: int = 0) -> None:
        self.offset_us = offset_us
        self.jumps = 0
        self._start_us = start_us
        self._us = start_us
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._numbers = itertools.count()
        self._stirs = 0
        self._at_work = 0
        self._lock = threading.Lock()
        self._known_threads = frozenset(threading.enumerate())

    # -- the clock

    def monotonic(self) -> float:
        self._stirs += 1
        return (self._us - self._start_us) / 1e6

    def now_us(self) -> int:
        self._stirs += 1
        return self._us + self.offset_us

    async def sleep(self, seconds: float) -> None:
        self._stirs += 1
        # Never a microsecond too early, whatever the float has lost.
        wait_us = math.ceil(seconds * 1e6 - 1e-3)
        if wait_us <= 0:
            await anyio.lowlevel.checkpoint()
            return
        sleeper = (self._us + wait_us, next(self._numbers), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            self._stirs += 1
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    # -- turning it

    @property
    def sleepers(self) -> int:
        """How many are asleep."""
        return len(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own time and letting it act before time goes further."""
        until_us = self._us + round(seconds * 1e6)
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until_us:
            self._wake_next()
            await self._settle()
        self._us = until_us

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While inside, autojump holds still. For work that neither the loop nor `anyio.to_thread` shows."""
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                self._stirs += 1

    @asynccontextmanager
    async def autojump(self, silence_s: float = SILENCE_S) -> AsyncIterator[TurnedClock]:
        """While inside, jump to the next sleeper whenever nothing else can happen."""
        with self._watched_selector():
            jumper = asyncio.get_running_loop().create_task(self._jump_when_idle(silence_s))
            try:
                yield self
            finally:
                if not jumper.done():
                    jumper.cancel()
                with suppress(asyncio.CancelledError):
                    await jumper

    # -- how it is done

    def _wake_next(self) -> None:
        """Set time to the earliest sleeper's and wake all whose time it is."""
        self._us = max(self._us, self._sleepers[0][0])
        while self._sleepers and self._sleepers[0][0] <= self._us:
            heapq.heappop(self._sleepers)[2].set()

    async def _settle(self) -> None:
        """Let the loop and its threads run until they have nothing left to do."""
        quiet = 0
        while quiet < SETTLING_PASSES:
            await asyncio.sleep(0)
            if self._working():
                quiet = 0
                await asyncio.sleep(0.0005)
            else:
                quiet += 1

    async def _jump_when_idle(self, silence_s: float) -> None:
        seen, since, passes = self._stirs, time.monotonic(), 0
        while True:
            await asyncio.sleep(0)
            if self._stirs != seen or self._working() or _ready_handles():
                if self._working():
                    await asyncio.sleep(0.0005)
                seen, since, passes = self._stirs, time.monotonic(), 0
                continue
            passes += 1
            if passes < SETTLING_PASSES:
                continue
            enough_s = silence_s if self._outside_world() else 0.0
            if self._sleepers and time.monotonic() - since >= enough_s:
                self._wake_next()
                self.jumps += 1
                since, passes = time.monotonic(), 0
            else:
                await asyncio.sleep(0.0005)

    def _working(self) -> bool:
        return self._at_work > 0 or _busy_worker_threads() > 0

    def _outside_world(self) -> bool:
        """Can anything reach the loop but itself? Sockets other than its own wake-up pipe, or unknown threads."""
        selector = _selector()
        if selector is None or len(selector.get_map()) > 1:
            return True
        return any(
            thread not in self._known_threads and not isinstance(thread, anyio_threads.WorkerThread)
            for thread in threading.enumerate()
        )

    @contextmanager
    def _watched_selector(self) -> Iterator[None]:
        """Count what the selector reports (sockets, threads that call back) as a sign of life."""
        selector = _selector()
        if selector is None:
            yield
            return
        original = selector.select

        def select(timeout: float | None = None) -> Any:
            events = original(timeout)
            if events:
                self._stirs += 1
            return events

        selector.select = select
        try:
            yield
        finally:
            selector.select = original


def _selector() -> Any:
    return getattr(asyncio.get_running_loop(), "_selector", None)


def _ready_handles() -> int:
    return len(getattr(asyncio.get_running_loop(), "_ready", ()))


def _busy_worker_threads() -> int:
    """Threads of `anyio.to_thread` that have something to do, whichever limiter they run under."""
    workers = anyio_threads._threadpool_workers.get(set())
    idle = anyio_threads._threadpool_idle_workers.get(())
    return max(0, len(workers) - len(idle))
