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


class Rates(NamedTuple):
    """USD for one token of each kind, every multiplier of a call included."""

    input: Fraction
    write_5m: Fraction
    write_1h: Fraction
    read: Fraction
    output: Fraction


def cost_usd(model_name: str, usage: Mapping[str, Any], *, batch: bool = False) -> Fraction:
    """The price of one finished call, by its usage."""
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
    tokens = sum((count * rate for count, rate in zip(counts, rates, strict=True) if count), Fraction())
    return tokens + _fees(usage)


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


def _fees(usage: Mapping[str, Any]) -> Fraction:
    searched = usage["server_tool_use"] or {}
    count: int = searched.get("web_search_requests", 0)
    return count * Fraction(facts().web_search_usd) if count else Fraction()
