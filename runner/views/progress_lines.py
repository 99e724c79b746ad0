"""Progress where nobody watches a screen: a line at the start, every minute or 5%, and at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from runner.domain.progress import Progress
from runner.views.durations import stopwatch
from runner.views.money import dollars, usd
from runner.views.numbers import percent
from runner.views.safe_text import safe_line

EVERY_S = 60.0
EVERY_SHARE = 0.05


class ProgressLines:
    """A ProgressView of lines. `line` makes one of an event and the numbers; `write` puts it somewhere."""

    takes_keys = False

    def __init__(self, write: Callable[[str], None], line: Callable[[str, Progress], str]) -> None:
        self._write = write
        self._line = line
        self._last: Progress | None = None
        self._told: Progress | None = None

    def start(self) -> None:
        """Nothing to say before the first numbers."""

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        if self._told is None:
            self._say("start", progress)
        elif is_due(self._told, progress):
            self._say("progress", progress)

    def stop(self) -> None:
        """The last numbers, unless they have just been told."""
        if self._last is not None and self._last is not self._told:
            self._say("end", self._last)

    def _say(self, event: str, progress: Progress) -> None:
        self._told = progress
        self._write(self._line(event, progress))


def is_due(told: Progress, now: Progress) -> bool:
    """A minute has passed, or a twentieth of all rows has ended, since the last line; or a pause began."""
    if now.elapsed_s - told.elapsed_s >= EVERY_S:
        return True
    if (now.paused_for is None) != (told.paused_for is None):
        return True
    return (
        now.total is not None and ended(now) - ended(told) >= max(now.total * EVERY_SHARE, 1) and _a_second(told, now)
    )


def _a_second(told: Progress, now: Progress) -> bool:
    """Small runs pass 5% many times a second."""
    return now.elapsed_s - told.elapsed_s >= 1.0


def ended(progress: Progress) -> int:
    return progress.done + progress.failed


def plain_line(event: str, progress: Progress, at: str) -> str:
    """`03:00:04 progress 12000/50000 24.0% failed=3 spent=$1.20 eta=00:07:40`."""
    total = "?" if progress.total is None else str(progress.total)
    parts = [at, event]
    if event == "start":
        parts += [f"run={progress.run}", f"job={safe_line(progress.job)}", f"mode={progress.mode}"]
        parts += [f"model={safe_line(progress.model)}"] if progress.model else []
        parts += ["simulated=yes"] if progress.simulated else []
    parts.append(f"{ended(progress)}/{total}")
    if progress.total is not None:
        parts.append(percent(ended(progress), progress.total))
    parts += [f"failed={progress.failed}", f"spent={dollars(progress.spent_pico)}"]
    if progress.committed_pico:
        parts.append(f"committed={dollars(progress.committed_pico)}")
    if progress.held_until_s:
        parts.append(f"held={progress.held_until_s:.0f}s")
    if progress.paused_for:
        parts.append(f"pausing={safe_line(progress.paused_for)}")
    elif progress.eta_s is not None and event != "end":
        parts.append(f"eta={stopwatch(progress.eta_s)}")
    return " ".join(parts)


def local_line(event: str, progress: Progress) -> str:
    """With the local time of day."""
    return plain_line(event, progress, time.strftime("%H:%M:%S"))


def json_line(event: str, progress: Progress) -> str:
    """The same numbers as an object."""
    told: dict[str, Any] = {
        "event": event,
        "run": progress.run,
        "simulated": progress.simulated,
        "elapsed_s": round(progress.elapsed_s, 1),
        "total": progress.total,
        "done": progress.done,
        "failed": progress.failed,
        "retrying": progress.retrying,
        "in_flight": progress.in_flight,
        "spent_usd": usd(progress.spent_pico),
        "committed_usd": usd(progress.committed_pico),
        "eta_s": None if progress.eta_s is None else round(progress.eta_s),
        "held_s": None if progress.held_until_s is None else round(progress.held_until_s),
        "paused_for": progress.paused_for,
        "failures": progress.failures,
    }
    return json.dumps(told)
