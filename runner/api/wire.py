"""Bytes from the service to an Outcome: plain replies, streams, exceptions of the way, lines of batch results.

Everything that the rest of the program knows of an answer passes here once, so that there is one path after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from runner.api.error_body import ApiError, ErrorBody, api_error, bare_error, foreign_error, snippet, unwrapped
from runner.api.rate_headers import fast_rates_of, rates_of
from runner.api.sse import MessageAssembler
from runner.api.taxonomy import (
    ADDRESS,
    FOREIGN_TYPES,
    Verdict,
    heeding_should_retry,
    verdict,
    verdict_of_status,
)
from runner.api.usage import read_usage, usage_of
from runner.domain.outcome import NOWHERE, Answer, Failure, FailureKind, Origin, Outcome
from runner.domain.retry_after import http_date_us, retry_after_s

MAX_MESSAGE_CHARS = 2_000

UNREADABLE = "unreadable_reply"
CUT = "cut_reply"

# Ends of rows that the batch never sent; they are not billed.
UNSENT_RESULTS = {
    "expired": "the batch ended after its 24 hours before this row was sent",
    "canceled": "the batch was canceled before this row was sent",
}
# Nothing had been sent when these were raised.
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class _Message(msgspec.Struct):
    """The few fields of a message that are read; the rest stays in its bytes."""

    id: str
    type: str
    model: str
    stop_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


class ResultLine(msgspec.Struct, frozen=True):
    """One line of a batch's results."""

    custom_id: str
    outcome: Outcome


_read_message = msgspec.json.Decoder(_Message).decode
_read_line = msgspec.json.Decoder(_Line).decode
_date_us = lru_cache(maxsize=8)(http_date_us)  # many replies share a second


def origin_of(headers: Mapping[str, str]) -> Origin:
    """Who answered, from headers with names in lower case."""
    server_time_us = _date_us(headers.get("date"))
    return Origin(
        request_id=headers.get("request-id"),
        organization=headers.get("anthropic-organization-id"),
        workspace=headers.get("anthropic-workspace-id"),
        server_time_us=server_time_us,
        rates=rates_of(headers, server_time_us),
        fast_rates=fast_rates_of(headers, server_time_us),
    )


def outcome_of_reply(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """The outcome of a plain reply. Header names in lower case."""
    origin = origin_of(headers)
    if 200 <= status < 300:
        return _outcome_of_success(status, headers, body, origin)
    if 300 <= status < 400:
        return _redirected(status, headers, origin)
    told = api_error(body)
    if told is None:
        return _foreign_failure(status, headers, body, origin)
    if origin.request_id is None:
        told = unwrapped(told)  # the API names its requests in a header: this is somebody else's reply
    return failure_of_error(told.error, status=status, headers=headers, origin=_with_request_id(origin, told))


def _outcome_of_success(status: int, headers: Mapping[str, str], body: bytes, origin: Origin) -> Outcome:
    content_type = headers.get("content-type", "application/json")
    if "json" not in content_type:
        return _unreadable(f"HTTP {status} with {content_type[:100]} instead of JSON", status, origin)
    answer = _answer(body, origin)
    if answer is not None:
        return answer
    told = api_error(body)
    if told is not None:
        return failure_of_error(told.error, status=status, headers=headers, origin=origin)
    return _unreadable(f"HTTP {status} with a body that is no whole message", status, origin)


def _answer(body: bytes, origin: Origin, *, batch: bool = False) -> Answer | None:
    """None where the body is not one whole message: not JSON, not UTF-8, cut, without a stop reason."""
    try:
        told = _read_message(body)
        body.decode()  # what is skipped above is not checked above, and would break the export later
        usage = usage_of(told.usage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if told.type != "message" or told.stop_reason is None:
        return None
    return Answer(
        message=body,
        message_id=told.id,
        model=told.model,
        stop_reason=told.stop_reason,
        usage=usage,
        origin=origin,
        batch=batch,
        billed=not (told.stop_reason == "refusal" and _is_empty(told.content)),
    )


def _is_empty(content: msgspec.Raw) -> bool:
    return bytes(content).translate(None, b" \t\r\n") == b"[]"


def outcome_of_stream(
    assembler: MessageAssembler, headers: Mapping[str, str], *, broken: str | None = None
) -> Outcome:
    """The outcome of a stream that has ended; `broken` says how, where it was not by its own word."""
    origin = origin_of(headers)
    if assembler.error is not None:
        told = api_error(assembler.error)
        error = ApiError(message=snippet(assembler.error)) if told is None else told.error
        return failure_of_error(error, status=None, headers=headers, origin=origin, perhaps_billed=True)
    if assembler.finished and broken is None:
        answer = _answer(assembler.message_bytes(), origin) if assembler.started else None
        return answer or _unreadable("a stream that ended without a whole message", 200, origin)
    return Failure(
        kind=FailureKind.TRANSIENT,
        type=CUT,
        message=f"the stream {broken or 'ended before message_stop'}{_seen(assembler)}",
        status=200,
        perhaps_billed=True,
        origin=origin,
    )


def _seen(assembler: MessageAssembler) -> str:
    usage = read_usage(assembler.usage)
    return f" ({usage.prompt_tokens} tokens in, {usage.output_tokens} out so far)" if assembler.started else ""


def outcome_of_exception(error: Exception) -> Failure:
    """The outcome of a call that ended in one of httpx's exceptions."""
    if isinstance(error, UNSENT):
        return Failure(kind=FailureKind.UNREACHABLE, type=_kind_name(error), message=_told(error))
    return Failure(kind=FailureKind.TRANSIENT, type=_kind_name(error), message=_told(error), perhaps_billed=True)


def outcome_of_result_line(line: bytes) -> ResultLine:
    """One line of a batch's results file. Raises msgspec.DecodeError where it is not one."""
    told = _read_line(line)
    return ResultLine(custom_id=told.custom_id, outcome=_outcome_of_result(told.result))


def _outcome_of_result(result: _Result) -> Outcome:
    if result.type == "succeeded":
        answer = _answer(bytes(result.message), NOWHERE, batch=True)
        return answer or _unreadable("a succeeded result without a whole message", None, NOWHERE)
    if result.type == "errored":
        return _outcome_of_errored(bytes(result.error))
    if result.type in UNSENT_RESULTS:
        return Failure(kind=FailureKind.TRANSIENT, type=result.type, message=UNSENT_RESULTS[result.type])
    # A kind of end that this program does not know: sending the row again might pay for it twice.
    return Failure(
        kind=FailureKind.ROW,
        type="unknown_result_type",
        message=f"a batch result of the unknown type {result.type[:100]!r}",
        perhaps_billed=True,
    )


def _outcome_of_errored(body: bytes) -> Failure:
    """Results nest the API's error body inside `error`; a bare error is understood too."""
    told = api_error(body)
    if told is not None:
        origin = Origin(request_id=told.request_id)
        return failure_of_error(told.error, status=None, headers={}, origin=origin)
    return failure_of_error(bare_error(body), status=None, headers={}, origin=NOWHERE)


def failure_of_error(
    error: ApiError,
    *,
    status: int | None,
    headers: Mapping[str, str],
    origin: Origin,
    perhaps_billed: bool = False,
) -> Failure:
    """The failure that an error in the API's own shape stands for. Such a call is not billed, streams apart."""
    found = verdict(status=status, error_type=error.type, code=error.code, message=error.message)
    return _failure(
        heeding_should_retry(found, headers.get("x-should-retry")),
        type=error.type,
        message=error.message,
        status=status,
        code=error.code,
        headers=headers,
        origin=origin,
        perhaps_billed=perhaps_billed,
    )


def _foreign_failure(status: int, headers: Mapping[str, str], body: bytes, origin: Origin) -> Failure:
    """Something between us and the API answered: an edge, a proxy, a wrong address."""
    error = foreign_error(body)
    found = FOREIGN_TYPES.get(error.type or "") or verdict_of_status(status)
    if status in (404, 405):
        found = ADDRESS  # no API there: each row would fail, and none is at fault
    return _failure(
        heeding_should_retry(found, headers.get("x-should-retry")),
        type=f"http_{status}",
        message=f"HTTP {status} without an error of the API: {error.message or 'empty body'}",
        status=status,
        headers=headers,
        origin=origin,
        perhaps_billed=status >= 500 and found.kind is FailureKind.TRANSIENT,
    )


def _redirected(status: int, headers: Mapping[str, str], origin: Origin) -> Failure:
    host = _host_of(headers.get("location", ""))
    return Failure(
        kind=ADDRESS.kind,
        trouble=ADDRESS.trouble,
        type="redirected",
        message=f"HTTP {status}: the base URL redirects to {host}; neither key nor prompt was sent there",
        status=status,
        origin=origin,
    )


def _failure(found: Verdict, *, message: str, headers: Mapping[str, str], origin: Origin, **rest: Any) -> Failure:
    return Failure(
        kind=found.kind,
        trouble=found.trouble,
        message=message[:MAX_MESSAGE_CHARS],
        retry_after_s=retry_after_s(headers, server_time_us=origin.server_time_us) if headers else None,
        origin=origin,
        **rest,
    )


def _unreadable(message: str, status: int | None, origin: Origin) -> Failure:
    return Failure(
        kind=FailureKind.TRANSIENT,
        type=UNREADABLE,
        message=message,
        status=status,
        perhaps_billed=True,
        origin=origin,
    )


def _with_request_id(origin: Origin, told: ErrorBody) -> Origin:
    if origin.request_id is not None or told.request_id is None:
        return origin
    return Origin(
        request_id=told.request_id,
        organization=origin.organization,
        workspace=origin.workspace,
        server_time_us=origin.server_time_us,
    )


def _host_of(location: str) -> str:
    try:
        return urlsplit(location).netloc.rpartition("@")[2] or "another path"
    except ValueError:
        return "an unreadable address"


def _kind_name(error: Exception) -> str:
    """`ReadTimeout` as `read_timeout`, in the manner of the API's own types."""
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _told(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:MAX_MESSAGE_CHARS]
