"""From a launched run to its end: the service it talks to, real or simulated, and the engine that works on it."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from msgspec import Struct

from runner.api.batches import Batches
from runner.api.client import Client, Connection
from runner.api.credentials import Credential, find_credential
from runner.api.files import Files
from runner.cli.headers import all_headers
from runner.cli.heap import prepare_heap
from runner.cli.keys import obey_keys, single_keys
from runner.cli.launch import Launch, own_limits_from, timing_of
from runner.cli.limits import known_limits
from runner.cli.messages import say, warning
from runner.clock import Clock
from runner.domain.job import FilesStay, Job
from runner.domain.pace import MOST_CALLS, Pace
from runner.domain.pricing import PriceBook
from runner.domain.progress import Progress
from runner.domain.run import Run
from runner.domain.seen import Saw
from runner.domain.states import FINISHED_RUN
from runner.engine.batch.events import Tell, silence
from runner.engine.file_desk import CallsWithFiles, FileDesk
from runner.engine.interrupts import Interrupts, heard
from runner.engine.parts import Batching, Parts, RunEnd
from runner.engine.run import work_on
from runner.engine.written_files import fetch_written
from runner.errors import Interrupted
from runner.files.output_folders import OutputFolders
from runner.settings import Settings
from runner.store.store import Store

# The pace of simulated answers: quick, but slow enough to watch.
SIMULATED_LATENCY_S = 0.2
SIMULATED_JITTER_S = 0.1
# Files that could not be fetched are told one by one up to here.
SHOWN_FAILURES = 5


class Sending(Struct, frozen=True, kw_only=True):
    """What `send` needs beside the run."""

    settings: Settings
    store: Store
    prices: PriceBook
    clock: Clock
    on_progress: Callable[[Progress], None] | None
    retry: bool = False
    keys: bool = False  # whether + and - on the terminal change the pace
    waits: bool = True
    only: frozenset[int] | None = None
    on_batch: Tell = silence
    saw: Saw | None = None
    fetches: bool = True  # whether files that were written for rows are fetched when the run has ended


def check_credential(job: Job, settings: Settings) -> None:
    """Raises CredentialsRefused before any work is done, where there is no key to send with."""
    if not job.simulated:
        find_credential(settings.service)


def send(launched: Launch, sending: Sending) -> RunEnd:
    """Work on the run until its rows have ended or it pauses. Blocks."""
    prepare_heap()
    return anyio.run(_send, launched, sending, backend_options={"use_uvloop": True})


async def _send(launched: Launch, sending: Sending) -> RunEnd:
    pace = Pace(launched.job.limits.concurrency)
    interrupted: list[int] = []
    with anyio.CancelScope() as scope:

        def end_at_once(number: int) -> None:
            interrupted.append(number)
            scope.cancel()

        interrupts = Interrupts(end_at_once)
        with heard(interrupts.obey), single_keys(sys.stdin.fileno()) if sending.keys else nullcontext():
            async with parts_for(launched, sending, pace, interrupts) as parts:
                return await work_on(launched.run, parts)
    name = signal.Signals(interrupted[0]).name
    raise Interrupted(
        f"stopped by {name} while nothing was under way; the same command goes on.", signal_number=interrupted[0]
    )


@asynccontextmanager
async def parts_for(
    launched: Launch, sending: Sending, pace: Pace, signals: Interrupts | None = None
) -> AsyncIterator[Parts]:
    """What a run is worked with, its connection open."""
    job = launched.run.job
    known = await known_limits(job, sending.settings, sending.prices, sending.clock)
    connecting = connection_for(job, sending.settings, sending.clock)
    async with connecting as connection, Client(connection, clock=sending.clock) as client:
        desk = FileDesk(
            Files(client), sending.store, sending.clock, connection.credential.fingerprint, launched.run.id
        )
        yield Parts(
            store=sending.store,
            source=launched.source,
            report=launched.report,
            service=CallsWithFiles(client, desk),
            renderer=launched.renderer,
            prices=sending.prices,
            clock=sending.clock,
            on_progress=sending.on_progress,
            job=launched.job,
            retry=sending.retry,
            batches=Batching(
                service=Batches(client),
                timing=timing_of(sending.settings),
                spool=spool_of(sending.settings),
                fingerprint=connection.credential.fingerprint,
                waits=sending.waits,
                tell=sending.on_batch,
                files=desk,
            ),
            known=known,
            own_from=own_limits_from(launched.job, sending.settings),
            pace=pace,
            only=sending.only,
            beside=(partial(obey_keys, sys.stdin.fileno(), pace),) if sending.keys else (),
            signals=signals,
            saw=sending.saw,
        )
        await _tidy(launched.job, desk, Files(client), sending, launched.run.id)


async def _tidy(job: Job, desk: FileDesk, files: Files, sending: Sending, run_id: int) -> None:
    """When a run has ended: what was written for its rows comes here, what was uploaded for them goes."""
    run = await to_thread.run_sync(sending.store.run_by_id, run_id)
    if run.state not in FINISHED_RUN:
        return
    if job.output.files is not None and sending.fetches:
        await _fetch_files(job.output.files, run, files, sending.store)
    if job.files.delete_after is FilesStay.RUN:
        for failure in await desk.delete_those_of_the_run():
            warning("file-stays", f"a file of this run could not be deleted: {failure.message}.")


async def _fetch_files(folder: str, run: Run, files: Files, store: Store) -> None:
    folders = OutputFolders(folder, run.job, run.label)
    left = [told async for told in fetch_written(files, store.exported(run), folders.folder) if told.failure]
    for one in left[:SHOWN_FAILURES]:
        why = one.failure.message if one.failure else ""
        warning("file-not-fetched", f"{one.file_id} could not be fetched: {why}.")
    if left:
        say(f"{len(left):,} files are not here.   runner files download --run {run.label}   fetches what is missing")


def spool_of(settings: Settings) -> Path:
    """Where bodies and results of batches lie while they are needed."""
    return settings.home / "spool"


@asynccontextmanager
async def connection_for(job: Job, settings: Settings, clock: Clock) -> AsyncIterator[Connection]:
    """To the real service, or to a simulator of its own."""
    if not job.simulated:
        yield connected(job, settings, job.base_url, find_credential(settings.service))
        return
    from runner.simulator.config import SimulatorConfig
    from runner.simulator.server import serve
    from runner.simulator.simulator import Simulator

    config = SimulatorConfig(latency_s=SIMULATED_LATENCY_S, latency_jitter_s=SIMULATED_JITTER_S, keep_ledger="totals")
    server = await serve(Simulator(config, clock))
    try:
        key = Credential(kind="api_key", secret="simulated", source="the simulator")  # noqa: S106 - opens nothing
        yield connected(job, settings, server.url, key)
    finally:
        await server.close()


def connected(job: Job, settings: Settings, base_url: str, credential: Credential) -> Connection:
    """The service as this job asks it."""
    return Connection(
        credential=credential,
        base_url=base_url,
        api_version=job.api_version,
        betas=job.betas,
        headers=all_headers(job, settings),
        concurrency=MOST_CALLS,
        row_timeout_s=job.limits.row_timeout_s,
        read_timeout_s=job.limits.row_timeout_s,
    )
