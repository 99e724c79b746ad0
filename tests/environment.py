"""The environment of a process that a test starts: this one, without anything that could reach a real service, a
proxy or somebody's store, that changes what a terminal shows, or makes each start compile all modules anew."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = (
    "ANTHROPIC_",
    "RUNNER_",
    "XDG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "CI",
    "NO_COLOR",
    "FORCE_COLOR",
    "PYTHONDONTWRITEBYTECODE",
)


def foreign_names() -> list[str]:
    """What is set here and must not be seen by what is tested."""
    return [name for name in os.environ if name.startswith(FOREIGN) and not name.startswith("RUNNER_TEST")]


def clean_environment(**told: str) -> dict[str, str]:
    """Ours without those, and with what is told; this checkout is what is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "PYTHONPATH": str(ROOT), **told}
