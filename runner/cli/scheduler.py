"""`scheduler`: looks at the schedules, and runs what is due in processes of its own.

A process a fire: its memory is given back, a crash of one is no crash of another, and each has the folder and the
settings of its job. Whether they live is this process's business; what became of them they write down themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import click
from anyio import to_thread
from anyio.abc import Process, TaskGroup

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import say
from runner.cli.notices import tell_of_left
from runner.cli.options import simulate_option
from runner.domain.schedule import SILENT_S
from runner.engine.interrupts import heard
from runner.engine.ticking import Start, Ticked, tick
from runner.store.store import Store

log = logging.getLogger(__name__)

# How often the schedules are looked at; what somebody asks for by hand waits as long.
LOOK_S = 5.0
# Several signs of life before others would take silence for an end.
BEAT_S = SILENT_S / 6


@command("scheduler", examples=("runner scheduler", "runner scheduler --simulate"))
@click.option("--detach", is_flag=True, help="Leave the work to the fleet's workers, and wait for them.")
@simulate_option
def scheduler(context: Context, detach: bool) -> int:
    """Run the jobs of all schedules at their times, until it is stopped.

    Several may run at the same time, on one machine or many: each fire runs once. SIGTERM lets what is in flight end
    and saves the rest; whoever looks next goes on with it.
    """
    with context.store() as store:
        say("the scheduler looks every 5 s; Ctrl-C stops it and saves what is at work.")
        return anyio.run(_Scheduler(context, store, detach=detach).serve)


def look_once(context: Context) -> int:
    """What `runner schedule tick` does; the first exit code that is not 0."""
    with context.store() as store:
        return anyio.run(_Scheduler(context, store).once)


Leaving = Callable[[], Awaitable[int]]


def beside_worker(context: Context, store: Store) -> Callable[[Leaving], Coroutine[Any, Any, None]]:
    """The scheduler as a part of a worker, which keeps the time and says when a signal has come."""
    return _Scheduler(context, store, detach=True, keeps_time=False).beside


class _Scheduler:
    def __init__(self, context: Context, store: Store, *, detach: bool = False, keeps_time: bool = True) -> None:
        self._detach = detach
        self._keeps_time = keeps_time
        self._context = context
        self._store = store
        self._environment = _environment(context)
        self._children: dict[tuple[int, int], Process | None] = {}
        self._signal: int | None = None
        self._stopped = anyio.Event()
        self._codes: list[int] = []

    async def serve(self) -> int:
        with heard(self._leave):
            await self._look_until_left(self._beat)
        return 128 + (self._signal or 0)

    async def beside(self, leaving: Leaving) -> None:
        async def heed() -> None:
            self._leave(await leaving())

        await self._look_until_left(self._beat, heed)

    async def _look_until_left(self, *helpers: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until a signal comes and the children, to which it is passed on, have ended."""
        async with anyio.create_task_group() as tasks:
            for helper in helpers:
                tasks.start_soon(helper)
            async with anyio.create_task_group() as children:
                while self._signal is None:
                    await self._look(children)
                    with anyio.move_on_after(LOOK_S):
                        await self._stopped.wait()
            tasks.cancel_scope.cancel()

    async def once(self) -> int:
        with heard(self._leave):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat)
                async with anyio.create_task_group() as children:
                    await self._look(children)
                tasks.cancel_scope.cancel()
        if self._signal is not None:
            return 128 + self._signal
        return next((code for code in self._codes if code), 0)

    async def _look(self, children: TaskGroup) -> None:
        ticked = await to_thread.run_sync(self._ticked)
        if ticked.left:
            await to_thread.run_sync(tell_of_left, self._context, ticked.left)
        for start in ticked.starts:
            self._children[start.schedule.id, start.fire_us] = None
            children.start_soon(self._run, start)

    def _ticked(self) -> Ticked:
        """By the database's time, also after this machine's clock was set."""
        clock = self._context.clock
        if self._keeps_time and not self._store.database.is_sqlite:
            clock.offset_us += self._store.fleet.offset_us(clock.now_us())
        return tick(self._store, clock.now_us())

    async def _run(self, start: Start) -> None:
        name, key = start.schedule.name, (start.schedule.id, start.fire_us)
        words = [sys.executable, "-m", "runner", "schedule", "work", name, str(start.fire_us), "-q"]
        folder = start.schedule.job.folder
        log.info("fire_started", extra={"schedule": name, "fire_us": start.fire_us})
        try:
            process = await anyio.open_process(
                [*words, *self._flags()],
                cwd=folder if await anyio.Path(folder).is_dir() else None,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                # A Ctrl-C of the terminal is ours to pass on, once.
                start_new_session=True,
            )
            self._children[key] = process
            if self._signal is not None:
                self._pass_on(process)
            code = await process.wait()
        finally:
            left = self._children.pop(key, None)
            if left is not None and left.returncode is None:  # this process gives up: so does what it has started
                self._pass_on(left)
        self._codes.append(code)
        log.info("fire_ended", extra={"schedule": name, "fire_us": start.fire_us, "exit": code})

    def _flags(self) -> list[str]:
        told = {"--simulate": self._context.simulate, "--detach": self._detach}
        return [flag for flag, wanted in told.items() if wanted]

    async def _beat(self) -> None:
        while True:
            by_schedule: dict[int, list[int]] = {}
            for schedule, fire_us in self._children:
                by_schedule.setdefault(schedule, []).append(fire_us)
            for schedule, fires in by_schedule.items():
                beat = partial(self._store.schedules.beat, schedule, fires, self._context.clock.now_us())
                await to_thread.run_sync(beat)
            await anyio.sleep(BEAT_S)

    def _leave(self, number: int) -> None:
        self._signal = number
        self._stopped.set()
        for process in self._children.values():
            if process is not None:
                self._pass_on(process)

    def _pass_on(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.Signals(self._signal or signal.SIGTERM))


def _environment(context: Context) -> Mapping[str, str]:
    """That of this process, with the same store whatever the folder's own settings say."""
    told = {"RUNNER_DATABASE_URL": context.settings.database_url, "RUNNER_HOME": str(context.settings.home)}
    return {**os.environ, **told}
