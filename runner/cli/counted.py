"""The input of a job's first rows as the service counts it, beside our own estimate. Counting is free."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from runner.api.client import Client
from runner.api.refusals import error_of
from runner.cli.sending import connection_for
from runner.clock import Clock
from runner.domain.attachment import MARKED
from runner.domain.estimates import BYTES_PER_TOKEN
from runner.domain.job import Job
from runner.domain.outcome import Failure, FailureKind
from runner.domain.request import MessagesRequest
from runner.settings import Settings
from runner.views.numbers import brief

# What the counting call takes of a Messages call.
COUNTED = frozenset(
    {
        "cache_control",
        "compaction",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "output_format",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
# Counting has limits of its own, of 2,000 calls a minute and more; we stay below the smallest.
CALLS_AT_ONCE = 8
MOST_CALLS_A_SECOND = 30.0
TRIES = 6
SLOWEST_RETRY_S = 30.0
PASSING = frozenset(
    {FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.TRANSIENT, FailureKind.UNREACHABLE}
)


class Counted(Struct, frozen=True, kw_only=True):
    """Of so many rows together: input tokens by the service's count, and their bytes."""

    rows: int
    input_tokens: int
    bytes: int
    each: tuple[int, ...] = ()

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
    each = counted_each(requests, job, settings, clock)
    size = sum(len(request.body) for request in requests)
    return Counted(rows=len(requests), input_tokens=sum(each), bytes=size, each=tuple(each))


def counted_each(requests: Sequence[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> list[int]:
    """The same, request by request."""
    return anyio.run(partial(_counted, requests, job, settings, clock))


async def _counted(requests: Sequence[MessagesRequest], job: Job, settings: Settings, clock: Clock) -> list[int]:
    found: list[int | Failure] = [0] * len(requests)
    started_s = clock.monotonic()
    waiting = iter(enumerate(requests))
    async with connection_for(job, settings, clock) as connection, Client(connection, clock=clock) as client:

        async def counter() -> None:
            for number, request in waiting:
                await clock.sleep(max(0.0, started_s + number / MOST_CALLS_A_SECOND - clock.monotonic()))
                found[number] = await _patiently(client, request, clock)

        async with anyio.create_task_group() as counters:
            for _ in range(min(CALLS_AT_ONCE, len(requests))):
                counters.start_soon(counter)
        for told in found:
            if isinstance(told, Failure):
                raise error_of(told, connection.credential, connection.base_url)
    return [told for told in found if isinstance(told, int)]


async def _patiently(client: Client, request: MessagesRequest, clock: Clock) -> int | Failure:
    """Counting is free: asked again while that may help, as late as the service says."""
    number = 0
    while True:
        told = await _count(client, request)
        number += 1
        if not isinstance(told, Failure) or told.kind not in PASSING or number == TRIES:
            return told
        await clock.sleep(told.retry_after_s or min(SLOWEST_RETRY_S, 2.0**number))


async def _count(client: Client, request: MessagesRequest) -> int | Failure:
    body = msgspec.json.decode(request.body)
    kept = {name: value for name, value in body.items() if name in COUNTED}
    if request.attachments:
        kept["messages"] = [_without_marks(turn) for turn in kept["messages"]]
    return await client.count_tokens(msgspec.json.encode(kept), betas=request.betas)


def _without_marks(turn: dict[str, Any]) -> dict[str, Any]:
    """Files that were not uploaded yet cannot be counted."""
    if not isinstance(turn["content"], list):
        return turn
    return {**turn, "content": [block for block in turn["content"] if not MARKED.search(msgspec.json.encode(block))]}
