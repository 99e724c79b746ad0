"""The input of a job's first rows as the service counts it, beside our own estimate. Counting is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import msgspec

from runner.api.client import Client
from runner.api.refusals import error_of
from runner.cli.sending import connection_for
from runner.clock import Clock
from runner.domain.estimates import BYTES_PER_TOKEN
from runner.domain.job import Job
from runner.domain.outcome import Failure, FailureKind
from runner.domain.request import MessagesRequest
from runner.settings import Settings
from runner.views.numbers import brief

# Of a Messages call; the counting call takes none of them.
NOT_COUNTED = frozenset(
    {
        "max_tokens",
        "stream",
        "metadata",
        "stop_sequences",
        "service_tier",
        "inference_geo",
        "container",
        "temperature",
        "top_p",
        "top_k",
    }
)
COUNTS_AT_ONCE = 8
PATIENCE = 10


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Of so many rows together: input tokens by the service's count, and their bytes."""

    rows: int
    input_tokens: int
    bytes: int

    @property
    def estimate_error(self) -> float:
        """How far our estimate of a job that has no answers yet is off, as a share."""
        return self.bytes / BYTES_PER_TOKEN / max(self.input_tokens, 1) - 1

    def words(self, rows: int) -> str:
        """For a job of so many rows."""
        mean = self.input_tokens / max(self.rows, 1)
        return (
            f"{brief(mean)} tokens each, about {brief(mean * rows)} in all (the service's count of the first "
            f"{self.rows})\nthe local estimate is {self.estimate_error:+.0%} off; a run corrects its own as it goes"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "input_tokens": self.input_tokens,
            "bytes": self.bytes,
            "estimate_error": round(self.estimate_error, 4),
        }


def counted(requests: list[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> Counted:
    """Asks the service, or the simulator where the job is simulated. Raises the error that people should see."""
    tokens = sum(counted_each(requests, job, settings, clock))
    return Counted(rows=len(requests), input_tokens=tokens, bytes=sum(len(request.body) for request in requests))


def counted_each(requests: Sequence[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> list[int]:
    """The same, request by request."""
    return anyio.run(partial(_counted, requests, job, settings, clock))


async def _counted(requests: Sequence[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> list[int]:
    found: dict[int, int | Failure] = {}
    left = iter(enumerate(requests))

    async def some(client: Client) -> None:
        for number, request in left:
            found[number] = await _count(client, request, clock)
            if isinstance(found[number], Failure):
                return

    async with (
        connection_for(job, settings, clock) as connection,
        Client(connection, clock=clock) as client,
        anyio.create_task_group() as counting,
    ):
        for _ in range(COUNTS_AT_ONCE):
            counting.start_soon(some, client)
    for told in found.values():
        if isinstance(told, Failure):
            raise error_of(told, connection.credential, connection.base_url)
    return [told for _, told in sorted(found.items()) if isinstance(told, int)]


async def _count(client: Client, request: MessagesRequest, clock: Clock) -> int | Failure:
    """Counting has a limit of requests a minute of its own; what it refuses is asked again when it says so."""
    body = msgspec.json.decode(request.body)
    kept = msgspec.json.encode({name: value for name, value in body.items() if name not in NOT_COUNTED})
    told = await client.count_tokens(kept, betas=request.betas)
    for _ in range(PATIENCE):
        if not isinstance(told, Failure) or told.kind is not FailureKind.RATE_LIMITED:
            break
        await clock.sleep(told.retry_after_s or 1.0)
        told = await client.count_tokens(kept, betas=request.betas)
    return told
