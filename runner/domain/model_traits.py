"""What each model takes and refuses, from `model_traits.json`: the facts behind the rules of `traps`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from msgspec import Struct


class ModelTraits(Struct, frozen=True, kw_only=True):
    """One model. `thinking` are the types it takes, `thinking_refused` those that it certainly does not; of others
    nothing is known. `sampling` is free, one_of_two or default_only; `fast` is open, preview, ignored or none.
    `max_output_batch` is what a beta allows in batches; `disabled_up_to` the highest effort without thinking.
    """

    id: str
    aliases: tuple[str, ...]
    context: int
    max_output: int
    max_output_batch: int | None
    thinking: tuple[str, ...]
    thinking_refused: tuple[str, ...]
    thinking_default: str
    disabled_up_to: str | None
    effort: tuple[str, ...]
    default_effort: str | None
    forced_tool_choice: bool
    prefill: bool
    sampling: str
    geo: bool
    fast: str
    refused_tools: tuple[str, ...]
    doubtful_tools: tuple[str, ...]
    bound_thinking: bool
    retention_30_days: bool
    restricted: bool
    system_turns: bool


@cache
def _by_name() -> Mapping[str, ModelTraits]:
    told = json.loads(resources.files("runner.domain").joinpath("model_traits.json").read_text(encoding="utf-8"))
    found: dict[str, ModelTraits] = {}
    for entry in told["models"]:
        lists: dict[str, Any] = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
        traits = ModelTraits(**{**entry, **lists})
        found |= dict.fromkeys((traits.id, *traits.aliases), traits)
    return found


def traits_of(model: str) -> ModelTraits | None:
    """The traits of an id or alias, None where the model is not known."""
    return _by_name().get(model)


def models_with(**wanted: object) -> list[str]:
    """Ids of models whose traits have these values, the newest first."""
    every = dict.fromkeys(_by_name().values())
    return [traits.id for traits in every if all(getattr(traits, name) == value for name, value in wanted.items())]
