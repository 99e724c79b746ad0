"""The one POST of a submission: how far it came, and what came back. Never repeated, never redirected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import httpx
from msgspec.structs import replace

from runner.api.batch_wire import batch_of_body
from runner.api.client import Client
from runner.api.error_body import api_error
from runner.api.exchange import Journey
from runner.api.replies import TooLong, lowered_headers, read_body
from runner.api.results_file import BodyFile
from runner.api.wire import UNREADABLE, UNSENT, origin_of, outcome_of_exception, outcome_of_reply
from runner.domain.outcome import Failure, FailureKind, Origin
from runner.domain.submission import CreateReply

PATH = "/v1/messages/batches"
# The type of the failure where the caller said at the last moment that it may not send.
WITHHELD = "withheld"

MaySend = Callable[[], Awaitable[bool]]


class Create:
    """One POST: how far it came, and what came back."""

    def __init__(
        self, client: Client, body: BodyFile, betas: tuple[str, ...], limit_s: float, may_send: MaySend | None
    ) -> None:
        self._client, self._body, self._betas = client, body, betas
        self._limit_s, self._may_send = limit_s, may_send
        self._journey = Journey(billable=False)
        self._withheld = False

    async def send(self) -> CreateReply:
        with anyio.move_on_after(self._limit_s):
            try:
                reply = await self._posted()
            except _Withheld:
                reply = self._not_sent()
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, TooLong, OSError) as error:
                reply = self._broken(error)
            return self._not_sent() if self._withheld else reply
        return self._timed_out()

    async def _posted(self) -> CreateReply:
        headers = {"content-length": str(self._body.size)}
        url = self._client.url(PATH)
        async with self._client.exchange(
            "POST", url, self._pieces(), self._betas, self._journey, headers
        ) as response:
            told = await read_body(response)
            return self._read(response.status_code, lowered_headers(response), told)

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._may_send is not None and not await self._may_send():
            self._withheld = True
            raise _Withheld
        async for piece in self._body.pieces():
            yield piece

    def _read(self, status: int, headers: dict[str, str], body: bytes) -> CreateReply:
        origin = origin_of(headers)
        batch = batch_of_body(body) if status == 200 else None
        if batch is not None:
            return CreateReply(status=status, batch=batch, origin=origin)
        told = api_error(body)
        outcome = outcome_of_reply(status, headers, body)
        failure = outcome if isinstance(outcome, Failure) else no_batch(status, origin)
        return CreateReply(
            status=status,
            failure=self._redacted(failure),
            error_type=told.error.type if told else None,
            shaped=told is not None,
            origin=failure.origin,
        )

    def _broken(self, error: Exception) -> CreateReply:
        unsent = isinstance(error, UNSENT) or self._journey.sent is False
        failure = self._redacted(outcome_of_exception(error))
        return CreateReply(failure=replace(failure, perhaps_billed=not unsent), nothing_sent=unsent)

    def _not_sent(self) -> CreateReply:
        failure = Failure(
            kind=FailureKind.UNREACHABLE, type=WITHHELD, message="not sent: too late, or no longer ours to send"
        )
        return CreateReply(failure=failure, nothing_sent=True)

    def _timed_out(self) -> CreateReply:
        unsent = self._withheld or self._journey.sent is False
        kind = FailureKind.UNREACHABLE if unsent else FailureKind.TRANSIENT
        message = f"no whole answer to the create within {self._limit_s:g} s"
        failure = Failure(kind=kind, type="timeout", message=message, perhaps_billed=not unsent)
        return CreateReply(failure=failure, nothing_sent=unsent)

    def _redacted(self, failure: Failure) -> Failure:
        told = self._client.redacted(failure)
        return told if isinstance(told, Failure) else failure


class _Withheld(Exception):
    """The caller may not send any more."""


def no_batch(status: int, origin: Origin) -> Failure:
    return Failure(
        kind=FailureKind.TRANSIENT,
        type=UNREADABLE,
        message=f"HTTP {status} with a body that is no batch",
        status=status,
        origin=origin,
    )
