"""How a run's progress is shown: one class of view for each kind of watcher, chosen in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from rich.console import Console

from runner.domain.progress import Progress
from runner.views.batch_words import BatchNews
from runner.views.progress_lines import ProgressLines, json_line, json_news, local_line, local_news

Kind = Literal["none", "plain", "bar", "json"]


class ProgressView(Protocol):
    """Shows the numbers of a run, and what happens to its batches, from `start` to `stop`; where it `takes_keys` it
    says which."""

    takes_keys: bool

    def start(self) -> None: ...

    def __call__(self, progress: Progress, /) -> None: ...

    def batch(self, news: BatchNews, /) -> None: ...

    def stop(self) -> None: ...


class NoProgress:
    """For -q, and for nobody."""

    takes_keys = False

    def start(self) -> None:
        """Nothing."""

    def __call__(self, progress: Progress, /) -> None:
        """Nothing."""

    def batch(self, news: BatchNews, /) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def progress_view(kind: str | None, console: Console, *, keys: bool = False) -> ProgressView:
    """The view of that kind; without one, the screen where the console is a terminal that is watched, else lines.

    A screen is drawn only where one can be; `keys` says whether somebody may press some there.
    """
    if kind is None or (kind == "bar" and not can_draw(console)):
        kind = "bar" if can_draw(console) else "plain"
    if kind == "none":
        return NoProgress()
    if kind == "bar":
        from runner.views.progress_screen import ProgressScreen

        return ProgressScreen(console, keys=keys)
    if kind == "json":
        return ProgressLines(_writer(console), json_line, json_news)
    return ProgressLines(_writer(console), local_line, local_news)


def can_draw(console: Console) -> bool:
    return console.is_interactive and console.is_terminal and not console.is_dumb_terminal


def _writer(console: Console) -> Callable[[str], None]:
    """Straight to the file: a line of a log is not to be wrapped to anybody's width."""

    def write(line: str) -> None:
        console.file.write(line + "\n")
        console.file.flush()

    return write
