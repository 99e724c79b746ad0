"""Tables as lines of text: columns line up, the last ones are dropped where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from rich.cells import cell_len, set_cell_size

from runner.views.safe_text import safe_line

GAP = "  "
PLAIN_GAP = "\t"


class Column(Struct, frozen=True, kw_only=True):
    """`most` cuts long cells; numbers stand at the right."""

    title: str
    right: bool = False
    most: int | None = None


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None, *, plain: bool = False
) -> list[str]:
    """Header and rows. With a `width` the last columns are left out until it fits; `plain` cuts nothing.

    At least the first column is always shown.
    """
    if plain:
        return [PLAIN_GAP.join(_safe(row)) for row in ([column.title for column in columns], *rows)]
    cells = [[column.title for column in columns], *(_cut(columns, row) for row in rows)]
    widths = [max(cell_len(row[number]) for row in cells) for number in range(len(columns))]
    shown = _fitting(widths, width)
    return [_line(columns[:shown], widths, row) for row in cells]


def _safe(row: Sequence[str]) -> list[str]:
    return [safe_line(cell) for cell in row]


def _cut(columns: Sequence[Column], row: Sequence[str]) -> list[str]:
    return [_short(cell, column.most) for column, cell in zip(columns, _safe(row), strict=True)]


def _short(cell: str, most: int | None) -> str:
    if most is None or cell_len(cell) <= most:
        return cell
    return set_cell_size(cell, most - 3).rstrip() + "..."


def _fitting(widths: Sequence[int], width: int | None) -> int:
    if width is None:
        return len(widths)
    shown = len(widths)
    while shown > 1 and sum(widths[:shown]) + len(GAP) * (shown - 1) > width:
        shown -= 1
    return shown


def _line(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> str:
    padded = [
        " " * (widths[number] - cell_len(row[number])) + row[number]
        if column.right
        else set_cell_size(row[number], widths[number])
        for number, column in enumerate(columns)
    ]
    return GAP.join(padded).rstrip()


def facts_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """A label and what there is to say about it, a line each; further lines of one fact stand under it."""
    width = max((len(label) for label, _ in facts), default=0)
    lines = []
    for label, told in facts:
        first, *more = told.split("\n")
        lines.append(f"{label:{width}}  {first}".rstrip())
        lines += [f"{'':{width}}  {line}".rstrip() for line in more]
    return lines
