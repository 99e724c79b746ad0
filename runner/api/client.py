"""The one that speaks to the service. A call is one POST and one Outcome; it raises nothing but cancellation.

There are no retries here, no redirects, no cookies and no credentials but the one it was given: who tries again,
and when, is decided elsewhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
from msgspec import Struct
from msgspec.structs import replace

from runner.api.credentials import Credential, check_base_url
from runner.api.headers import check_custom_headers, request_headers
from runner.api.refusals import error_of
from runner.api.replies import TooLong, lowered_headers, object_of, read_body, read_stream
from runner.api.transport import Journey, make_transport
from runner.api.wire import UNREADABLE, origin_of, outcome_of_exception, outcome_of_reply
from runner.clock import Clock
from runner.domain.job import CURRENT_API_VERSION, DEFAULT_BASE_URL, DEFAULT_CONCURRENCY
from runner.domain.outcome import Failure, FailureKind, Origin, Outcome
from runner.domain.request import MessagesRequest

# Counting, listing: answered in a breath, or not at all.
SMALL_CALL_S = 60.0
MODELS_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Connection:
    """To where, as whom and how patiently. Checked when made; headers stay out of the repr, they may hold secrets."""

    credential: Credential
    base_url: str = DEFAULT_BASE_URL
    api_version: str = CURRENT_API_VERSION
    betas: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    concurrency: int = DEFAULT_CONCURRENCY
    row_timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    write_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", check_base_url(self.base_url))
        object.__setattr__(self, "headers", check_custom_headers(self.headers))


class Reply(Struct, frozen=True, kw_only=True):
    """A good reply to a small call, read whole. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """`async with Client(connection) as client: outcome = await client.messages(request)`."""

    def __init__(
        self,
        connection: Connection,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        quiet_http_logs()
        self._connection = connection
        # Straight to the transport: what httpx.AsyncClient would add is what must not be here.
        self._http = transport or make_transport(
            connection.base_url, connection.concurrency, os.environ if env is None else env, clock
        )
        self._timeout = httpx.Timeout(
            connect=connection.connect_timeout_s,
            read=connection.read_timeout_s,
            write=connection.write_timeout_s,
            pool=connection.connect_timeout_s,
        ).as_dict()
        self._messages_url = self.url("/v1/messages")
        self._headers_by_betas: dict[tuple[str, ...], httpx.Headers] = {}

    @property
    def connection(self) -> Connection:
        return self._connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._http.aclose()

    async def messages(self, request: MessagesRequest) -> Outcome:
        """One call, however it ends. The wall clock of the whole call is the connection's `row_timeout_s`."""
        journey = Journey(billable=True)
        with anyio.move_on_after(self._connection.row_timeout_s):
            return self.redacted(await self._send_message(request, journey))
        return self._timed_out(journey)

    async def count_tokens(self, body: bytes, *, betas: tuple[str, ...] = ()) -> int | Failure:
        """Input tokens of a body without `max_tokens` and `stream`, by the service's own estimate."""
        reply = await self.small_call("POST", self.url("/v1/messages/count_tokens"), body, betas)
        if isinstance(reply, Failure):
            return reply
        found = (object_of(reply.body) or {}).get("input_tokens")
        return found if isinstance(found, int) else not_understood(reply)

    async def models(self) -> list[dict[str, Any]]:
        """All models that this key may use, as the service tells them. Raises the error that people should see."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = object_of((await self._got(f"/v1/models?limit={MODELS_PAGE}{after}")).body) or {}
            data = page.get("data")
            found += [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
            last = page.get("last_id")
            if not data or not page.get("has_more") or not isinstance(last, str):
                return found
            after = f"&after_id={last}"

    async def identify(self) -> Origin:
        """Organisation and workspace of the key, by the cheapest call that needs one. Raises where it is refused."""
        return origin_of((await self._got("/v1/models?limit=1")).headers)

    # --- one exchange

    async def _send_message(self, request: MessagesRequest, journey: Journey) -> Outcome:
        try:
            async with self.exchange("POST", self._messages_url, request.body, request.betas, journey) as response:
                headers = lowered_headers(response)
                if response.status_code == 200 and "text/event-stream" in headers.get("content-type", ""):
                    return await read_stream(response, headers)
                return outcome_of_reply(response.status_code, headers, await read_body(response))
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            return outcome_of_exception(error)
        except TooLong as error:
            return _too_long(error)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        body: bytes | AsyncIterable[bytes] | None,
        betas: tuple[str, ...],
        journey: Journey,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One request and the head of its reply; `headers` go beside ours or replace them. Raises httpx's errors."""
        every = self._headers(betas)
        told = {"timeout": self._timeout, "journey": journey}
        response = await self._http.handle_async_request(
            _request(method, url, httpx.Headers({**every, **headers}) if headers else every, body, told)
        )
        try:
            yield response
        finally:
            await response.aclose()

    async def small_call(
        self, method: str, url: httpx.URL, body: bytes | None = None, betas: tuple[str, ...] = ()
    ) -> Reply | Failure:
        """A call that costs nothing: its reply if it was a good one, else its failure."""
        limit_s = min(SMALL_CALL_S, self._connection.row_timeout_s)
        with anyio.move_on_after(limit_s):
            try:
                async with self.exchange(method, url, body, betas, Journey(billable=False)) as response:
                    reply = Reply(
                        status=response.status_code, headers=lowered_headers(response), body=await read_body(response)
                    )
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
                return self.unbilled(outcome_of_exception(error))
            except TooLong as error:
                return self.unbilled(_too_long(error))
            if reply.status == 200:
                return reply
            return self.unbilled(outcome_of_reply(reply.status, reply.headers, reply.body))
        return Failure(kind=FailureKind.TRANSIENT, type="timeout", message=f"no answer within {limit_s:g} s")

    async def _got(self, path: str) -> Reply:
        reply = await self.small_call("GET", self.url(path))
        if isinstance(reply, Failure):
            raise error_of(reply, self._connection.credential, self._connection.base_url)
        return reply

    def unbilled(self, outcome: Outcome) -> Failure:
        """The failure of a call that is free by nature."""
        failure = outcome if isinstance(outcome, Failure) else _surprise(outcome.origin)
        redacted = self.redacted(failure)
        return replace(redacted, perhaps_billed=False) if isinstance(redacted, Failure) else failure

    # --- details

    def url(self, path: str) -> httpx.URL:
        """Under the configured origin, whatever the service says."""
        return httpx.URL(self._connection.base_url + path)

    def _headers(self, betas: tuple[str, ...]) -> httpx.Headers:
        headers = self._headers_by_betas.get(betas)
        if headers is None:
            connection = self._connection
            told = request_headers(
                auth=connection.credential.header(),
                api_version=connection.api_version,
                custom=connection.headers,
                betas=(*connection.betas, *betas),
            )
            host = self._messages_url.netloc.decode("ascii")
            headers = self._headers_by_betas[betas] = httpx.Headers([("host", host), *told])
        return headers

    def _timed_out(self, journey: Journey) -> Failure:
        limit = f"{self._connection.row_timeout_s:g} s"
        if journey.sent is False:
            return Failure(
                kind=FailureKind.UNREACHABLE, type="connect_timeout", message=f"no connection within {limit}"
            )
        return Failure(
            kind=FailureKind.TRANSIENT,
            type="timeout",
            message=f"no whole answer within {limit} (limits.row_timeout_s)",
            perhaps_billed=True,
        )

    def redacted(self, outcome: Outcome) -> Outcome:
        """A proxy's error page may echo our headers; a failure's message is stored and shown."""
        secret = self._connection.credential.secret
        if isinstance(outcome, Failure) and secret in outcome.message:
            return replace(outcome, message=outcome.message.replace(secret, self._connection.credential.shown))
        return outcome


def _request(
    method: str,
    url: httpx.URL,
    headers: httpx.Headers,
    body: bytes | AsyncIterable[bytes] | None,
    extensions: dict[str, Any],
) -> httpx.Request:
    if not isinstance(body, bytes):
        return httpx.Request(method, url, headers=headers, content=body, extensions=extensions)
    # As `content` does, without its search for the headers that are missing, which costs more than the rest.
    request = httpx.Request(method, url, headers=headers, stream=httpx.ByteStream(body), extensions=extensions)
    request.headers["content-length"] = str(len(body))
    return request


def not_understood(reply: Reply) -> Failure:
    """A reply of which nothing can be made."""
    return replace(_surprise(origin_of(reply.headers)), status=reply.status)


def _surprise(origin: Origin) -> Failure:
    return Failure(
        kind=FailureKind.TRANSIENT, type=UNREADABLE, message="a reply that cannot be understood", origin=origin
    )


def _too_long(error: TooLong) -> Failure:
    return Failure(kind=FailureKind.TRANSIENT, type=UNREADABLE, message=str(error), perhaps_billed=True)


def quiet_http_logs() -> None:
    """httpcore, which is under proxies, tells headers at DEBUG."""
    logger = logging.getLogger("httpcore")
    if logger.level < logging.WARNING:
        logger.setLevel(logging.WARNING)
