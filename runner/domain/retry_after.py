"""The server's word on when to come back, in all the forms it takes on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RESET_HEADERS = (
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-reset",
    "anthropic-ratelimit-tokens-reset",
)


def retry_after_s(headers: Mapping[str, str], *, server_time_us: int | None) -> float | None:
    """Seconds to wait, or None when the headers say nothing usable.

    In order: `retry-after-ms`, `retry-after` as seconds, `retry-after` as a date, then the latest
    `anthropic-ratelimit-*-reset` of a family that is used up. Dates are measured against the reply's own `Date`,
    never the local clock. Negative, infinite and unreadable values count as not said. Header names in lower case.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    if value is not None and (until := _http_date(value)) is not None and server_time_us is not None:
        return max(0.0, until - server_time_us / 1e6)
    return _until_reset(headers, server_time_us)


def http_date_us(value: str | None) -> int | None:
    """An HTTP `Date` as microseconds UTC."""
    at = _http_date(value) if value else None
    return None if at is None else round(at * 1e6)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _http_date(value: str) -> float | None:
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a zone of many digits overflows
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _until_reset(headers: Mapping[str, str], server_time_us: int | None) -> float | None:
    if server_time_us is None:
        return None
    waits = [
        at - server_time_us / 1e6
        for name in RESET_HEADERS
        if headers.get(name.removesuffix("reset") + "remaining") == "0"
        and (at := _rfc3339(headers.get(name))) is not None
    ]
    return max(0.0, *waits) if waits else None


def _rfc3339(value: str | None) -> float | None:
    try:
        at = datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    return at.timestamp() if at is not None and at.tzinfo else None
