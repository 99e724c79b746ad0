"""What a call costs, in integer pico-dollars (10^-12 USD), in which every product of prices is exact.

The price book is data with a date; a model or a usage kind that it does not know makes a cost unknown (None),
never nothing. Only display rounds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from msgspec import Struct

from runner.domain.outcome import Usage
from runner.domain.request import MessagesRequest

PICO_PER_USD = 10**12
PICO_PER_MICRO = 10**6  # a price of 1 USD per million tokens is 10^6 pico-dollars a token
# The most that any known model asks of a prefix before it caches it; what a book that does not say is taken to mean.
LONGEST_MINIMUM_TOKENS = 4_096
# What the API calls a web search where it counts the uses of server tools.
WEB_SEARCH = "web_search_requests"


class Band(Struct, frozen=True, kw_only=True):
    """Prices of one model for prompts above `above_tokens`, in pico-dollars a token before any discount."""

    above_tokens: int
    input: Fraction
    output: Fraction
    cache_write_5m: Fraction
    cache_write_1h: Fraction
    cache_read: Fraction


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What is known of a model. `bands` are ordered by `above_tokens`; the last that the prompt passes applies.

    A prefix of fewer than `min_cache_tokens` is silently not cached. `max_output_batch` is what a beta lets it write
    in a batch, None where that is no more. Dates are as published: `retires` is one, or `not before` one.
    `fast_beta`: fast mode needs a beta header; `fast_until` is its last day.
    """

    id: str
    aliases: tuple[str, ...]
    line: str
    status: str
    limit_class: str
    context_window: int
    max_output: int
    bands: tuple[Band, ...]
    fast_multiplier: Fraction | None
    us_geo_multiplier: Fraction | None
    min_cache_tokens: int = LONGEST_MINIMUM_TOKENS
    max_output_batch: int | None = None
    released: str | None = None
    deprecated: str | None = None
    retires: str | None = None
    fast_beta: bool = False
    fast_until: str | None = None


class Price(Struct, frozen=True, kw_only=True):
    """What a call costs, what it would cost outside of a batch, and what it would cost there without a prompt cache:
    every prompt token at the price of input. Speed, geography and fees are the same in all three."""

    cost_pico: int
    unbatched_pico: int
    list_pico: int


class _Rates(Struct, frozen=True, kw_only=True):
    """A band's prices with every factor applied, as whole numbers over one divisor: fast, and exact all the same."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    divisor: int

    def of(self, usage: Usage) -> int:
        """What these tokens cost. An override that is no whole number of pico-dollars a token rounds up, once."""
        tokens = (
            usage.input_tokens * self.input
            + usage.cache_write_5m * self.cache_write_5m
            + usage.cache_write_1h * self.cache_write_1h
            + usage.cache_read * self.cache_read
            + usage.output_tokens * self.output
        )
        return -(-tokens // self.divisor)

    def uncached(self, usage: Usage) -> int:
        """What they would cost were no token of the prompt written to the cache or read from it."""
        return -(-(usage.prompt_tokens * self.input + usage.output_tokens * self.output) // self.divisor)


class _Told(NamedTuple):
    """What there is to a call's price."""

    facts: ModelFacts
    band: Band
    rates: _Rates
    fees_pico: int


_RatesKey = tuple[str, int, bool, str | None, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceBook:
    """A dated table of models. `version` is stored with each cost; `fees` are those of one use of a server tool, in
    pico-dollars, by the name under which the API counts them."""

    version: str
    batch_multiplier: Fraction
    fees: Mapping[str, Fraction]
    models: Mapping[str, ModelFacts]
    retired: Mapping[str, str]
    _rates: dict[_RatesKey, _Rates | None] = field(default_factory=dict, compare=False, repr=False)

    def find(self, model: str) -> ModelFacts | None:
        """The facts of an id or alias."""
        return self.models.get(model)

    def limit_class(self, model: str) -> str:
        """What shares its limits with the model; one that is not known shares them with nobody."""
        facts = self.find(model)
        return facts.limit_class if facts else model

    def cost_pico(self, model: str, usage: Usage, *, batch: bool = False) -> int | None:
        """The exact cost of one call, or None where a price is not known."""
        told = self._told(model, usage, batch=batch)
        return None if told is None else told.rates.of(usage) + told.fees_pico

    def price(self, model: str, usage: Usage, *, batch: bool = False) -> Price | None:
        """The exact cost of one call and what it would be without the discounts, or None where a price is not
        known."""
        told = self._told(model, usage, batch=batch)
        if told is None:
            return None
        standard = self._rates_of(told.facts, told.band, usage, batch=False) if batch else told.rates
        if standard is None:
            return None
        cost = told.rates.of(usage)
        unbatched = standard.of(usage) if batch else cost
        cached = usage.prompt_tokens > usage.input_tokens
        listed = standard.uncached(usage) if cached else unbatched
        fees = told.fees_pico
        return Price(cost_pico=cost + fees, unbatched_pico=unbatched + fees, list_pico=listed + fees)

    def _told(self, model: str, usage: Usage, *, batch: bool) -> _Told | None:
        facts = self.find(model)
        if facts is None or usage.unpriced:
            return None
        fees_pico = self._fees(usage)
        band = _band(facts, usage.prompt_tokens)
        rates = self._rates_of(facts, band, usage, batch=batch)
        if rates is None or fees_pico is None:
            return None
        return _Told(facts, band, rates, fees_pico)

    def _fees(self, usage: Usage) -> int | None:
        """What server tools cost; a batch does not halve it."""
        if not usage.web_searches and not usage.uses:
            return 0
        total = Fraction()
        for name, uses in ((WEB_SEARCH, usage.web_searches), *usage.uses):
            fee = self.fees.get(name)
            if uses and fee is None:
                return None
            total += uses * (fee or 0)
        return _whole(total)

    def _rates_of(self, facts: ModelFacts, band: Band, usage: Usage, *, batch: bool) -> _Rates | None:
        key = (facts.id, band.above_tokens, batch, usage.inference_geo, usage.speed)
        if key not in self._rates:
            factor = self._factor(facts, usage, batch=batch)
            self._rates[key] = None if factor is None else _rates(band, factor)
        return self._rates[key]

    def _factor(self, facts: ModelFacts, usage: Usage, *, batch: bool) -> Fraction | None:
        factor = self.batch_multiplier if batch else Fraction(1)
        if usage.inference_geo == "us":
            if facts.us_geo_multiplier is None:
                return None
            factor *= facts.us_geo_multiplier
        if usage.speed == "fast":
            if facts.fast_multiplier is None:
                return None
            factor *= facts.fast_multiplier
        return factor

    def bound_pico(
        self,
        model: str,
        *,
        prompt_tokens: int,
        max_tokens: int,
        batch: bool = False,
        geo: str | None = None,
        speed: str | None = None,
    ) -> int | None:
        """The most that a call can cost: every prompt token at the dearest input kind, every output token made.

        `max_tokens` is taken as it stands: a beta raises a model's `max_output` in batches, and where it is
        over the model's limit the API refuses the call, so that the larger bound costs nothing.
        """
        facts = self.find(model)
        if facts is None:
            return None
        usage = Usage(
            cache_write_1h=prompt_tokens,
            output_tokens=max_tokens,
            inference_geo="us" if geo != "global" and facts.us_geo_multiplier else None,
            speed=speed,
        )
        return self.cost_pico(facts.id, usage, batch=batch)

    def worst_pico(self, request: MessagesRequest, *, batch: bool = False) -> int | None:
        """The most that a request can cost, None where nothing bounds it. One that is longer than the model's context
        is refused, and costs nothing."""
        facts = self.find(request.model)
        if request.prompt_tokens_bound is None or facts is None:
            return None
        return self.bound_pico(
            request.model,
            prompt_tokens=min(request.prompt_tokens_bound, facts.context_window),
            max_tokens=request.max_tokens,
            batch=batch,
            geo=request.inference_geo,
            speed=request.speed,
        )


def _band(facts: ModelFacts, prompt_tokens: int) -> Band:
    for band in reversed(facts.bands):
        if prompt_tokens > band.above_tokens:
            return band
    return facts.bands[0]


def _rates(band: Band, factor: Fraction) -> _Rates:
    prices = {name: getattr(band, name) * factor for name in PRICE_KINDS}
    divisor = math.lcm(*(price.denominator for price in prices.values()))
    return _Rates(divisor=divisor, **{name: int(price * divisor) for name, price in prices.items()})


def _whole(amount: Fraction) -> int:
    return -((-amount.numerator) // amount.denominator)


@cache
def shipped_json() -> Mapping[str, Any]:
    """The price table of this release in its JSON form."""
    text = resources.files("runner.domain").joinpath("models.json").read_text(encoding="utf-8")
    told: dict[str, Any] = json.loads(text)
    return told


@cache
def shipped_prices() -> PriceBook:
    """The price book of this release."""
    return price_book(shipped_json())


def price_book(told: Mapping[str, Any]) -> PriceBook:
    """A price book from its JSON form (`runner/domain/models.json` shows it)."""
    models: dict[str, ModelFacts] = {}
    for entry in told["models"]:
        facts = _facts(entry)
        models.update(dict.fromkeys((facts.id, *facts.aliases), facts))
    return PriceBook(
        version=told["version"],
        batch_multiplier=Fraction(str(told["batch_multiplier"])),
        fees={name: Fraction(str(usd)) * PICO_PER_USD for name, usd in told["server_tools"].items()},
        models=models,
        retired=told["retired"],
    )


def _facts(entry: Mapping[str, Any]) -> ModelFacts:
    told = {name: value for name, value in entry.items() if name not in _READ_APART}
    return ModelFacts(
        **told,
        aliases=tuple(entry["aliases"]),
        bands=tuple(_priced(band) for band in entry["bands"]),
        fast_multiplier=_fraction(entry["fast_multiplier"]),
        us_geo_multiplier=_fraction(entry["us_geo_multiplier"]),
    )


_READ_APART = frozenset({"aliases", "bands", "fast_multiplier", "us_geo_multiplier"})
PRICE_KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")


def _priced(band: Mapping[str, Any]) -> Band:
    return Band(
        above_tokens=band["above_tokens"],
        **{name: Fraction(str(band[name])) * PICO_PER_MICRO for name in PRICE_KINDS},
    )


def _fraction(value: Any) -> Fraction | None:
    return None if value is None else Fraction(str(value))
