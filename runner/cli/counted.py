"""The input of a job's first rows as the service counts it, beside our own estimate. Counting is free."""

from __future__ import annotations

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
from runner.domain.outcome import Failure
from runner.domain.request import MessagesRequest
from runner.settings import Settings
from runner.views.numbers import brief

# Of a Messages call; the counting call takes neither.
NOT_COUNTED = ("max_tokens", "stream")


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
    tokens = anyio.run(partial(_counted, requests, job, settings, clock))
    return Counted(rows=len(requests), input_tokens=tokens, bytes=sum(len(request.body) for request in requests))


async def _counted(requests: list[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> int:
    async with connection_for(job, settings, clock) as connection, Client(connection, clock=clock) as client:
        found = [await _count(client, request) for request in requests]
    for told in found:
        if isinstance(told, Failure):
            raise error_of(told, connection.credential, connection.base_url)
    return sum(told for told in found if isinstance(told, int))


async def _count(client: Client, request: MessagesRequest) -> int | Failure:
    body = msgspec.json.decode(request.body)
    kept = {name: value for name, value in body.items() if name not in NOT_COUNTED}
    return await client.count_tokens(msgspec.json.encode(kept), betas=request.betas)
