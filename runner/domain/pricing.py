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
from typing import Any

from runner.domain.outcome import Usage
from runner.domain.request import MessagesRequest

PICO_PER_USD = 10**12
PICO_PER_MICRO = 10**6  # a price of 1 USD per million tokens is 10^6 pico-dollars a token
# The most that any known model asks of a prefix before it caches it; what a book that does not say is taken to mean.
LONGEST_MINIMUM_TOKENS = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Prices of one model for prompts above `above_tokens`, in pico-dollars a token before any discount."""

    above_tokens: int
    input: Fraction
    output: Fraction
    cache_write_5m: Fraction
    cache_write_1h: Fraction
    cache_read: Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What is known of a model. `bands` are ordered by `above_tokens`; the last that the prompt passes applies.

    A prefix of fewer than `min_cache_tokens` is silently not cached.
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
    retires: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rates:
    """A band's prices with every factor applied, as whole numbers over one divisor: fast, and exact all the same."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    divisor: int


_RatesKey = tuple[str, int, bool, str | None, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceBook:
    """A dated table of models. `version` is stored with each cost."""

    version: str
    batch_multiplier: Fraction
    web_search_pico: int
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
        facts = self.find(model)
        if facts is None or usage.unpriced:
            return None
        band = _band(facts, usage.prompt_tokens)
        rates = self._rates_of(facts, band, usage, batch=batch)
        if rates is None:
            return None
        tokens = (
            usage.input_tokens * rates.input
            + usage.cache_write_5m * rates.cache_write_5m
            + usage.cache_write_1h * rates.cache_write_1h
            + usage.cache_read * rates.cache_read
            + usage.output_tokens * rates.output
        )
        # An override that is not a whole number of pico-dollars a token rounds up, once, at the end.
        return -(-tokens // rates.divisor) + usage.web_searches * self.web_search_pico

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
        """The most that a request can cost, None where nothing bounds it."""
        if request.prompt_tokens_bound is None:
            return None
        return self.bound_pico(
            request.model,
            prompt_tokens=request.prompt_tokens_bound,
            max_tokens=request.max_tokens,
            batch=batch,
            geo=request.inference_geo,
            speed=request.speed,
        )


def _band(facts: ModelFacts, prompt_tokens: int) -> Band:
    if len(facts.bands) == 1:
        return facts.bands[0]
    return next(band for band in reversed(facts.bands) if prompt_tokens > band.above_tokens)


def _rates(band: Band, factor: Fraction) -> _Rates:
    names = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    prices = {name: getattr(band, name) * factor for name in names}
    divisor = math.lcm(*(price.denominator for price in prices.values()))
    return _Rates(divisor=divisor, **{name: int(price * divisor) for name, price in prices.items()})


def _whole(amount: Fraction) -> int:
    return -((-amount.numerator) // amount.denominator)


@cache
def shipped_prices() -> PriceBook:
    """The price book of this release."""
    text = resources.files("runner.domain").joinpath("models.json").read_text(encoding="utf-8")
    return price_book(json.loads(text))


def price_book(told: Mapping[str, Any]) -> PriceBook:
    """A price book from its JSON form (`runner/domain/models.json` shows it)."""
    models: dict[str, ModelFacts] = {}
    for entry in told["models"]:
        facts = _facts(entry)
        models.update(dict.fromkeys((facts.id, *facts.aliases), facts))
    return PriceBook(
        version=told["version"],
        batch_multiplier=Fraction(str(told["batch_multiplier"])),
        web_search_pico=_whole(Fraction(str(told["web_search_usd"])) * PICO_PER_USD),
        models=models,
        retired=told["retired"],
    )


def _facts(entry: Mapping[str, Any]) -> ModelFacts:
    return ModelFacts(
        id=entry["id"],
        aliases=tuple(entry["aliases"]),
        line=entry["line"],
        status=entry["status"],
        limit_class=entry["limit_class"],
        context_window=entry["context_window"],
        max_output=entry["max_output"],
        bands=tuple(_priced(band) for band in entry["bands"]),
        fast_multiplier=_fraction(entry["fast_multiplier"]),
        us_geo_multiplier=_fraction(entry["us_geo_multiplier"]),
        min_cache_tokens=entry.get("min_cache_tokens", LONGEST_MINIMUM_TOKENS),
        retires=entry.get("retires"),
    )


def _priced(band: Mapping[str, Any]) -> Band:
    names = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    return Band(
        above_tokens=band["above_tokens"],
        **{name: Fraction(str(band[name])) * PICO_PER_MICRO for name in names},
    )


def _fraction(value: float | None) -> Fraction | None:
    return None if value is None else Fraction(str(value))
