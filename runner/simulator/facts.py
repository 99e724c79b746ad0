"""Prices, limits and per-model rules as the service publishes them, read from `facts.json`.

A second reading, made apart from `runner.domain`, so that a slip in one of the two shows. It knows data only: what
to refuse, to charge or to hold back is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from importlib import resources

import msgspec

MILLION = 1_000_000


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in USD per million tokens for prompts longer than `above_tokens`."""

    above_tokens: int
    input: str
    output: str

    @property
    def input_usd(self) -> Fraction:
        return Fraction(self.input) / MILLION

    @property
    def output_usd(self) -> Fraction:
        return Fraction(self.output) / MILLION


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs and accepts."""

    id: str
    aliases: tuple[str, ...]
    display_name: str
    line: str
    lifecycle: str
    created_at: str
    deprecated_at: str | None
    retires_at: str | None
    limit_class: str
    context_window: int
    max_output: int
    bands: tuple[Band, ...]
    cache_read: str
    min_cache_tokens: int
    us_geo: bool
    fast: str  # none, open, beta (needs a header) or ignored (accepted, served at standard speed)
    thinking: tuple[str, ...]
    thinking_disabled_max_effort: str | None
    effort: tuple[str, ...]
    forced_tool_choice: bool
    prefill: bool
    sampling: str  # free, one_of_two (not temperature with top_p) or default_only
    refused_tools: tuple[str, ...]


class ClassLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, input tokens and output tokens a minute."""

    rpm: int
    itpm: int
    otpm: int


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Calls a minute to all batch endpoints together, and requests not yet done in all batches."""

    rpm: int
    queued: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `facts.json`."""

    prices_as_of: str
    multipliers: Mapping[str, str]
    web_search_usd: str
    models: tuple[Model, ...]
    retired: frozenset[str]
    limits: Mapping[str, Mapping[str, ClassLimits]]
    count_tokens_rpm: Mapping[str, int]
    batch_limits: Mapping[str, BatchLimits]
    body_limits: Mapping[str, int]
    betas: frozenset[str]


@cache
def facts() -> Facts:
    """The facts that ship with this package."""
    text = resources.files("runner.simulator").joinpath("facts.json").read_bytes()
    return msgspec.json.decode(text, type=Facts)


@cache
def _models_by_name() -> dict[str, Model]:
    return {name: model for model in facts().models for name in (model.id, *model.aliases)}


def find_model(name: str) -> Model | None:
    """The model of an id or alias; None when unknown or retired."""
    return _models_by_name().get(name)
