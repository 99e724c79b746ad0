"""One member of the fleet: takes what the queue hands out, keeps it filled, gives signs of life, leaves in order.

A chunk's work is the engine's own (`engine/member`); one `Member` a run serves all its chunks that are here, so a
chunk is no barrier here either. What is worked on as a whole, batches above all, is `engine/run.work_on` without
waiting: a batch holds nothing while it is with the service, and its run comes back to the queue a minute later.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus
from msgspec import Struct

from runner.clock import SystemClock
from runner.domain.run import Run
from runner.domain.states import PauseReason, RunState
from runner.engine.interrupts import heard
from runner.engine.member import Member
from runner.engine.parts import GRACE_S, Parts, RunEnd
from runner.engine.queue import Queue
from runner.engine.run import work_on
from runner.errors import CredentialsRefused, RunLocked, RunnerError, StoreFault, UsageInvalid, first_of
from runner.store.fleet import Worker
from runner.store.lease import LEASE_US
from runner.store.store import Store

log = logging.getLogger(__name__)

LEASE_S = LEASE_US / 1e6
# Several signs of life a lease.
BEAT_S = min(5.0, LEASE_S / 6)
SWEEP_S = min(10.0, LEASE_S / 3)
# Chunks of one run in hand at once in one process: two, so that the stragglers of one are no barrier, and another for
# so many slots. More would be taken from the other members. Of other runs as many may come beside them.
FEWEST_CHUNKS = 2
SLOTS_A_CHUNK = 64
# A chunk too many is put down after this, for another member to find.
DECLINE_S = 1.0
# Shared time is read from the database as often.
CLOCK_S = 60.0

# Returns with the number of the signal, once there was one.
Leaving = Callable[[], Awaitable[int]]
PartsOf = Callable[[Run], AbstractAsyncContextManager[Parts]]


def most_chunks(slots: int) -> int:
    """How many chunks of one run a process with so many slots works on at once."""
    return FEWEST_CHUNKS + slots // SLOTS_A_CHUNK


class FleetParts(Struct, frozen=True, kw_only=True):
    """What a member is made of. `parts_of` opens what a run is worked with; `on_end` hears of runs that were left.

    What runs `beside` the work is cancelled at its end; what is `heeding` the signal waits for it with the function
    that it is given, and ends by itself, while calls in flight do.
    """

    store: Store
    clock: SystemClock
    conninfo: str
    connect: Mapping[str, Any]
    worker: Worker
    parts_of: PartsOf
    on_end: Callable[[RunEnd], None]
    beside: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    heeding: tuple[Callable[[Leaving], Coroutine[Any, Any, None]], ...] = ()
    grace_s: float = GRACE_S
    later_s: float | None = None


class FleetMember:
    """`serve` until a signal; the number of that signal comes back."""

    def __init__(self, parts: FleetParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock
        self._name = parts.worker.name
        self._members: dict[int, Member] = {}
        self._waited_s: Counter[str] = Counter()  # by parts that have ended
        self._opening = anyio.Lock()
        self._leaving = anyio.Event()
        self._wanted = anyio.Event()
        self._signal = 0
        self._beaten_s = parts.clock.monotonic()
        self._work: TaskGroup | None = None
        more = {} if parts.later_s is None else {"later_s": parts.later_s}
        self._most_chunks = most_chunks(parts.worker.slots)
        self._queue = Queue(
            parts.conninfo,
            connect=parts.connect,
            jobs=2 * self._most_chunks,
            on_chunk=self._chunk,
            on_run=self._whole,
            **more,
        )

    @property
    def is_well(self) -> bool:
        """Whether the last sign of life is young, and nobody has asked it to leave."""
        return not self._leaving.is_set() and self._clock.monotonic() - self._beaten_s < LEASE_S

    @property
    def in_flight(self) -> int:
        """Calls that are out."""
        return sum(member.in_flight for member in self._members.values())

    @property
    def runs(self) -> list[str]:
        return [member.label for member in self._members.values()]

    @property
    def waited_s(self) -> Mapping[str, float]:
        """How long calls of this process have waited for each limit."""
        total = Counter(self._waited_s)
        for member in self._members.values():
            total.update(member.waited_s)
        return total

    async def serve(self) -> int:
        """Work until a signal; which one that was. Raises StoreFault when the database is away for too long."""
        with heard(self._obey):
            await to_thread.run_sync(self._store.fleet.register, self._parts.worker)
            watched = threading.Thread(target=self._watch, daemon=True)
            watched.start()
            try:
                await self._serve()
            except* RunnerError as group:
                raise first_of(group) from None
            await to_thread.run_sync(self._store.fleet.leave, self._name)
        return self._signal

    async def _serve(self) -> None:
        async with self._queue.opened(), anyio.create_task_group() as helpers:
            for helper in (self._beat, self._sweep, self._supply, self._keep_time, *self._parts.beside):
                helpers.start_soon(helper)
            async with anyio.create_task_group() as work:
                self._work = work
                work.start_soon(self._queue.serve)
                for heeding in self._parts.heeding:
                    work.start_soon(heeding, self._signaled)
                await self._leaving.wait()
                self._queue.stop()
                for member in self._members.values():
                    member.drain(self._signal)
            helpers.cancel_scope.cancel()

    async def _signaled(self) -> int:
        await self._leaving.wait()
        return self._signal

    # --- what the queue hands out

    async def _chunk(self, run: int, seq: int) -> None:
        member = None if self._leaving.is_set() else await self._member(run)
        if member is not None and member.in_hand >= self._most_chunks:
            await anyio.sleep(DECLINE_S)
        elif member is not None:
            await member.offer(seq)
        self._wanted.set()

    async def _member(self, run: int) -> Member | None:
        """Our part in this run; None where the run does not go on."""
        async with self._opening:
            found = self._members.get(run)
            if found is not None and not found.is_leaving:
                return found
            if self._work is None:
                return None
            opened: Member | None = await self._work.start(self._part_in, run)
            return opened

    async def _part_in(self, run_id: int, *, task_status: TaskStatus[Member | None]) -> None:
        run = await to_thread.run_sync(self._store.run_by_id, run_id)
        if run.state is not RunState.RUNNING:
            task_status.started(None)
            return
        told = False
        try:
            async with self._parts.parts_of(run) as parts:
                member = Member(run, parts, self._name)
                self._members[run_id] = member
                self._share()
                if self._leaving.is_set():  # since we began to open it
                    member.drain(self._signal)
                task_status.started(member)
                told = True
                log.info("run_joined", extra={"run": run.label, "job": run.job.name})
                try:
                    end = await member.work()
                finally:
                    if self._members.get(run_id) is member:
                        del self._members[run_id]
                    self._waited_s.update(member.waited_s)
                    self._share()
            await self._left(end, ours=member.moved)
        except StoreFault:
            raise
        except RunnerError as error:
            await self._refuse(run, error)
            if not told:
                task_status.started(None)

    async def _whole(self, run: int) -> None:
        if self._work is not None and not self._leaving.is_set():
            ended = anyio.Event()
            self._work.start_soon(self._work_on, run, ended)
            await ended.wait()

    async def _work_on(self, run: int, ended: anyio.Event) -> None:
        """Batches, cancels, ends: under the run's hold, without waiting for what the service still works on."""
        found = await to_thread.run_sync(self._store.run_by_id, run)
        try:
            async with self._parts.parts_of(found) as parts:
                await self._left(await work_on(found, parts), ours=True)
        except (RunLocked, UsageInvalid):
            return  # somebody else has it, or it has ended meanwhile
        except StoreFault:
            raise
        except RunnerError as error:
            await self._refuse(found, error)
        finally:
            ended.set()

    async def _refuse(self, run: Run, error: RunnerError) -> None:
        """This run cannot be worked on; with the next member it would be the same."""
        log.error("run_refused", extra={"run": run.label, "reason": error.message})
        reason = PauseReason.CREDENTIALS if isinstance(error, CredentialsRefused) else PauseReason.REFUSED
        try:
            await to_thread.run_sync(self._store.pause_run, run.id, reason, error.message)
        except UsageInvalid:
            return

    async def _left(self, end: RunEnd, *, ours: bool) -> None:
        """Of all members that part from a run, the one that ended or paused it tells of that."""
        log.info("run_parted", extra={"run": end.run.label, "job": end.run.job.name, "state": end.run.state})
        if ours:
            await to_thread.run_sync(self._parts.on_end, end)

    def _share(self) -> None:
        """The calls of this process, shared between the runs that are here."""
        for member in self._members.values():
            member.limit_to(self._parts.worker.slots // len(self._members))

    # --- beside the work

    async def _beat(self) -> None:
        while True:
            state = "leaving" if self._leaving.is_set() else "working" if self._members else "idle"
            await to_thread.run_sync(self._store.fleet.beat, self._name, state, self._clock.now_us())
            self._beaten_s = self._clock.monotonic()
            await anyio.sleep(BEAT_S)

    async def _sweep(self) -> None:
        """What nobody else would do: chunks of the dead let go, the queue's own leftovers taken out."""
        while True:
            released = await to_thread.run_sync(self._store.fleet.release_silent, self._clock.now_us())
            stalled = await self._queue.forget_stalled()
            if released or stalled:
                log.warning("swept", extra={"chunks": released, "jobs": stalled})
            self._wanted.set()
            await anyio.sleep(SWEEP_S)

    async def _supply(self) -> None:
        """Keep a window of each run in the queue."""
        while True:
            self._wanted = anyio.Event()
            now_us = self._clock.now_us()
            living = await to_thread.run_sync(self._store.fleet.living_slots, now_us)
            # One more for each, so that nobody waits for the next while it is fetched.
            window = sum(most_chunks(slots) + 1 for slots in living)
            hints = await to_thread.run_sync(partial(self._store.fleet.hints, window, now_us))
            await self._queue.put(hints)
            await self._wanted.wait()

    async def _keep_time(self) -> None:
        """Shared time is the database's."""
        while True:
            offset_us = await to_thread.run_sync(self._store.fleet.offset_us, self._clock.now_us())
            self._clock.offset_us += offset_us
            await anyio.sleep(CLOCK_S)

    def _obey(self, number: int) -> None:
        """The first signal lets calls in flight end; the second ends at once."""
        if self._leaving.is_set():
            os._exit(128 + number)
        self._signal = number
        self._leaving.set()

    def _watch(self) -> None:
        """A process that hangs, on a half-open connection for instance, must not look alive: whoever supervises it
        starts another. Right after a long stop it gets one beat's time."""
        late = False
        wait = threading.Event()
        while not wait.wait(BEAT_S):
            silent_s = self._clock.monotonic() - self._beaten_s
            if silent_s > 2 * LEASE_S and late:
                log.critical("watchdog", extra={"silent_s": round(silent_s)})
                os._exit(StoreFault.exit_code)
            late = silent_s > 2 * LEASE_S
