"""The Admin API's usage and cost reports of one day, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from runner.api.client import Client
from runner.api.replies import object_of
from runner.domain.outcome import Failure, FailureKind
from runner.domain.pricing import PICO_PER_USD
from runner.domain.reconcile import Billed, Used

USAGE_PATH = "/v1/organizations/usage_report/messages"
COST_PATH = "/v1/organizations/cost_report"
PICO_PER_CENT = PICO_PER_USD // 100
# A day has one bucket; what goes on for longer is not believed.
MOST_PAGES = 100
BATCH = "batch"
TOKEN_TYPES = {
    "uncached_input_tokens": "input_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "cache_read_input_tokens": "cache_read",
    "output_tokens": "output_tokens",
}
WEB_SEARCH = "web_search"


async def read_usage(client: Client, day: date) -> list[Used] | Failure:
    """Tokens by model, workspace and service tier. `client` carries the admin key."""
    found = await _results(client, USAGE_PATH, day, ("model", "workspace_id", "service_tier"), "&bucket_width=1d")
    return found if isinstance(found, Failure) else [_used(one) for one in found]


async def read_costs(client: Client, day: date) -> list[Billed] | Failure:
    """Amounts by workspace and by what they are for."""
    found = await _results(client, COST_PATH, day, ("workspace_id", "description"), "")
    return found if isinstance(found, Failure) else [_billed(one) for one in found]


async def _results(
    client: Client, path: str, day: date, groups: tuple[str, ...], more: str
) -> list[Mapping[str, Any]] | Failure:
    grouped = "".join(f"&group_by[]={group}" for group in groups)
    span = f"starting_at={_midnight(day)}&ending_at={_midnight(day + timedelta(days=1))}"
    found: list[Mapping[str, Any]] = []
    page = ""
    for _ in range(MOST_PAGES):
        reply = await client.small_call("GET", client.url(f"{path}?{span}{grouped}{more}{page}"))
        if isinstance(reply, Failure):
            return reply
        told = object_of(reply.body)
        if told is None or not isinstance(told.get("data"), list):
            return Failure(kind=FailureKind.TRANSIENT, type="unreadable", message="a report that is not understood")
        found += _of_buckets(told["data"])
        following = told.get("next_page")
        if not told.get("has_more") or not isinstance(following, str):
            return found
        page = f"&page={quote(following, safe='')}"
    return Failure(kind=FailureKind.TRANSIENT, type="endless", message="a report of one day that does not end")


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _of_buckets(data: list[Any]) -> Iterator[Mapping[str, Any]]:
    for bucket in data:
        results = bucket.get("results") if isinstance(bucket, dict) else None
        yield from (one for one in results or [] if isinstance(one, dict))


def _used(told: Mapping[str, Any]) -> Used:
    written = told.get("cache_creation")
    written = written if isinstance(written, dict) else {}
    searched = told.get("server_tool_use")
    searched = searched if isinstance(searched, dict) else {}
    return Used(
        workspace=_word(told.get("workspace_id")),
        model=_word(told.get("model")) or "",
        batch=told.get("service_tier") == BATCH,
        tokens={
            "input_tokens": _count(told.get("uncached_input_tokens")),
            "cache_write_5m": _count(written.get("ephemeral_5m_input_tokens")),
            "cache_write_1h": _count(written.get("ephemeral_1h_input_tokens")),
            "cache_read": _count(told.get("cache_read_input_tokens")),
            "output_tokens": _count(told.get("output_tokens")),
            "web_searches": _count(searched.get("web_search_requests")),
        },
    )


def _billed(told: Mapping[str, Any]) -> Billed:
    """What is for tokens has a model; searches have none, and other things not even a kind."""
    kind = _word(told.get("token_type"))
    tokens = TOKEN_TYPES.get(kind or "")
    searched = told.get("cost_type") == WEB_SEARCH
    return Billed(
        workspace=_word(told.get("workspace_id")),
        model=_word(told.get("model")) if tokens else None,
        batch=told.get("service_tier") == BATCH,
        kind=tokens or ("web_searches" if searched else None),
        pico=_pico(told.get("amount")),
        description=_word(told.get("description")) or _word(told.get("cost_type")) or "something without a name",
    )


def _pico(cents: Any) -> int:
    try:
        return int((Decimal(str(cents)) * PICO_PER_CENT).to_integral_value())
    except (InvalidOperation, ValueError):
        return 0


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
