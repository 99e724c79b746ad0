"""Group commit: each commit takes whatever gathered while the one before it ran.

A call is not made before the commit of its send, so the group grows by itself with the load: alone, a row is
committed at once; under load, hundreds share one fsync. The end of a call is handed over and not waited for: what
its slot sends next stands behind it in the line, and most often in the same commit. When calls are out whose ends
would find the writer idle, it leaves a moment between two commits: what a commit costs depends little on how many
share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from runner.clock import Clock
from runner.store.group import Operation, SendIntent, Settlement, Verdict
from runner.store.store import Store

# Bounds of one transaction: long enough to share its cost, short enough that nobody waits long for it.
GROUP_OPERATIONS = 512
GROUP_BYTES = 8 << 20
# From the start of one commit to the next, while calls are out: this share of what a call takes, and at most so long.
# Between two calls a slot waits for one commit, on average half a pace: a twentieth of the speed.
PACE_SHARE = 1 / 10
PACE_S = 0.02
# How much the latest call weighs in the mean of what calls take.
WEIGHT = 0.1


class _Entry:
    """An operation in the line; who waits for it, or what follows from it."""

    __slots__ = ("operation", "then", "told")

    def __init__(
        self,
        operation: Operation,
        told: asyncio.Future[Verdict] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.operation = operation
        self.told = told
        self.then = then

    def is_stored(self, verdict: Verdict) -> None:
        if self.then is not None:
            self.then()
        elif self.told is not None and not self.told.done():  # it is, where the whole loop is being ended
            self.told.set_result(verdict)

    def is_lost(self, error: Exception) -> None:
        if self.told is not None and not self.told.done():
            self.told.set_exception(error)


class Writer:
    """The run's one writer of calls and their ends, in the order in which they come."""

    def __init__(self, store: Store, run: int, writes: anyio.CapacityLimiter, clock: Clock) -> None:
        self._store = store
        self._run = run
        self._writes = writes
        self._clock = clock
        self._waiting: list[_Entry] = []
        self._lined_up = 0
        self._committed = 0
        self._out: dict[int, float] = {}  # since when: the rows whose send is written and whose call has not ended
        self._call_s = 0.0
        self._next_s = 0.0
        self._wake = anyio.Event()
        self._moved = anyio.Event()
        self._closing = False
        self._error: Exception | None = None  # after which nothing more is written
        self.closed = anyio.Event()

    async def submit(self, operation: Operation) -> Verdict:
        """Returns when the operation is committed. Raises StoreFault when it could not be.

        Shielded: an operation that was handed over is waited for, whoever wants to stop.
        """
        told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._line_up(_Entry(operation, told=told))
        with anyio.CancelScope(shield=True):
            await told
        return told.result()

    def hand_over(self, operation: Operation, then: Callable[[], None]) -> None:
        """Returns at once; `then` follows when the operation is committed. Whatever is submitted later is committed
        later, or with it. Raises StoreFault when nothing can be written any more."""
        self._line_up(_Entry(operation, then=then))

    async def caught_up(self) -> None:
        """Returns when all that was handed over until now is committed."""
        until = self._lined_up
        while self._committed < until and self._error is None:
            await self._moved.wait()

    def _line_up(self, entry: _Entry) -> None:
        if self._error is not None:
            raise self._error
        self._waiting.append(entry)
        self._lined_up += 1
        self._wake.set()
        if (since_s := self._out.pop(entry.operation.idx, None)) is not None:
            self._call_s += WEIGHT * (self._clock.monotonic() - since_s - self._call_s)

    async def serve(self) -> None:
        """Commit groups until closed, whoever else is canceled meanwhile. Raises the error after which nothing more
        is written, a StoreFault unless it is ours; everybody who waits is told."""
        try:
            with anyio.CancelScope(shield=True):
                while await self._something():
                    await self._keep_pace()
                    await self._commit(self._take_group())
        finally:
            self.closed.set()

    def close(self) -> None:
        """Let `serve` end once nothing waits any more."""
        self._closing = True
        self._wake.set()

    async def _something(self) -> bool:
        while not self._waiting:
            if self._closing:
                return False
            self._wake = anyio.Event()
            await self._wake.wait()
        return True

    async def _keep_pace(self) -> None:
        """Wait a moment for others, unless more are waiting already than could still come: an end and a send each."""
        wait_s = self._next_s - self._clock.monotonic()
        if wait_s > 0 and len(self._waiting) < 2 * len(self._out) and not self._closing:
            await self._clock.sleep(wait_s)
        self._next_s = self._clock.monotonic() + min(PACE_S, PACE_SHARE * self._call_s)

    def _take_group(self) -> list[_Entry]:
        size = taken = 0
        for entry in self._waiting[:GROUP_OPERATIONS]:
            size += _bytes_of(entry.operation)
            if taken and size > GROUP_BYTES:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _commit(self, group: list[_Entry]) -> None:
        operations = [entry.operation for entry in group]
        try:
            verdicts = await anyio.to_thread.run_sync(
                self._store.commit_group, self._run, operations, limiter=self._writes
            )
        except Exception as error:
            self._lose([*group, *self._waiting], error)
            raise
        self._tell(group, verdicts)

    def _tell(self, group: list[_Entry], verdicts: list[Verdict]) -> None:
        now_s = self._clock.monotonic()
        for entry, verdict in zip(group, verdicts, strict=True):
            if verdict is Verdict.STORED and isinstance(entry.operation, SendIntent):
                self._out[entry.operation.idx] = now_s
            entry.is_stored(verdict)
        self._committed += len(group)
        self._move()

    def _lose(self, entries: list[_Entry], error: Exception) -> None:
        self._error = error
        self._waiting = []
        for entry in entries:
            entry.is_lost(error)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()


def _bytes_of(operation: Operation) -> int:
    if isinstance(operation, Settlement) and operation.message is not None:
        return len(operation.message)
    return 0
