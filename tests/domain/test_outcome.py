"""Usage adds up over the turns of one row, and outcomes are values that nobody changes."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

import runner.domain
from runner.domain.outcome import Usage

COUNTS = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens", "web_searches")
USAGES = st.builds(
    Usage, **dict.fromkeys(COUNTS, st.integers(0, 10**9)), unpriced=st.lists(st.text(max_size=3)).map(tuple)
)


@given(USAGES, USAGES)
def test_two_turns_use_what_both_used(one: Usage, two: Usage) -> None:
    both = one.plus(two)
    for name in COUNTS:
        assert getattr(both, name) == getattr(one, name) + getattr(two, name)
    assert both.prompt_tokens == one.prompt_tokens + two.prompt_tokens
    assert set(both.unpriced) == {*one.unpriced, *two.unpriced}


def test_a_field_without_a_price_in_any_turn_is_remembered() -> None:
    assert Usage(unpriced=("x",)).plus(Usage()).unpriced == ("x",)


def test_tier_geography_and_speed_are_those_of_the_later_turn() -> None:
    early = Usage(service_tier="standard", inference_geo="global", speed="standard")
    late = Usage(service_tier="batch", inference_geo="us", speed="fast")
    both = early.plus(late)
    assert (both.service_tier, both.inference_geo, both.speed) == ("batch", "us", "fast")


def test_all_input_counts_as_prompt_cached_or_not() -> None:
    usage = Usage(input_tokens=1, cache_write_5m=10, cache_write_1h=100, cache_read=1000, output_tokens=7)
    assert usage.prompt_tokens == 1111


MODULES = [
    importlib.import_module(f"runner.domain.{found.name}") for found in pkgutil.iter_modules(runner.domain.__path__)
]
# Arithmetic of limits and budgets, owned by one gate, transaction or estimate each, and the counts of one import.
TURNED_IN_PLACE = {"Bucket", "Buckets", "BudgetChange", "Changes", "Imported", "_Load"}
VALUES = {
    value
    for module in MODULES
    for _, value in inspect.getmembers(module, inspect.isclass)
    if (issubclass(value, Struct) or dataclasses.is_dataclass(value))
    and value.__module__.startswith("runner.domain.")
    and value.__name__ not in TURNED_IN_PLACE
}


@pytest.mark.parametrize("value", sorted(VALUES, key=lambda v: v.__qualname__), ids=lambda v: v.__qualname__)
def test_domain_values_are_frozen_and_made_by_keyword(value: Any) -> None:
    config = value.__struct_config__ if issubclass(value, Struct) else value.__dataclass_params__
    assert config.frozen
    kinds = {p.kind for p in inspect.signature(value).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
