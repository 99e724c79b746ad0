"""Batches as the service writes them, to the values of `domain/batch.py`. Pure.

Unknown fields, statuses and buckets of counts are tolerated; a batch without a plain id is not.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from runner.domain.batch import BatchStatus

# An id stands in paths; anything else in it could lead a request, and the key with it, to another place.
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Batch(msgspec.Struct):
    id: str
    processing_status: str = "unknown"
    request_counts: dict[str, Any] = {}
    created_at: Any = None
    expires_at: Any = None
    ended_at: Any = None
    cancel_initiated_at: Any = None
    archived_at: Any = None


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False
    last_id: str | None = None


class ListedBatches(msgspec.Struct, frozen=True):
    """One page of the list. `last_id` is set when there is another page after it."""

    batches: tuple[BatchStatus, ...]
    last_id: str | None


_read_batch = msgspec.json.Decoder(_Batch).decode
_read_page = msgspec.json.Decoder(_Page).decode


def is_batch_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def batch_of_body(body: bytes) -> BatchStatus | None:
    """None where the body is no batch."""
    try:
        return _status(_read_batch(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def page_of_body(body: bytes) -> ListedBatches | None:
    """None where the body is no page, or where any entry is no batch: half a list must not pass for a list."""
    try:
        told = _read_page(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    found = [_status(batch) for batch in told.data]
    batches = tuple(batch for batch in found if batch is not None)
    if len(batches) != len(found):
        return None
    if not told.has_more:
        return ListedBatches(batches=batches, last_id=None)
    last = told.last_id or (batches[-1].id if batches else None)
    return None if last is None or not is_batch_id(last) else ListedBatches(batches=batches, last_id=last)


def _status(batch: _Batch) -> BatchStatus | None:
    if not is_batch_id(batch.id):
        return None
    return BatchStatus(
        id=batch.id,
        status=batch.processing_status,
        counts={name: count for name, count in batch.request_counts.items() if isinstance(count, int)},
        created_us=time_us(batch.created_at),
        expires_us=time_us(batch.expires_at),
        ended_us=time_us(batch.ended_at),
        cancel_us=time_us(batch.cancel_initiated_at),
        archived=batch.archived_at is not None,
    )


def time_us(told: object) -> int | None:
    """An RFC 3339 time as microseconds; None where it is none. Without an offset it is taken for UTC."""
    if not isinstance(told, str):
        return None
    try:
        found = datetime.fromisoformat(told)
        since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
