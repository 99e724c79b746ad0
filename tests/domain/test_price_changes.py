"""Prices of one's own: what is said replaces, what is not stays, and a slip is named."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from runner.domain.outcome import Usage
from runner.domain.price_changes import PricesInvalid, changed_prices, joined_changes
from runner.domain.pricing import PICO_PER_USD, PriceBook, shipped_json, shipped_prices

SHIPPED = shipped_json()
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"


def book(**changes: Any) -> PriceBook:
    return changed_prices(SHIPPED, changes)


def usd(book: PriceBook, model: str, **usage: Any) -> Fraction | None:
    cost = book.cost_pico(model, Usage(**usage))
    return None if cost is None else Fraction(cost, PICO_PER_USD)


def test_without_changes_it_is_the_shipped_book() -> None:
    assert changed_prices(SHIPPED, {}).version == shipped_prices().version


def test_a_contract_takes_a_part_off_every_price_of_a_model() -> None:
    told = book(models=[{"id": HAIKU, "multiplier": "0.9"}])
    assert usd(told, HAIKU, input_tokens=100_000) == Fraction("0.009")
    assert usd(told, HAIKU, input_tokens=100_001) == Fraction("0.04500045")
    assert usd(told, SONNET, input_tokens=1_000) == Fraction("0.002")


def test_prices_that_are_not_given_stay_and_those_of_the_cache_follow_that_of_input() -> None:
    told = book(models=[{"id": SONNET, "input": 1}])
    assert usd(told, SONNET, input_tokens=10**6) == 1
    assert usd(told, SONNET, cache_read=10**6) == Fraction("0.05")
    assert usd(told, SONNET, cache_write_1h=10**6) == 2
    assert usd(told, SONNET, output_tokens=10**6) == 10


def test_a_model_that_is_not_known_gets_a_price() -> None:
    told = book(models=[{"id": "claude-next-6", "input": 3, "output": 15, "context_window": 10**6}])
    assert usd(told, "claude-next-6", input_tokens=10**6, output_tokens=10**6) == 18
    assert usd(told, "claude-next-6", cache_read=10**6) == Fraction("0.3")
    assert usd(told, "claude-next-6", input_tokens=1, inference_geo="us") is None
    assert told.limit_class("claude-next-6") == "claude-next-6"


def test_an_alias_means_its_model() -> None:
    told = book(models=[{"id": "claude-haiku-4-5", "multiplier": 2}])
    assert usd(told, "claude-haiku-4-5-20251001", output_tokens=10**6) == 10
    assert usd(told, "claude-haiku-4-5", output_tokens=10**6) == 10


def test_bands_are_told_whole() -> None:
    bands = [
        {"above_tokens": -1, "input": 1, "output": 2},
        {"above_tokens": 50_000, "input": 2, "output": 4, "cache_read": 1},
    ]
    told = book(models=[{"id": HAIKU, "bands": bands}])
    assert usd(told, HAIKU, input_tokens=50_000) == Fraction("0.05")
    assert usd(told, HAIKU, input_tokens=50_001) == Fraction("0.100002")
    assert usd(told, HAIKU, cache_read=100_000) == Fraction("0.1")


def test_a_server_tool_can_be_given_a_fee() -> None:
    told = book(server_tools={"code_execution_requests": 0, "web_search_requests": "0.008"})
    uses = (("code_execution_requests", 4),)
    assert usd(told, SONNET, web_searches=2, uses=uses) == Fraction("0.016")
    assert usd(shipped_prices(), SONNET, web_searches=2, uses=uses) is None


def test_two_tables_that_differ_have_different_versions() -> None:
    one, two = book(models=[{"id": SONNET, "input": 1}]), book(models=[{"id": SONNET, "input": 2}])
    named = book(version="contract 7", models=[{"id": SONNET, "input": 1}])
    assert len({SHIPPED["version"], one.version, two.version, named.version}) == 4
    assert one.version.startswith(f"{SHIPPED['version']}+")
    assert named.version.startswith("contract 7+")
    assert book(models=[{"id": SONNET, "input": 1}]).version == one.version


def test_what_is_said_of_a_model_goes_before_the_table() -> None:
    joined = joined_changes({"models": [{"id": SONNET, "input": 1}]}, {SONNET: {"input": 5}})
    assert usd(changed_prices(SHIPPED, joined), SONNET, input_tokens=10**6) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prices": {}}, "unknown key 'prices'"),
        ({"models": {}}, "a list of tables"),
        ({"models": [{"input": 1}]}, "needs its id"),
        ({"models": [{"id": SONNET, "inputs": 1}]}, "did you mean input?"),
        ({"models": [{"id": SONNET, "input": -1}]}, "at least 0, not -1"),
        ({"models": [{"id": SONNET, "input": True}]}, "at least 0, not True"),
        ({"models": [{"id": SONNET, "context_window": "big"}]}, "context_window of claude-sonnet-5-5 is 'big'"),
        ({"models": [{"id": "claude-next-6", "input": 1}]}, "needs a price of output"),
        ({"models": [{"id": HAIKU, "input": 1}]}, "2 bands"),
        ({"models": [{"id": HAIKU, "bands": [{"above_tokens": 5, "input": 1, "output": 1}]}]}, "begin with"),
        ({"models": [{"id": HAIKU, "bands": [{"input": 1, "output": 1}]}]}, "needs above_tokens"),
        ({"server_tools": {"web_search_requests": "free"}}, "server_tools.web_search_requests"),
        ({"batch_multiplier": None}, "batch_multiplier"),
    ],
)
def test_a_slip_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PricesInvalid, match=words.replace("?", r"\?")):
        book(**changes)
