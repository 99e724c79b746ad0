"""From a launched run to its end: the service it talks to, real or simulated, and the engine that works on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from runner.api.batches import Batches
from runner.api.client import Client, Connection
from runner.api.credentials import Credential, find_credential
from runner.cli.heap import share_one_heap
from runner.cli.launch import Launch, timing_of
from runner.clock import Clock
from runner.domain.job import Job
from runner.domain.pricing import PriceBook
from runner.domain.progress import Progress
from runner.engine.batch.events import Tell, silence
from runner.engine.run import Batching, Parts, RunEnd, work_on
from runner.settings import Settings
from runner.store.store import Store

# The pace of simulated answers: quick, but slow enough to watch.
SIMULATED_LATENCY_S = 0.2
SIMULATED_JITTER_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Sending:
    """What `send` needs beside the run."""

    settings: Settings
    store: Store
    prices: PriceBook
    clock: Clock
    on_progress: Callable[[Progress], None] | None
    retry: bool = False
    waits: bool = True
    on_batch: Tell = silence


def check_credential(job: Job, settings: Settings) -> None:
    """Raises CredentialsRefused before any work is done, where there is no key to send with."""
    if not job.simulated:
        find_credential(settings.service)


def send(launched: Launch, sending: Sending) -> RunEnd:
    """Work on the run until its rows have ended or it pauses. Blocks."""
    share_one_heap()
    return anyio.run(_send, launched, sending, backend_options={"use_uvloop": True})


async def _send(launched: Launch, sending: Sending) -> RunEnd:
    job = launched.run.job
    async with _connection(job, sending) as connection, Client(connection, clock=sending.clock) as client:
        parts = Parts(
            store=sending.store,
            source=launched.source,
            report=launched.report,
            service=client,
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
            ),
        )
        return await work_on(launched.run, parts)


def spool_of(settings: Settings) -> Path:
    """Where bodies and results of batches lie while they are needed."""
    return settings.home / "spool"


@asynccontextmanager
async def _connection(job: Job, sending: Sending) -> AsyncIterator[Connection]:
    if not job.simulated:
        yield connected(job, sending.settings, job.base_url, find_credential(sending.settings.service))
        return
    from runner.simulator.config import SimulatorConfig
    from runner.simulator.server import serve
    from runner.simulator.simulator import Simulator

    config = SimulatorConfig(latency_s=SIMULATED_LATENCY_S, latency_jitter_s=SIMULATED_JITTER_S, keep_ledger="totals")
    server = await serve(Simulator(config, sending.clock))
    try:
        key = Credential(kind="api_key", secret="simulated", source="the simulator")  # noqa: S106 - opens nothing
        yield connected(job, sending.settings, server.url, key)
    finally:
        await server.close()


def connected(job: Job, settings: Settings, base_url: str, credential: Credential) -> Connection:
    """The service as this job asks it."""
    return Connection(
        credential=credential,
        base_url=base_url,
        api_version=job.api_version,
        betas=job.betas,
        headers={**settings.service.custom_headers, **job.headers},
        concurrency=job.limits.concurrency,
        row_timeout_s=job.limits.row_timeout_s,
        read_timeout_s=job.limits.row_timeout_s,
    )
