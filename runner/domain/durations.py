"""A length of time as people write it: `90s`, `10m`, `1.5h`, `2d`, or a number of seconds. Pure."""

from __future__ import annotations

import re

LONGEST_S = 366 * 86_400
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([smhd])")


def seconds_of(told: object) -> float | None:
    """In seconds; None for what is no length of time. A text has a unit: `0800` is not 800 seconds."""
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return float(told)
    found = _TEXT.fullmatch(told.strip()) if isinstance(told, str) else None
    return float(found[1]) * UNITS_S[found[2]] if found else None


def up_to_a_year(told: object) -> int:
    """In whole seconds. Raises ValueError, the end of a sentence."""
    seconds = seconds_of(told)
    if seconds is None:
        raise ValueError("must be a time such as 10m, 6h or 2d")
    if not 0 <= seconds <= LONGEST_S:
        raise ValueError("must be at most a year")
    return round(seconds)
