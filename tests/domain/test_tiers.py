"""The limits of the tiers: dated data that fits the models that are known."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runner.domain.limits import LimitSource, RateLimits
from runner.domain.pricing import shipped_prices
from runner.domain.tiers import TIERS, tier_limits
from runner.settings_values import TIERS as SETTABLE


def test_each_tier_can_be_set() -> None:
    assert TIERS == SETTABLE


@pytest.mark.parametrize("tier", TIERS)
def test_each_class_belongs_to_a_known_model(tier: str) -> None:
    limits = tier_limits(tier)
    assert set(limits) <= {facts.limit_class for facts in shipped_prices().models.values()}
    assert {known.source for known in limits.values()} == {LimitSource.TIER}
    assert all(all(known.limits) for known in limits.values())


def test_what_is_published_of_the_first_tier() -> None:
    assert tier_limits("start")["opus-5"].limits == RateLimits(1_000, 2_000_000, 400_000)
    assert tier_limits("start")["fable-5.x"].limits == RateLimits(1_000, 500_000, 100_000)


def test_a_higher_tier_gives_no_less() -> None:
    for lower, higher in pairwise(TIERS):
        for name, known in tier_limits(lower).items():
            assert all(a <= b for a, b in zip(known.limits, tier_limits(higher)[name].limits, strict=True))
