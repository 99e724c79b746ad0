"""What the service would put on the bill for one call, as an exact fraction of a dollar.

A second reading of the price list; nothing rounds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

from runner.simulator.facts import Band, Model, facts, find_model

PICO_PER_USD = 10**12
SEARCHES = "web_search_requests"
# Kinds of tokens as the cost report names them.
KINDS = (
    "uncached_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)


class Rates(NamedTuple):
    """USD for one token of each kind, every multiplier of a call included."""

    input: Fraction
    write_5m: Fraction
    write_1h: Fraction
    read: Fraction
    output: Fraction


def cost_usd(model_name: str, usage: Mapping[str, Any], *, batch: bool = False) -> Fraction:
    """The price of one finished call, by its usage."""
    return sum((cost for _, cost in costs_by_kind(model_name, usage, batch=batch).values()), Fraction())


def costs_by_kind(
    model_name: str, usage: Mapping[str, Any], *, batch: bool = False
) -> dict[str, tuple[int, Fraction]]:
    """How many tokens of each kind, or searches, and what they cost; kinds of which there are none are left out."""
    model = find_model(model_name)
    if model is None:
        raise KeyError(model_name)
    written = usage["cache_creation"] or {}
    counts = (
        usage["input_tokens"],
        written.get("ephemeral_5m_input_tokens", 0),
        written.get("ephemeral_1h_input_tokens", 0),
        usage["cache_read_input_tokens"],
        usage["output_tokens"],
    )
    band = _band_number(model, sum(counts[:4]))
    rates = _rates(model.id, band, usage["inference_geo"] == "us", usage["speed"] == "fast", batch)
    told = {kind: (count, count * rate) for kind, count, rate in zip(KINDS, counts, rates, strict=True) if count}
    searches = (usage["server_tool_use"] or {}).get(SEARCHES, 0)
    if searches:
        told[SEARCHES] = (searches, searches * Fraction(facts().web_search_usd))
    return told


def pico_text(cost: Fraction) -> str:
    """The cost in pico-dollars: a whole number, or `num/den` where it is none."""
    return str(cost * PICO_PER_USD)


def _band_number(model: Model, prompt_tokens: int) -> int:
    return max(number for number, band in enumerate(model.bands) if prompt_tokens > band.above_tokens)


@cache
def _rates(model_id: str, band_number: int, us_geo: bool, fast: bool, batch: bool) -> Rates:
    model = find_model(model_id)
    if model is None:
        raise KeyError(model_id)
    band: Band = model.bands[band_number]
    multipliers = {name: Fraction(value) for name, value in facts().multipliers.items()}
    wanted = {"us_geo": us_geo, "fast": fast, "batch": batch}
    factor = Fraction(1)
    for name in (name for name, holds in wanted.items() if holds):
        factor *= multipliers[name]
    input_usd = band.input_usd * factor
    return Rates(
        input=input_usd,
        write_5m=input_usd * multipliers["cache_write_5m"],
        write_1h=input_usd * multipliers["cache_write_1h"],
        read=input_usd * Fraction(model.cache_read),
        output=band.output_usd * factor,
    )
