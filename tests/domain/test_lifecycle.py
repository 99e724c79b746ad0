"""Retirements are told in time, with what is known of them and no more."""

from __future__ import annotations

from datetime import date

import pytest

from runner.domain.lifecycle import lifecycle_warnings
from runner.domain.pricing import shipped_prices

TODAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("model", "today", "words"),
    [
        ("claude-sonnet-4-5", TODAY, "retires on 2026-11-30, in 9 days"),
        ("claude-sonnet-4-5", date(2026, 11, 30), "retires on 2026-11-30, today"),
        ("claude-sonnet-4-5", date(2026, 12, 1), "was to retire on 2026-11-30"),
        ("claude-haiku-4-5", TODAY, "has been possible since 2026-10-15"),
        ("claude-opus-4-5", TODAY, "is possible from 2026-11-24"),
        ("claude-opus-4-8", TODAY, "fast mode of claude-opus-4-8 ends on 2026-11-30"),
        ("claude-opus-4-8", date(2026, 12, 1), "fast mode of claude-opus-4-8 ended"),
    ],
)
def test_what_goes_soon_is_told(model: str, today: date, words: str) -> None:
    facts = shipped_prices().find(model)
    assert facts is not None
    assert words in " ".join(lifecycle_warnings(facts, today))


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-mythos-5", "claude-opus-5"])
def test_of_what_stays_nothing_is_said(model: str) -> None:
    facts = shipped_prices().find(model)
    assert facts is not None
    assert lifecycle_warnings(facts, TODAY) == []


def test_fast_mode_is_of_interest_to_those_who_use_it() -> None:
    facts = shipped_prices().find("claude-opus-4-8")
    assert facts is not None
    assert lifecycle_warnings(facts, TODAY, fast=False) == []
