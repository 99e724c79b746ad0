"""What commands say on stderr: `error[name]: sentence`, what to do about it under it, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from runner.errors import BudgetReached, Interrupted, NothingToDo, RunnerError, Stalled
from runner.views.safe_text import safe_text

COLORS = {"error": "red", "paused": "yellow", "warning": "yellow"}
# Errors that leave a run whole and waiting: it is paused, nothing broke.
PAUSES = (BudgetReached, Stalled, Interrupted)


def print_error(error: RunnerError) -> None:
    """A RunnerError as people read it."""
    if isinstance(error, NothingToDo):
        say(safe_text(error.message))
        return
    kind = "paused" if isinstance(error, PAUSES) else "error"
    message(kind, error.name, error.message, error.hints, exit_code=error.exit_code)


def message(kind: str, name: str, sentence: str, hints: Sequence[str] = (), *, exit_code: int | None = None) -> None:
    """`kind[name]: sentence`, with its hints indented and the exit code last."""
    say(f"{_styled(f'{kind}[{safe_text(name)}]:', fg=COLORS.get(kind), bold=True)} {_indented(sentence)}")
    for hint in hints:
        say(f"  {_indented(hint)}")
    if exit_code is not None:
        say(_styled(f"  exit {exit_code}", dim=True))


def warning(name: str, sentence: str, hints: Sequence[str] = ()) -> None:
    message("warning", name, sentence, hints)


def say(text: str) -> None:
    """A line on stderr, colours only where they are seen. A live screen that stands in between keeps it above."""
    click.echo(text, file=sys.stderr, color=stderr_has_color())


def stderr_has_color() -> bool:
    """A terminal that shows colours, and nobody who asked for none."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    context = click.get_current_context(silent=True)
    if context is not None and context.find_root().color is False:
        return False
    return sys.stderr.isatty()


def _indented(text: str) -> str:
    return safe_text(text).replace("\n", "\n  ")


def _styled(text: str, **how: object) -> str:
    return click.style(text, **how)  # type: ignore[arg-type]
