"""A text is made for every simple pattern."""

from __future__ import annotations

import re

import pytest

from runner.simulator.patterns import text_matching

PATTERNS = [
    "^[A-Z]{2}-[0-9]{4}$",
    r"^\d{3}-\d{2}$",
    r"^\w+@\w+\.com$",
    "^(yes|no)$",
    "^a?b*c+$",
    "[^a-z]",
    r"^[^\d\s]+$",
    r"^\+?[1-9]\d{1,14}$",
    "^.{3,5}$",
    r"^\S+\s\S+$",
    "x",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_text_matches_its_pattern(pattern: str) -> None:
    assert re.search(pattern, text_matching(pattern))
