"""The Admin API's usage and cost reports, made from the bill: what was used and paid, by day and by what is asked.

Knows the bill and the calendar. Only an admin key is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qs

from runner.simulator.billing import KINDS, SEARCHES, costs_by_kind
from runner.simulator.callers import key_of
from runner.simulator.exchange import Reply, Request, json_reply
from runner.simulator.ledger import Charge, Ledger
from runner.simulator.problems import Problem, invalid

USAGE_PATH = "/v1/organizations/usage_report/messages"
COST_PATH = "/v1/organizations/cost_report"
PATHS = frozenset({USAGE_PATH, COST_PATH})
ADMIN_KEY_START = "sk-ant-admin"
# Width of a bucket in seconds, how many come unasked, and the most that may be asked for.
WIDTHS = {"1m": (60, 60, 1440), "1h": (3_600, 24, 168), "1d": (86_400, 7, 31)}
LONG_CONTEXT_TOKENS = 200_000
CENTS = 100


def report_reply(ledger: Ledger, request: Request) -> Reply | Problem:
    """GET one of `PATHS`."""
    if not key_of(request.headers).startswith(ADMIN_KEY_START):
        return Problem(status=403, type="permission_error", message="an Admin API key is required")
    asked = parse_qs(request.query)
    is_cost = request.path == COST_PATH
    try:
        page = _Page(asked, "1d" if is_cost else asked.get("bucket_width", ["1d"])[0])
    except (ValueError, KeyError) as error:
        return invalid(f"{error.args[0] if error.args else error}: is not valid")
    groups = asked.get("group_by[]", [])
    made = _cost_results if is_cost else _usage_results
    data = []
    for starting_at, ending_at in page.buckets():
        charges = [one for one in ledger.all_charges() if starting_at <= _time(one.at_us) < ending_at]
        charges = [one for one in charges if _is_asked_for(one, asked)]
        results = made(charges, groups)
        data.append({"starting_at": _told(starting_at), "ending_at": _told(ending_at), "results": results})
    return json_reply({"data": data, "has_more": page.next is not None, "next_page": page.next})


class _Page:
    """Which buckets a query asks for."""

    def __init__(self, asked: Mapping[str, list[str]], width: str) -> None:
        seconds, usual, most = WIDTHS[width]
        self._width = timedelta(seconds=seconds)
        start = _read(asked["starting_at"][0])
        self._start = datetime.fromtimestamp(start.timestamp() // seconds * seconds, UTC)
        self._end = _read(asked["ending_at"][0]) if "ending_at" in asked else None
        limit = int(asked.get("limit", [str(usual)])[0])
        if not 1 <= limit <= most:
            raise ValueError("limit")
        self._first = int(asked.get("page", ["page_0"])[0].removeprefix("page_"))
        self._limit = limit

    def buckets(self) -> Iterator[tuple[datetime, datetime]]:
        for number in range(self._first, self._first + self._limit):
            starting_at = self._start + number * self._width
            if self._end is not None and starting_at >= self._end:
                return
            yield starting_at, starting_at + self._width

    @property
    def next(self) -> str | None:
        number = self._first + self._limit
        more = self._end is not None and self._start + number * self._width < self._end
        return f"page_{number}" if more else None


def _read(told: str) -> datetime:
    return datetime.fromisoformat(told.replace(" ", "+"))


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC)


def _told(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _prompt_tokens(charge: Charge) -> int:
    usage = charge.usage
    return int(usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])


DIMENSIONS: Mapping[str, Callable[[Charge], str | None]] = {
    "model": lambda charge: charge.model,
    "workspace_id": lambda charge: charge.workspace_id,
    "service_tier": lambda charge: "batch" if charge.batch_id else "standard",
    "context_window": lambda charge: "200k-1M" if _prompt_tokens(charge) > LONG_CONTEXT_TOKENS else "0-200k",
    "inference_geo": lambda charge: charge.usage["inference_geo"] or "not_available",
    "api_key_id": lambda _charge: None,
}
FILTERS = {"models[]": "model", "workspace_ids[]": "workspace_id", "service_tiers[]": "service_tier"}


def _is_asked_for(charge: Charge, asked: Mapping[str, list[str]]) -> bool:
    return all(DIMENSIONS[name](charge) in asked[filter_] for filter_, name in FILTERS.items() if filter_ in asked)


def _usage_results(charges: list[Charge], groups: list[str]) -> list[dict[str, Any]]:
    counts: dict[tuple[str | None, ...], dict[str, int]] = {}
    for charge in charges:
        key = tuple(told(charge) if name in groups else None for name, told in DIMENSIONS.items())
        total = counts.setdefault(key, dict.fromkeys((*KINDS, SEARCHES), 0))
        for kind, (count, _) in costs_by_kind(charge.model, charge.usage, batch=charge.batch_id is not None).items():
            total[kind] += count
    return [_usage_result(dict(zip(DIMENSIONS, key, strict=True)), total) for key, total in counts.items()]


def _usage_result(dimensions: Mapping[str, str | None], total: Mapping[str, int]) -> dict[str, Any]:
    plain, write_5m, write_1h, read, output = (total[kind] for kind in KINDS)
    return {
        "uncached_input_tokens": plain,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "cache_read_input_tokens": read,
        "output_tokens": output,
        "server_tool_use": {SEARCHES: total[SEARCHES]},
        **dimensions,
    }


def _cost_results(charges: list[Charge], groups: list[str]) -> list[dict[str, Any]]:
    """Amounts in cents, exact; by description that is by model, tier and kind of token."""
    described, by_workspace = "description" in groups, "workspace_id" in groups
    amounts: dict[tuple[str | None, str | None, str | None, str | None], Fraction] = {}
    for charge in charges:
        tier = DIMENSIONS["service_tier"](charge)
        workspace = charge.workspace_id if by_workspace else None
        for kind, (_, usd) in costs_by_kind(charge.model, charge.usage, batch=tier == "batch").items():
            told = (charge.model, tier, kind) if described else (None, None, None)
            key = (workspace, *told)
            amounts[key] = amounts.get(key, Fraction()) + usd
    return [_cost_result(*key, amount) for key, amount in amounts.items()]


def _cost_result(
    workspace: str | None, model: str | None, tier: str | None, kind: str | None, usd: Fraction
) -> dict[str, Any]:
    searches = kind == SEARCHES
    cents = usd * CENTS
    return {
        "amount": str(Decimal(cents.numerator) / Decimal(cents.denominator)),
        "currency": "USD",
        "workspace_id": workspace,
        "description": None if kind is None else f"{model} usage, {kind}, {tier}",
        "cost_type": None if kind is None else "web_search" if searches else "tokens",
        "token_type": None if searches else kind,
        "model": None if searches else model,
        "service_tier": None if searches else tier,
        "context_window": None,
        "inference_geo": None,
    }
