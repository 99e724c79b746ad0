"""A line of a live screen: a label, figures as far as there is room, and bars."""

from __future__ import annotations

LABEL_WIDTH = 10
ROWS_BAR = 28
LIMIT_BAR = 12
# Below this there is no room for a bar beside its numbers.
BARS_FROM = 72
FIGURES_WIDTH = 30
SOURCE_WIDTH = 24
GAP = "   "


def labelled(label: str, parts: list[str], width: int, *, before: str = "", gap: str = GAP) -> str:
    """A label and as many parts as there is room for; the first part is always there."""
    shown = [part for part in parts if part]
    while len(shown) > 1 and LABEL_WIDTH + len(before) + len(gap.join(shown)) > width:
        shown.pop()
    return fitted(f"{label:{LABEL_WIDTH}}{before}{gap.join(shown)}".rstrip(), width)


def fitted(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."


def bar(part: float, whole: float, width: int) -> str:
    """Full only when all of it is there."""
    share = min(part / whole, 1.0) if whole > 0 else 0.0
    full = int(share * width)
    return f"[{'#' * full}{'-' * (width - full)}]"


def rows_bar(ended: int, with_api: int, unknown: int, whole: int, width: int) -> str:
    """`#` for rows that have ended, `=` for those with the service, `?` for those that may be, `.` for the rest."""
    marks, upto, rows = "", 0, 0
    for mark, more in (("#", ended), ("=", with_api), ("?", unknown)):
        rows += more
        end = min(rows * width // whole, width) if whole > 0 else 0
        marks += mark * (end - upto)
        upto = end
    return f"[{marks:.<{width}}]"
