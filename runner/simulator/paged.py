"""Pages by an opaque cursor: `limit` and `page` in, `data` and `next_page` out. Knows nothing of what it pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from runner.simulator.paging import DEFAULT_PAGE, MAX_PAGE
from runner.simulator.problems import Problem, invalid

Found = TypeVar("Found")
_CURSOR = "page_"


def cursor_page(
    found: Sequence[Found], query: Mapping[str, list[str]], told: Callable[[Found], dict[str, Any]]
) -> dict[str, Any] | Problem:
    """One page of the list."""
    limit, page = query.get("limit", [str(DEFAULT_PAGE)])[0], query.get("page", [f"{_CURSOR}0"])[0]
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= MAX_PAGE:
        return invalid(f"limit: must be between 1 and {MAX_PAGE}")
    start = page.removeprefix(_CURSOR)
    if not page.startswith(_CURSOR) or not start.isascii() or not start.isdigit():
        return invalid("page: not a page of this list")
    end = int(start) + int(limit)
    following = f"{_CURSOR}{end}" if end < len(found) else None
    return {"data": [told(one) for one in found[int(start) : end]], "next_page": following}
