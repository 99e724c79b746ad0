"""The calls of the batch endpoints, over the client. Each is one exchange; none is repeated here.

Every address is made from the configured origin and the batch's id: `results_url` is never read.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import httpx
import msgspec
from msgspec import Struct

from runner.api.batch_create import PATH, Create, MaySend, no_batch
from runner.api.batch_wire import batch_of_body, is_batch_id, page_of_body
from runner.api.client import Client, Reply
from runner.api.exchange import Journey
from runner.api.replies import TooLong, lowered_headers, read_body
from runner.api.results_file import MAX_LINE_BYTES, BodyFile, ResultLines, Spool, result_lines
from runner.api.wire import CUT, origin_of, outcome_of_exception, outcome_of_reply
from runner.domain.batch import BatchStatus
from runner.domain.outcome import Failure, FailureKind, Origin
from runner.domain.submission import CreateReply
from runner.errors import UsageInvalid

LIST_PAGE = 1000
# 200 MB of results on a line of one Mbit/s take half an hour.
RESULTS_LIMIT_S = 7200.0
JSON_LINES = {"accept": "application/binary"}


class Page(Struct, frozen=True, kw_only=True):
    """A page of the list, newest first, and who answered. `next_after` is None at the end of the list."""

    batches: tuple[BatchStatus, ...]
    next_after: str | None
    origin: Origin


class ResultsSpool(Struct, frozen=True, kw_only=True):
    """A whole download on the disk. Without `ends_with_newline` it may be cut, where the server gave no length."""

    path: Path
    size: int
    ends_with_newline: bool
    origin: Origin


class Batches:
    """`batches = Batches(client)`; a Failure is an answer like any other, only the disk's faults are raised."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(
        self,
        path: Path,
        size: int,
        betas: tuple[str, ...] = (),
        *,
        limit_s: float,
        may_send: MaySend | None = None,
    ) -> CreateReply:
        """The one POST of a submission, with the file at `path` as its body.

        `may_send` is asked after the connection stands and before the first byte of the body; without a body the
        service makes no batch, so a No there means that nothing was sent. Raises StoreFault, before anything
        leaves, for a file that is not there or not of that size.
        """
        body = await BodyFile.open(path, size)
        try:
            return await Create(self._client, body, betas, limit_s, may_send).send()
        finally:
            body.close()

    async def retrieve(self, batch_id: str) -> BatchStatus | Failure:
        return self._status(await self._client.small_call("GET", self._url(batch_id)))

    async def cancel(self, batch_id: str) -> BatchStatus | Failure:
        """Ask for an early end. Finished rows stay; the batch ends some time later."""
        return self._status(await self._client.small_call("POST", self._url(batch_id, "/cancel")))

    async def delete(self, batch_id: str) -> Failure | None:
        """None: it is deleted, with its results."""
        reply = await self._client.small_call("DELETE", self._url(batch_id))
        return reply if isinstance(reply, Failure) else None

    async def list_page(self, after_id: str | None = None, limit: int = LIST_PAGE) -> Page | Failure:
        after = "" if after_id is None else f"&after_id={_checked(after_id)}"
        reply = await self._client.small_call("GET", self._client.url(f"{PATH}?limit={limit}{after}"))
        if isinstance(reply, Failure):
            return reply
        found = page_of_body(reply.body)
        if found is None:
            return _unreadable(reply)
        return Page(batches=found.batches, next_after=found.last_id, origin=origin_of(reply.headers))

    async def results(self, batch_id: str, to: Path, *, limit_s: float = RESULTS_LIMIT_S) -> ResultsSpool | Failure:
        """Download the results as they are. `to` exists only if all of them came. Raises StoreFault."""
        with anyio.move_on_after(limit_s):
            try:
                async with self._results(batch_id) as response:
                    if response.status_code != 200:
                        return await self._refusal(response)
                    return await _spooled(response, to)
            except (httpx.HTTPError, httpx.StreamError, TooLong) as error:
                return self._cut(error)
        return _timed_out(limit_s)

    async def first_line(self, batch_id: str) -> bytes | Failure | None:
        """The first line of the results, None where there is none; the rest is not downloaded."""
        limit_s = self._client.connection.row_timeout_s
        with anyio.move_on_after(limit_s):
            try:
                async with self._results(batch_id) as response:
                    if response.status_code != 200:
                        return await self._refusal(response)
                    return await _first_line(response)
            except (httpx.HTTPError, httpx.StreamError, TooLong) as error:
                return self._cut(error)
        return _timed_out(limit_s)

    # --- details

    def _url(self, batch_id: str, action: str = "") -> httpx.URL:
        return self._client.url(f"{PATH}/{_checked(batch_id)}{action}")

    def _results(self, batch_id: str) -> AbstractAsyncContextManager[httpx.Response]:
        journey = Journey(billable=False)
        return self._client.exchange("GET", self._url(batch_id, "/results"), None, (), journey, JSON_LINES)

    def _status(self, reply: Reply | Failure) -> BatchStatus | Failure:
        if isinstance(reply, Failure):
            return reply
        return batch_of_body(reply.body) or _unreadable(reply)

    async def _refusal(self, response: httpx.Response) -> Failure:
        outcome = outcome_of_reply(response.status_code, lowered_headers(response), await read_body(response))
        return self._client.unbilled(outcome)

    def _cut(self, error: Exception) -> Failure:
        return self._client.unbilled(outcome_of_exception(error))


async def _spooled(response: httpx.Response, to: Path) -> ResultsSpool:
    async with Spool(to) as spool:
        async for piece in response.aiter_bytes():
            await spool.write(piece)
        await spool.finish()
    return ResultsSpool(
        path=to,
        size=spool.size,
        ends_with_newline=spool.last_byte == b"\n",
        origin=origin_of(lowered_headers(response)),
    )


async def _first_line(response: httpx.Response) -> bytes | Failure | None:
    held = bytearray()
    async for piece in response.aiter_bytes():
        start = len(held)
        held += piece
        while (end := held.find(b"\n", start)) >= 0:
            line = bytes(held[:end]).strip(b"\r \t")
            if line:
                return line
            del held[: end + 1]
            start = 0
        if len(held) > MAX_LINE_BYTES:
            raise TooLong(f"a line of results with more than {MAX_LINE_BYTES} bytes")
    line = bytes(held).strip(b"\r \t")
    if line and not _is_json(line):
        origin = origin_of(lowered_headers(response))
        return Failure(kind=FailureKind.TRANSIENT, type=CUT, message="the results ended inside a line", origin=origin)
    return line or None


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _checked(batch_id: str) -> str:
    if not is_batch_id(batch_id):
        raise UsageInvalid(f"{batch_id[:100]!r} is no id of a batch.", name="batch-id")
    return batch_id


def _unreadable(reply: Reply) -> Failure:
    return no_batch(reply.status, origin_of(reply.headers))


def _timed_out(limit_s: float) -> Failure:
    return Failure(kind=FailureKind.TRANSIENT, type="timeout", message=f"no whole answer within {limit_s:g} s")


__all__ = ["Batches", "Page", "ResultLines", "ResultsSpool", "result_lines"]
