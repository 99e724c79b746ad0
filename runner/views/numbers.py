"""Counts for people."""

from __future__ import annotations

# Up to here a number is as quick to read as its abbreviation.
EXACT_BELOW = 9_999.5


def count(number: int) -> str:
    """`4,812`."""
    return f"{number:,}"


def brief(number: float) -> str:
    """Three digits that count and a letter: `380`, `1,000`, `68.2k`, `551k`, `1.45M`."""
    if number < EXACT_BELOW:
        return f"{number:,.0f}"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,600 is 1M and not 1000k.
        if number >= unit * 0.9995:
            return f"{number / unit:.3g}{letter}" if number < unit * 999.5 else f"{number / unit:.0f}{letter}"
    raise AssertionError("unreachable")


def percent(part: float, whole: float) -> str:
    """`50.1%`; 100% only when all is there, 0% only when nothing is."""
    if whole <= 0:
        return "0.0%"
    shown = round(100 * part / whole, 1)
    if part < whole:
        shown = min(shown, 99.9)
    if part > 0:
        shown = max(shown, 0.1)
    return f"{shown:.1f}%"


def byte_size(number: int) -> str:
    """`812 KB`, `1.45 GB`; powers of ten."""
    if number < 1_000:
        return f"{number} bytes"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}" if number < unit * 999.5 else f"{number / unit:.0f} {name}"
    raise AssertionError("unreachable")
