"""`worker`, `workers`, `attach`: many processes on many machines, one store."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from runner import __version__
from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.heap import prepare_heap
from runner.cli.launch import Launch, settled, staged_launch, timing_of
from runner.cli.messages import say
from runner.cli.metrics import saw
from runner.cli.notices import tell_of_run
from runner.cli.options import json_option, output_option, plain_option
from runner.cli.outcome import conclude
from runner.cli.sending import Sending, parts_for
from runner.cli.tracing import both, traced
from runner.clock import SystemClock
from runner.domain.pace import Pace
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.seen import Saw
from runner.domain.states import FINISHED_RUN, RunState
from runner.engine.parts import Parts, RunEnd
from runner.engine.stop import Pause
from runner.errors import UsageInvalid
from runner.store.database import prepare_threshold
from runner.store.fleet import Worker, check_queue
from runner.store.store import Store
from runner.views.fleet_tables import attach_line, worker_json, workers_table

if TYPE_CHECKING:  # the queue's library is an extra
    from runner.engine.fleet import FleetMember, FleetParts

DEFAULT_SLOTS = 256
LOOK_S = 1.0
TELL_S = 10.0


@command("worker", examples=("runner worker", "runner worker --slots 512 --health 8080"))
@click.option(
    "--slots",
    type=click.IntRange(1, 4_096),
    default=DEFAULT_SLOTS,
    show_default=True,
    metavar="N",
    help="At most this many calls at once in this process, of all runs together.",
)
@click.option("--health", type=click.IntRange(0, 65_535), metavar="PORT", help="Serve /healthz and /metrics there.")
@click.option("--schedules/--no-schedules", default=True, show_default=True, help="Look at the schedules too.")
@click.option("--name", metavar="TEXT", help="What it is called; without it host, process and chance.")
def worker(context: Context, slots: int, health: int | None, schedules: bool, name: str | None) -> int:
    """Work on the runs of the fleet, until it is stopped. Needs PostgreSQL and the extra `fleet`.

    SIGTERM: nothing new is taken, calls in flight end, what is left goes to the others; exit 143. A worker that is
    killed is missed within a minute: its rows go on elsewhere, only its calls in flight may be paid twice.
    """
    from runner.engine.fleet import FleetParts

    prepare_heap()
    with context.store(simulated=False) as store, traced() as spans:
        check_queue(store.database)
        clock = context.clock
        now_us = clock.now_us()
        me = Worker(
            name=name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=slots,
            version=__version__,
            state="idle",
            since_us=now_us,
            beat_us=now_us,
        )
        sending = partial(_sending, context, store, clock, both(saw, spans))
        beside, heeding = [], []
        if schedules:
            from runner.cli.scheduler import beside_worker

            heeding.append(beside_worker(context, store))
        told: dict[str, FleetMember] = {}
        if health is not None:
            from runner.cli.health import served

            beside.append(partial(served, health, lambda: told["member"], lambda: store.fleet.seen(clock.now_us())))
        parts = FleetParts(
            store=store,
            clock=clock,
            conninfo=store.database.conninfo,
            connect=prepare_threshold(store.database.url),
            worker=me,
            parts_of=partial(_parts_of, sending, slots),
            on_end=lambda end: tell_of_run(context, store, end.run),
            beside=tuple(beside),
            heeding=tuple(heeding),
            later_s=timing_of(context.settings).poll_s,
        )
        say(f"worker {me.name}: {slots} slots. SIGTERM lets calls in flight end and gives the rest to the others.")
        return 128 + anyio.run(_serve, parts, told, backend_options={"use_uvloop": True})


async def _serve(parts: FleetParts, told: dict[str, FleetMember]) -> int:
    from runner.engine.fleet import FleetMember

    member = told["member"] = FleetMember(parts)
    return await member.serve()


def _sending(context: Context, store: Store, clock: SystemClock, heard: Saw | None) -> Sending:
    return Sending(
        settings=context.settings,
        store=store,
        prices=shipped_prices(),
        clock=clock,
        on_progress=None,
        waits=False,
        fetches=False,
        saw=heard,
    )


@asynccontextmanager
async def _parts_of(sending: partial[Sending], slots: int, run: Run) -> AsyncIterator[Parts]:
    """Of one run: its own limits are kept, and those of this machine's settings too."""
    told = sending()
    job = settled(run.job, told.settings, simulated=run.job.simulated)
    launched: Launch = staged_launch(run, job)
    async with parts_for(launched, told, Pace(min(slots, job.limits.concurrency))) as parts:
        yield parts


@command("workers", examples=("runner workers", "runner workers --json"))
@json_option
@plain_option
def workers(context: Context) -> None:
    """Who works in the fleet: what they hold, since when, when they last gave a sign of life."""
    with context.store(simulated=False) as store:
        if store.database.is_sqlite:
            raise UsageInvalid("a fleet needs PostgreSQL, and this store is a SQLite file.", name="fleet-database")
        found = store.fleet.workers()
        now_us = context.clock.now_us()
        if context.json:
            context.print_json({"workers": [worker_json(one, now_us) for one in found]})
            return
        if not found:
            context.note("nobody works in the fleet.   runner worker   starts one")
            return
        console = context.stdout_console()
        for line in workers_table(found, now_us, console.width if console.is_terminal else None, plain=context.plain):
            click.echo(line)


@command("attach", examples=("runner attach latest", "runner attach r_7f3k2m -o answers.jsonl"))
@click.argument("label", metavar="RUN")
@output_option
@json_option
def attach(context: Context, label: str, output_path: str | None) -> int:
    """Watch a run that others work on, until it ends; then write its output here. Ctrl-C leaves it to the others."""
    with context.found_run(label) as (store, run):
        return attached(context, store, run, output_path or run.output)


def attached(context: Context, store: Store, run: Run, output: str | None) -> int:
    """Wait for the end of a run; its exit code."""
    began_s = told_s = time.monotonic()
    now = run
    with contextlib.suppress(KeyboardInterrupt):
        while now.state in (RunState.RUNNING, RunState.CANCELING) or _is_passing(now):
            if not context.quiet and time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                say(attach_line(now, store.tally(now.id), store.money(now.id)))
            time.sleep(LOOK_S)
            now = store.run_by_id(now.id)
        pause = None
        if now.state not in FINISHED_RUN and now.pause_reason is not None:
            pause = Pause(reason=now.pause_reason, message=now.pause_message or str(now.pause_reason))
        end = RunEnd(run=now, tally=store.tally(now.id), pause=pause)
        return conclude(context, store, end, output, elapsed_s=time.monotonic() - began_s)
    say(f"run {now.label} goes on without this command.   runner attach {now.label}")
    return 130


def _is_passing(run: Run) -> bool:
    """Waiting for its batches, which the fleet looks after."""
    return run.detached and run.state is RunState.PAUSED and run.pause_reason in ("submitted", "unknown_batch")
