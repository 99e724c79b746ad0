"""The published limits of each usage tier, by model class: dated data, and only where nobody knows better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from runner.domain.limits import KnownLimits, LimitSource, RateLimits

TIERS = ("start", "build", "scale")


@cache
def tier_limits(tier: str) -> Mapping[str, KnownLimits]:
    """Limits of every model class on this tier."""
    return {
        name: KnownLimits(limits=RateLimits(**tiers[tier]), source=LimitSource.TIER)
        for name, tiers in _shipped()["model_classes"].items()
    }


@cache
def _shipped() -> Any:
    return json.loads(resources.files("runner.domain").joinpath("rate_limits.json").read_text(encoding="utf-8"))
