"""Time as an argument: the real clock, and one that tests turn.

Two kinds of time. *Monotonic* seconds measure durations on this machine. *Shared* time is integer microseconds
UTC, the same for all who use one store; on SQLite that is the machine's clock, on PostgreSQL the machine's clock
plus an offset read from the database, so that leases and pauses agree between machines.
"""

from __future__ import annotations

import time
from typing import Protocol

import anyio

MICROSECOND = 1
SECOND = 1_000_000


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    def now_us(self) -> int:
        """Shared time, microseconds UTC."""

    async def sleep(self, seconds: float) -> None:
        """Sleep; returns early only by cancellation."""


def local_utc_offset_s(at_s: int) -> int:
    """How many seconds the wall clock of this machine is ahead of UTC at `at_s`, in seconds since 1970 UTC."""
    return time.localtime(at_s).tm_gmtoff


class SystemClock:
    """The machine's clock, moved by `offset_us` to shared time."""

    def __init__(self, offset_us: int = 0) -> None:
        self.offset_us = offset_us

    def monotonic(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))
