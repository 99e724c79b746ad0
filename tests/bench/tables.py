"""Numbers as tables of Markdown, so that what is printed can be kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.processes import Cores

SHOWN_PACKAGES = ("anthropic", "httpx2", "aiohttp", "litellm", "httpx", "anyio", "uvloop", "sqlalchemy")


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    widths = [max(len(line[place]) for line in (head, *rows)) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(head, widths), _line(rule, widths), *(_line(row, widths) for row in rows)]
    return "\n".join((f"**{title}**", "", *lines, ""))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def surroundings(cores: Cores) -> str:
    """What the numbers depend on."""
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(f"{name} {found}" for name in SHOWN_PACKAGES if (found := _version(name)))
    return "\n".join(
        (
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- {_processor()}, {os.cpu_count()} cores; {cores.sentence}{load}",
            f"- {platform.system()} {platform.release()}, Python {platform.python_version()}; {versions}",
            "",
        )
    )


def _version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
