"""The runner's price book and reading of the rules, and the simulator's, were written apart; they agree."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.outcome import Usage
from runner.domain.pricing import shipped_prices
from runner.domain.request import refused_in_batch
from runner.simulator.batch_verdicts import Judge
from runner.simulator.billing import PICO_PER_USD, cost_usd
from runner.simulator.config import SimulatorConfig
from runner.simulator.facts import Model, facts

COUNTS = st.integers(0, 300_000)
MODELS = {model.id: model for model in facts().models}


def usage(model: Model, counts: list[int], us: bool, fast: bool, searches: int) -> dict[str, Any]:
    return {
        "input_tokens": counts[0],
        "cache_creation": {"ephemeral_5m_input_tokens": counts[1], "ephemeral_1h_input_tokens": counts[2]},
        "cache_read_input_tokens": counts[3],
        "output_tokens": counts[4],
        "server_tool_use": {"web_search_requests": searches} if searches else None,
        "inference_geo": ("us" if us else "global") if model.us_geo else None,
        "speed": "fast" if fast and model.fast in ("open", "beta") else "standard",
    }


def as_runner_reads(used: dict[str, Any]) -> Usage:
    searched = used["server_tool_use"] or {"web_search_requests": 0}
    return Usage(
        input_tokens=used["input_tokens"],
        cache_write_5m=used["cache_creation"]["ephemeral_5m_input_tokens"],
        cache_write_1h=used["cache_creation"]["ephemeral_1h_input_tokens"],
        cache_read=used["cache_read_input_tokens"],
        output_tokens=used["output_tokens"],
        web_searches=searched["web_search_requests"],
        inference_geo=used["inference_geo"],
        speed=used["speed"],
    )


@pytest.mark.parametrize("name", sorted(MODELS))
@given(
    counts=st.lists(COUNTS, min_size=5, max_size=5),
    flags=st.tuples(st.booleans(), st.booleans()),
    searches=st.integers(0, 3),
    batch=st.booleans(),
)
def test_both_price_books_give_the_same_cost(
    name: str, counts: list[int], flags: tuple[bool, bool], searches: int, batch: bool
) -> None:
    used = usage(MODELS[name], counts, flags[0], flags[1] and not batch, searches)
    mine = cost_usd(name, used, batch=batch) * PICO_PER_USD
    assert shipped_prices().cost_pico(name, as_runner_reads(used), batch=batch) == mine


def test_both_know_the_same_models_windows_and_limit_classes() -> None:
    book = shipped_prices()
    for model in facts().models:
        for name in (model.id, *model.aliases):
            known = book.find(name)
            assert known is not None, name
            assert (known.context_window, known.max_output) == (model.context_window, model.max_output)
            if model.line != "mythos":  # no class is published for it
                assert known.limit_class == model.limit_class, name
    assert {found.id for found in book.models.values()} == set(MODELS)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"speed": "standard"},
        {"speed": None},
        {"store": False},
        {"previous_thread_event_id": "e"},
        {"thread": {"type": "create"}},
        {"cache_hint": "x"},
        {"context_hint": "x"},
        {"fallbacks": "default"},
        {"research_preview_2026_02": "active"},
        {"research_preview_2026_02": "passive"},
        {"max_tokens": 0},
        {"max_tokens": 1},
        {"stop_sequences": ["x"], "metadata": {"user_id": "u"}, "service_tier": "auto"},
    ],
    ids=str,
)
def test_both_refuse_the_same_fields_in_a_batch(extra: dict[str, Any]) -> None:
    params = {
        "model": "claude-haiku-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "x"}],
        **extra,
    }
    refused = refused_in_batch(params)
    told = Judge(SimulatorConfig(), {}, Counter()).result(json.dumps(params).encode())
    about = told["error"]["error"]["message"].split(":")[0] if told["type"] == "errored" else None
    batches = "message batches" in json.dumps(told)
    assert (about if batches else None) == refused
