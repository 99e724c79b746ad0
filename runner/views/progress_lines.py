"""Progress where nobody watches a screen: a line at the start, every minute or 5%, for each event of a batch, and
at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from runner.domain.batch_progress import BatchProgress
from runner.domain.progress import Progress
from runner.views.batch_words import BatchNews
from runner.views.durations import stopwatch, time_of_day, utc
from runner.views.money import dollars, usd
from runner.views.numbers import percent
from runner.views.safe_text import safe_line

EVERY_S = 60.0
EVERY_SHARE = 0.05
# What a line about a batch tells as name=value; the rest of an event is for machines.
FACTS = ("id", "rows", "again", "reserved")
# Events whose values say all that there is to say.
VALUES_ENOUGH = frozenset({"batch_submitted", "batch_ingested"})


class ProgressLines:
    """A ProgressView of lines. `line` makes one of an event and the numbers, `news` one of what happened to a batch,
    or none; `write` puts them somewhere."""

    takes_keys = False

    def __init__(
        self,
        write: Callable[[str], None],
        line: Callable[[str, Progress], str],
        news: Callable[[BatchNews], str | None] = lambda _: None,
    ) -> None:
        self._write = write
        self._line = line
        self._news = news
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

    def batch(self, news: BatchNews) -> None:
        if (line := self._news(news)) is not None:
            self._write(line)

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
    parts.append(f"failed={progress.failed}")
    if progress.batches is not None:
        parts += _out(progress.batches)
    parts.append(f"spent={dollars(progress.spent_pico)}")
    if progress.committed_pico:
        parts.append(f"committed={dollars(progress.committed_pico)}")
    if progress.rate_limited and event != "start":
        parts.append(f"rate_limited={progress.rate_limited}")
    if progress.overloaded and event != "start":
        parts.append(f"overloaded={progress.overloaded}")
    if progress.held_until_s:
        parts.append(f"held={progress.held_until_s:.0f}s")
    if progress.paused_for:
        parts.append(f"pausing={safe_line(progress.paused_for)}")
    elif event != "end":
        parts += _eta(progress)
    return " ".join(parts)


def _out(batches: BatchProgress) -> list[str]:
    parts = [f"with_api={batches.rows_with_api}"]
    parts += [f"unknown={batches.rows_unknown}"] if batches.rows_unknown else []
    return parts


def _eta(progress: Progress) -> list[str]:
    """How long it still takes; with batches, between which times of day they end."""
    if progress.eta_s is not None:
        return [f"eta={stopwatch(progress.eta_s)}"]
    batches = progress.batches
    if batches is None or batches.eta_us is None:
        return []
    return ["eta=" + "-".join(time_of_day(at_us, batches.now_us).replace(" ", "T") for at_us in batches.eta_us)]


def plain_news(news: BatchNews, at: str) -> str | None:
    """`02:00:31 batch submitted id=msgbatch_01Ab rows=50000`. Warnings are told as such, not as progress."""
    if news.warning:
        return None
    values = [f"{name}={safe_line(str(news.facts[name]))}" for name in FACTS if news.facts.get(name)]
    line = " ".join([at, news.name.replace("_", " "), *values])
    return line if news.name in VALUES_ENOUGH else f"{line}: {safe_line(news.text)}"


def local_news(news: BatchNews) -> str | None:
    return plain_news(news, time.strftime("%H:%M:%S"))


def json_news(news: BatchNews) -> str:
    """The same as an object, with everything that is known."""
    return json.dumps({"event": news.name, "warning": news.warning, "text": news.text, **news.facts}, default=str)


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
        "rate_limited": progress.rate_limited,
        "overloaded": progress.overloaded,
        "spent_usd": usd(progress.spent_pico),
        "committed_usd": usd(progress.committed_pico),
        "eta_s": None if progress.eta_s is None else round(progress.eta_s),
        "held_s": None if progress.held_until_s is None else round(progress.held_until_s),
        "paused_for": progress.paused_for,
        "failures": progress.failures,
    }
    if progress.batches is not None:
        told["batches"] = _batches_json(progress.batches)
    return json.dumps(told)


def _batches_json(batches: BatchProgress) -> dict[str, Any]:
    return {
        "ended": batches.ended,
        "in_progress": batches.in_progress,
        "ready": batches.ready,
        "unknown": batches.unknown,
        "rows_with_api": batches.rows_with_api,
        "rows_unknown": batches.rows_unknown,
        "to_redo": batches.to_redo,
        "next_poll_s": None if batches.next_poll_s is None else round(batches.next_poll_s, 1),
        "eta": None if batches.eta_us is None else [utc(at_us) for at_us in batches.eta_us],
    }
