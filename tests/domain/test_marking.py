"""A mark of ours for the prompt cache: where it stands, and when it pays."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.marking import (
    BATCH_HIT_SHARE,
    EPHEMERAL,
    Head,
    brings_marks,
    kept_in_batch,
    kept_live,
    may_carry,
    pays_behind,
)
from runner.domain.outcome import Usage
from runner.domain.prefix import PrefixReader, kept_longer
from runner.domain.pricing import PICO_PER_USD, shipped_prices

PRICES = shipped_prices()
SONNET = "claude-sonnet-4-6"
TEXT = {"type": "text", "text": "rules"}


def head(section: str, at: int = 0, turn: int = 0) -> Head:
    return Head(section=section, at=at, turn=turn, tokens=2_000, bytes=8_000)


def body(**more: Any) -> dict[str, Any]:
    return {"model": SONNET, "max_tokens": 10, "messages": [{"role": "user", "content": "row"}], **more}


PLACES: dict[str, tuple[Head, dict[str, Any], dict[str, Any]]] = {
    "a system prompt that is a text": (
        head("system"),
        {"system": "rules"},
        {"system": [{**TEXT, "cache_control": EPHEMERAL}]},
    ),
    "the first of two system blocks": (
        head("system"),
        {"system": [TEXT, TEXT]},
        {"system": [{**TEXT, "cache_control": EPHEMERAL}, TEXT]},
    ),
    "the last tool": (
        head("tools", at=1),
        {"tools": [{"name": "a"}, {"name": "b"}]},
        {"tools": [{"name": "a"}, {"name": "b", "cache_control": EPHEMERAL}]},
    ),
    "a turn of an example": (
        head("messages", turn=1),
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": [{"type": "text", "text": "a", "cache_control": EPHEMERAL}]},
            ]
        },
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_mark_stands_at_the_end_of_what_all_begin_with_and_nothing_else_is_touched(place: str) -> None:
    where, before, after = PLACES[place]
    told = body(**before)
    kept = deepcopy(told)
    assert where.marked(told) == body(**after)
    assert told == kept


@pytest.mark.parametrize(
    "other",
    [body(), body(system=[]), body(system=[{"type": "text", "text": ""}]), body(system=7)],
)
def test_a_body_that_does_not_begin_so_stays_as_it_is(other: dict[str, Any]) -> None:
    assert head("system").marked(other) is other


def test_what_cannot_carry_a_mark() -> None:
    assert may_carry(TEXT)
    assert may_carry({"name": "a tool", "input_schema": {}})
    for block in (
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": " "},
        {"name": "found when needed", "defer_loading": True},
        "no block",
    ):
        assert not may_carry(block)


@pytest.mark.parametrize(
    "own",
    [
        {"cache_control": EPHEMERAL},
        {"system": [{**TEXT, "cache_control": EPHEMERAL}]},
        {"tools": [{"name": "a", "cache_control": EPHEMERAL}]},
        {"messages": [{"role": "user", "content": [{**TEXT, "cache_control": EPHEMERAL}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{**TEXT, "cache_control": {}}]}]}
            ]
        },
    ],
)
def test_marks_that_somebody_placed_are_found_wherever_they_stand(own: dict[str, Any]) -> None:
    assert brings_marks(body(**own))
    assert not brings_marks(body(system="cache_control"))


def test_live_it_pays_from_the_second_call_on_when_it_is_worth_the_wait() -> None:
    long = 100_000
    kept = kept_live(PRICES, SONNET, long, 2)
    assert kept is not None
    price = PRICES.cost_pico(SONNET, Usage(input_tokens=long))
    assert price is not None
    assert kept.plain_pico == 2 * price
    assert kept.kept_pico == price * 5 // 4 + price // 10
    assert kept_live(PRICES, SONNET, long, 1) is None
    # 1,100 tokens at $3 a million: $0.0033 a row, so that some rows save a cent.
    assert kept_live(PRICES, SONNET, 1_100, 3) is None
    assert kept_live(PRICES, SONNET, 1_100, 30) is not None


@pytest.mark.parametrize("model", [facts.id for facts in PRICES.models.values()])
def test_below_the_shortest_beginning_that_a_model_keeps_there_is_no_mark(model: str) -> None:
    least = PRICES.models[model].min_cache_tokens
    assert kept_live(PRICES, model, least - 1, 10**9) is None
    assert kept_in_batch(PRICES, model, least - 1, 10**9) is None
    assert kept_live(PRICES, model, least, 10**6) is not None
    assert kept_in_batch(PRICES, model, least, 10**6) is not None


def test_in_a_batch_it_has_to_be_worth_half_an_hour() -> None:
    # $1.50 a million in a batch: 2,000 tokens of 1,000 rows are $3.00, and 23.5% of that is saved.
    assert kept_in_batch(PRICES, SONNET, 2_000, 1_000) is None
    kept = kept_in_batch(PRICES, SONNET, 2_000, 10_000)
    assert kept is not None
    assert kept.plain_pico == 30 * PICO_PER_USD
    assert kept.saved_pico == pytest.approx(0.235 * kept.plain_pico, rel=0.001)


def test_fewer_hits_than_about_half_cost_more_than_no_mark_at_all() -> None:
    assert pays_behind(PRICES, SONNET, BATCH_HIT_SHARE)
    assert pays_behind(PRICES, SONNET, 0.53)
    assert not pays_behind(PRICES, SONNET, 0.52)
    assert kept_in_batch(PRICES, SONNET, 2_000, 10**6, hit_share=0.5) is None
    assert not pays_behind(PRICES, "nobody-knows", 1.0)


@given(
    tokens=st.integers(0, 200_000),
    rows=st.integers(0, 10**6),
    model=st.sampled_from([facts.id for facts in PRICES.models.values()]),
)
def test_a_mark_is_never_placed_at_a_loss(tokens: int, rows: int, model: str) -> None:
    for kept in (kept_live(PRICES, model, tokens, rows), kept_in_batch(PRICES, model, tokens, rows)):
        assert kept is None or kept.saved_pico > 0


def test_a_mark_of_ours_is_a_prefix_like_any_other() -> None:
    told = head("system").marked(body(system="rules " * 1_000))
    (prefix,) = PrefixReader().prefixes(told)
    assert prefix.ttl == "5m"
    assert kept_longer(told, 1)["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert EPHEMERAL == {"type": "ephemeral"}
