"""Pages by id cursor: which stretch of a list, newest first, a query asks for.

Knows ids only; what they stand for is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

from runner.simulator.problems import Problem, invalid

MAX_PAGE = 1000
DEFAULT_PAGE = 20

Found = TypeVar("Found")


def page_of(
    found: Sequence[Found], query: str, *, id_of: Callable[[Found], str], told: Callable[[Found], dict[str, Any]]
) -> dict[str, Any] | Problem:
    """One page of the list, each entry as `told` puts it."""
    asked = parse_qs(query)
    limit = asked.get("limit", [str(DEFAULT_PAGE)])[0]
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= MAX_PAGE:
        return invalid(f"limit: must be between 1 and {MAX_PAGE}")
    ids = [id_of(one) for one in found]
    start, stop, more = _stretch(ids, int(limit), asked.get("after_id", [""])[0], asked.get("before_id", [""])[0])
    first, last = (ids[start], ids[stop - 1]) if stop > start else (None, None)
    return {"data": [told(one) for one in found[start:stop]], "has_more": more, "first_id": first, "last_id": last}


def _stretch(ids: list[str], limit: int, after: str, before: str) -> tuple[int, int, bool]:
    """Where the page starts and stops, and whether there is more in its direction."""
    if before:
        stop = ids.index(before) if before in ids else 0
        start = max(0, stop - limit)
        return start, stop, start > 0
    start = ids.index(after) + 1 if after in ids else 0
    stop = min(len(ids), start + limit)
    return start, stop, stop < len(ids)
