"""What the service says of its limits: in the headers of each reply, and to an admin key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.api.admin_limits import PATH, limits_of, read_limits
from runner.api.rate_headers import ROUNDING, fast_rates_of, rates_of
from runner.domain.limits import LimitSource, RateLimits
from runner.domain.outcome import Failure
from runner.domain.pricing import shipped_prices
from tests.api.scripted import always, client_of, reply

NOW_US = 1_795_255_200_000_000  # 2026-11-21 10:00 UTC
SOON, LATER = "2026-11-21T10:00:01Z", "2026-11-21T10:00:50Z"


def family(name: str, limit: int, remaining: int, reset: str) -> dict[str, str]:
    return {f"{name}-limit": str(limit), f"{name}-remaining": str(remaining), f"{name}-reset": reset}


REQUESTS = family("anthropic-ratelimit-requests", 1_000, 12, LATER)
INPUT = family("anthropic-ratelimit-input-tokens", 2_000_000, 1_990_000, SOON)
OUTPUT = family("anthropic-ratelimit-output-tokens", 400_000, 0, LATER)
TOTAL = family("anthropic-ratelimit-tokens", 2_400_000, 0, LATER)


def test_the_three_limits_and_what_is_left_where_it_fills_up_slowly() -> None:
    word = rates_of({**REQUESTS, **INPUT, **OUTPUT, **TOTAL}, NOW_US)
    assert word is not None
    assert word.limits == RateLimits(1_000, 2_000_000, 400_000)
    assert word.left == (12, None, ROUNDING)


def test_without_the_server_s_date_nothing_is_said_of_what_is_left() -> None:
    word = rates_of({**REQUESTS, **OUTPUT}, None)
    assert word is not None
    assert word.left == (None, None, None)


def test_the_priority_tier_comes_on_top() -> None:
    priority = {
        **family("anthropic-priority-input-tokens", 500_000, 1_000, LATER),
        **family("anthropic-priority-output-tokens", 100_000, 3_000, LATER),
    }
    word = rates_of({**REQUESTS, **INPUT, **OUTPUT, **priority}, NOW_US)
    assert word is not None
    assert word.limits == RateLimits(1_000, 2_500_000, 500_000)
    assert word.left == (12, None, 3_000 + 2 * ROUNDING)


def test_fast_mode_has_tokens_of_its_own() -> None:
    fast = {
        **family("anthropic-fast-input-tokens", 70_000, 9_000, SOON),
        **family("anthropic-fast-output-tokens", 30_000, 0, LATER),
    }
    word = fast_rates_of({**REQUESTS, **INPUT, **OUTPUT, **fast}, NOW_US)
    assert word is not None
    assert word.limits == RateLimits(1_000, 70_000, 30_000)
    assert word.left == (12, None, ROUNDING)
    assert fast_rates_of({**REQUESTS, **INPUT}, NOW_US) is None


@pytest.mark.parametrize("value", ["", "-1", "many", "1e9", "٣", "9" * 40])
def test_what_is_no_number_is_not_said(value: str) -> None:
    word = rates_of({"anthropic-ratelimit-requests-limit": value, **INPUT}, NOW_US)
    assert word is not None
    assert word.limits.rpm is None


def test_a_service_without_limits_says_nothing() -> None:
    assert rates_of({"request-id": "req_1"}, NOW_US) is None


# --- the Admin API


def entry(models: list[str] | None, limits: dict[str, Any], **group: Any) -> dict[str, Any]:
    told = [{"type": name, "value": value} for name, value in limits.items()]
    return {"type": "rate_limit", "models": models, "limits": told, **group}


ALL = {
    "requests_per_minute": 1_000,
    "input_tokens_per_minute": 9,
    "input_tokens_per_minute_cache_aware": 2_000_000,
    "output_tokens_per_minute": 400_000,
    "fast_otpm": 5,
}
OPUS = ["claude-opus-4-8", "claude-opus-4-5"]


@pytest.mark.parametrize("group", [{"group": {"type": "model_group", "id": "x"}}, {"group_type": "model_group"}])
def test_limits_by_the_models_that_a_group_names(group: dict[str, Any]) -> None:
    body = json.dumps(
        {
            "data": [
                entry(OPUS, ALL, **group),
                entry(["claude-new-9"], {"requests_per_minute": 7}, **group),
                entry(None, ALL, group={"type": "batch"}),
                entry(["claude-haiku-5-5"], {"requests_per_minute": "unlimited"}, **group),
                "junk",
            ]
        }
    ).encode()
    known = limits_of(body, shipped_prices().limit_class)
    assert {name: told.limits for name, told in known.items()} == {
        "opus-4.x": RateLimits(1_000, 2_000_000, 400_000),
        "claude-new-9": RateLimits(7, None, None),
    }
    assert {told.source for told in known.values()} == {LimitSource.ADMIN}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": 3}', b'{"data": [{"group": 1}]}', b"\xff"])
def test_what_cannot_be_understood_says_nothing(body: bytes) -> None:
    assert limits_of(body, str) == {}


@pytest.mark.anyio
async def test_it_is_asked_once_and_a_refusal_is_a_value() -> None:
    body = {"data": [entry(OPUS, ALL, group={"type": "model_group"})]}
    async with client_of(always(reply(body))) as (client, server):
        known = await read_limits(client, shipped_prices().limit_class)
        assert isinstance(known, dict)
        assert set(known) == {"opus-4.x"}
        assert [(seen.method, seen.target) for seen in server.requests] == [("GET", PATH)]
    refused = {"type": "error", "error": {"type": "permission_error", "message": "no"}}
    async with client_of(always(reply(refused, status=403))) as (client, _):
        assert isinstance(await read_limits(client, str), Failure)
