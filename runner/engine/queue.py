"""The fleet's queue: procrastinate on the store's own PostgreSQL. Hints come in and go out; it decides nothing.

It neither fences nor recovers by itself: a chunk's epoch does the one, the sweep in `engine/fleet` the other.
Emptying its tables in the middle of a run delays the run by one sweep.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued, ProcrastinateException
from procrastinate.jobs import Status
from procrastinate.worker import Worker

from runner.errors import StoreFault
from runner.store.fleet import Hint
from runner.store.fleet_queries import CHUNK_TASK, RUN_TASK
from runner.store.lease import LEASE_US
from runner.store.queue_connector import AGAIN_S, connector_to

LEASE_S = LEASE_US / 1e6
QUEUE = "runner"
# A run that waits for its batches is looked at again after this.
LATER_S = 60
# Without a notification a worker looks by itself; PgBouncer lets none through.
POLL_S = 5.0

# Of one priority there are so many places.
PLACES = 10_000

log = logging.getLogger(__name__)
# Each job is a line at INFO to procrastinate, and each lost connection one at WARNING to its driver: what matters
# of them is logged here.
logging.getLogger("procrastinate").setLevel(logging.WARNING)
logging.getLogger("psycopg").setLevel(logging.ERROR)


class Queue:
    """Puts hints in and hands them out to `on_chunk(run, seq)` and `on_run(run)`, at most `jobs` at once.

    These only wait for work that is done elsewhere: when the queue begins anew they are cancelled, and the work goes
    on. Raises StoreFault when the database is away for too long.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        connect: Mapping[str, Any],
        jobs: int,
        on_chunk: Callable[[int, int], Awaitable[None]],
        on_run: Callable[[int], Awaitable[None]],
        later_s: float = LATER_S,
    ) -> None:
        self._app = App(connector=connector_to(conninfo, connect))
        self._later_s = later_s
        self._stopped = False
        # Plain names: what a job says must be read by any release.
        self._app.task(name=CHUNK_TASK, queue=QUEUE)(on_chunk)
        self._app.task(name=RUN_TASK, queue=QUEUE)(on_run)
        self._worker = Worker(
            self._app,
            queues=[QUEUE],
            concurrency=jobs,
            fetch_job_polling_interval=POLL_S,
            install_signal_handlers=False,
            delete_jobs="always",
            shutdown_graceful_timeout=0,
            update_heartbeat_interval=LEASE_S / 3,
            stalled_worker_timeout=LEASE_S,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        with _mapped():
            await self._app.open_async()
        try:
            yield
        finally:
            await self._app.close_async()

    async def serve(self) -> None:
        """Hand jobs out until `stop`; then what is at work may end.

        The queue's own rows may be gone or its connection lost: it begins anew, and what it had handed out is put in
        again by a sweep, unless the work on it goes on.
        """
        while not self._stopped:
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]
            except ProcrastinateException as problem:
                log.warning("queue_lost", extra={"reason": type(problem.__cause__ or problem).__name__})
            if not self._stopped:
                await anyio.sleep(AGAIN_S)

    def stop(self) -> None:
        self._stopped = True
        self._worker.shutdown_graceful_timeout = None
        self._worker.stop()  # type: ignore[no-untyped-call]

    async def put(self, hints: Sequence[Hint]) -> None:
        """Those that are in the queue already are passed over."""
        for hint in hints:
            if hint.seq is None:
                name, lock, told = RUN_TASK, f"run:{hint.run}", {"run": hint.run}
            else:
                name, lock = CHUNK_TASK, f"chunk:{hint.run}.{hint.seq}"
                told = {"run": hint.run, "seq": hint.seq}
            later = {"schedule_in": {"seconds": round(self._later_s)}} if hint.later else {}
            job = self._app.configure_task(
                name,
                queue=QUEUE,
                queueing_lock=lock,
                priority=hint.priority * PLACES - min(hint.place, PLACES - 1),
                **later,  # type: ignore[arg-type]
            )
            with _mapped(), suppress(AlreadyEnqueued):
                await job.defer_async(**told)

    async def forget_stalled(self) -> int:
        """Take out the jobs of workers that are gone; what they were about is put in again from the truth."""
        manager = self._app.job_manager
        with _mapped():
            await manager.prune_stalled_workers(LEASE_S)
            stalled = list(await manager.get_stalled_jobs(seconds_since_heartbeat=LEASE_S))
            for job in stalled:
                await manager.finish_job(job, status=Status.FAILED, delete_job=True)
        return len(stalled)


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except AlreadyEnqueued:
        raise
    except ProcrastinateException as problem:
        reason = type(problem.__cause__ or problem).__name__
        raise StoreFault(f"the queue's database failed: {reason}.", name="database") from None
