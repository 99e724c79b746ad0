"""The name that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, choices: Iterable[str]) -> str | None:
    """The choice nearest to `name`, None where none is near. Case alone is the nearest of differences."""
    by_folded: dict[str, str] = {}
    for choice in choices:
        by_folded.setdefault(choice.casefold(), choice)
    # Letters in the wrong order are the commonest slip, and a ratio of lengths does not see it.
    swapped = [folded for folded in by_folded if sorted(folded) == sorted(name.casefold())]
    near = swapped or difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or nothing, to be put after a sentence's last word."""
    near = suggest(name, choices)
    return f' (did you mean "{near}"?)' if near else ""
