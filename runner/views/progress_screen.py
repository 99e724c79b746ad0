"""The screen of a running job: the same few lines, drawn again and again. Text in, nothing asked of anybody."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from runner.domain.progress import LimitShown, Progress
from runner.views.batch_screen import batch_ending, batch_lines, batch_rows
from runner.views.batch_words import DECISIONS, BatchNews
from runner.views.durations import duration, stopwatch
from runner.views.money import dollars
from runner.views.numbers import brief, count, percent
from runner.views.progress_lines import ended
from runner.views.safe_text import safe_line, safe_text
from runner.views.screen_lines import (
    BARS_FROM,
    FIGURES_WIDTH,
    LABEL_WIDTH,
    LIMIT_BAR,
    ROWS_BAR,
    SOURCE_WIDTH,
    bar,
    fitted,
    labelled,
)

SHOWN_FAILURES = 4
# A projection from fewer rows says more about chance than about the job.
PROJECT_FROM_ROWS = 20


class ProgressScreen:
    """A ProgressView on a terminal."""

    def __init__(self, console: Console, *, keys: bool = False) -> None:
        self.takes_keys = keys
        self._console = console
        self._last: Progress | None = None
        # Drawn when numbers come, twice a second; results on stdout are none of its business.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, vertical_overflow="crop")

    def start(self) -> None:
        self._live.start()

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        self._draw(progress, [*screen_lines(progress, self._console.width), self._ending(progress)])

    def _ending(self, progress: Progress) -> str:
        return ending(progress, self._console.width, keys=self.takes_keys)

    def batch(self, news: BatchNews) -> None:
        """Numbers tell of batches; what was decided on the way stands above them."""
        if news.name in DECISIONS:
            self._console.print(safe_text(f"{news.text}."), soft_wrap=True)

    def stop(self) -> None:
        """The last numbers stay where they are, without what one could do while they moved."""
        if self._last is not None:
            self._draw(self._last, screen_lines(self._last, self._console.width))
        self._live.stop()

    def _draw(self, progress: Progress, lines: list[str]) -> None:
        self._live.update(Group(*(_styled(line, progress) for line in lines)), refresh=True)


def _styled(line: str, progress: Progress) -> Text:
    text = Text(line, no_wrap=True, overflow="crop")
    label = line[:LABEL_WIDTH].strip()
    if label in LABELS:
        text.stylize("dim", 0, LABEL_WIDTH)
    if label == "failures":
        text.stylize("red", LABEL_WIDTH)
    if progress.batches is not None and progress.batches.unknown:
        text.highlight_regex(r"\bunknown, .*|\bunknown: .*|\d+ unknown \(.*?\)", "yellow")
    if progress.simulated:
        text.highlight_words(["SIMULATED"], "bold yellow")
    return text


LABELS = frozenset(
    {
        "rows",
        "requests",
        "input",
        "output",
        "latency",
        "batches",
        "pace",
        "spend",
        "failures",
        "waiting",
        "stopping",
        "next poll",
    }
)


def screen_lines(progress: Progress, width: int) -> list[str]:
    """The numbers, no line wider than `width`."""
    lines = [
        _header(progress, width),
        *(batch_rows(progress, width) if in_batches(progress) else _rows(progress, width)),
        *batch_lines(progress, width),
        *(_calls(progress, width) if not in_batches(progress) or _asks_live(progress) else []),
        _spend(progress, width),
        _failures(progress, width),
        _hold(progress, width),
    ]
    return [line[:width] for line in lines if line]


def in_batches(progress: Progress) -> bool:
    """Rows go in batches; those of an earlier mode may be out beside live calls."""
    return progress.batches is not None and progress.mode != "live"


def _asks_live(progress: Progress) -> bool:
    return progress.in_flight > 0 or progress.requests_per_min > 0


def _calls(progress: Progress, width: int) -> list[str]:
    return [
        _requests(progress, width),
        _tokens("input", progress.input_per_min, progress.itpm, width, "cache reads not counted"),
        _tokens("output", progress.output_per_min, progress.otpm, width),
        _latency(progress, width),
    ]


def _header(progress: Progress, width: int) -> str:
    mode = f"{progress.mode} SIMULATED" if progress.simulated else progress.mode
    elapsed = f"elapsed {stopwatch(progress.elapsed_s)}"
    parts = [safe_line(progress.job, 28), f"run {progress.run}", mode, safe_line(progress.model, 32)]
    while len(parts) > 2 and len("  ".join(filter(None, parts))) + 2 + len(elapsed) > width:
        parts.pop()
    if progress.simulated and mode not in parts:
        parts.append("SIMULATED")
        elapsed = ""
    left = "  ".join(filter(None, parts))
    return (
        f"{left}{elapsed:>{max(width - len(left), 0)}}".rstrip()
        if len(left) + 2 + len(elapsed) <= width
        else left.rstrip()
    )


def _rows(progress: Progress, width: int) -> list[str]:
    over = ended(progress)
    counts = [f"done {count(progress.done)}", f"failed {count(progress.failed)}"]
    counts += [f"retrying {count(progress.retrying)}", f"in flight {count(progress.in_flight)}"]
    if progress.total is None:
        first = labelled(
            "rows", [f"{count(over)} of {count(progress.staged)} read so far", "the input is being read"], width
        )
    else:
        waiting = max(progress.total - over - progress.in_flight - progress.retrying, 0)
        counts.append(f"waiting {count(waiting)}")
        parts = [f"{count(over)} of {count(progress.total)}", percent(over, progress.total), _eta(progress)]
        drawn = bar(over, progress.total, ROWS_BAR) + "  " if width >= BARS_FROM else ""
        first = labelled("rows", parts, width, before=drawn)
    return [first, labelled("", counts, width)]


def _eta(progress: Progress) -> str:
    if progress.total is not None and ended(progress) >= progress.total:
        return ""
    return "ETA unknown" if progress.eta_s is None else f"ETA {duration(progress.eta_s)}"


def _requests(progress: Progress, width: int) -> str:
    troubles = []
    if progress.rate_limited:
        troubles.append(f"429 x{count(progress.rate_limited)}")
    if progress.overloaded:
        troubles.append(f"overloaded x{count(progress.overloaded)}")
    return _limit("requests", progress.requests_per_min, progress.rpm, width, troubles)


def _tokens(label: str, rate: float, limit: LimitShown | None, width: int, remark: str = "") -> str:
    return _limit(label, rate, limit, width, [remark] if remark and limit is not None else [])


def _limit(label: str, rate: float, limit: LimitShown | None, width: int, remarks: list[str]) -> str:
    """The rate, the limit and who says so."""
    if limit is None:
        return labelled(label, [f"{brief(rate)}/min", *remarks], width)
    figures = f"{brief(rate)}/min of {brief(limit.per_minute)} ({safe_line(limit.source, SOURCE_WIDTH)})"
    if width < BARS_FROM:
        return labelled(label, [figures, *remarks], width)
    drawn = bar(rate, limit.per_minute, LIMIT_BAR)
    return labelled(label, [drawn, *remarks], width, before=f"{figures:{FIGURES_WIDTH}}")


def _latency(progress: Progress, width: int) -> str:
    shown = (("p50", progress.latency_p50_s), ("p95", progress.latency_p95_s), ("p99", progress.latency_p99_s))
    parts = [f"{name} {duration(seconds)}" for name, seconds in shown if seconds is not None]
    return labelled("latency", parts, width) if parts else ""


def _spend(progress: Progress, width: int) -> str:
    spent = dollars(progress.spent_pico)
    if progress.committed_pico:
        spent += f" + {dollars(progress.committed_pico)} reserved"
    projected = _projected(progress)
    if progress.cap_pico is None:
        return labelled("spend", [spent, projected], width)
    figures = f"{spent} of {dollars(progress.cap_pico)}"
    if width < BARS_FROM or len(figures) > FIGURES_WIDTH - 1:
        return labelled("spend", [figures, projected], width)
    drawn = bar(progress.spent_pico + progress.committed_pico, progress.cap_pico, LIMIT_BAR)
    return labelled("spend", [drawn, projected], width, before=f"{figures:{FIGURES_WIDTH}}")


def _projected(progress: Progress) -> str:
    """What the whole run would cost at the average so far."""
    over = ended(progress)
    if progress.total is None or over < PROJECT_FROM_ROWS or over >= progress.total:
        return ""
    return f"projected {dollars(progress.spent_pico * progress.total // over)}"


def _failures(progress: Progress, width: int) -> str:
    kinds = sorted(progress.failures.items(), key=lambda pair: -pair[1])
    if not kinds:
        return ""
    shown = [f"{safe_line(kind, 32)} {count(rows)}" for kind, rows in kinds[:SHOWN_FAILURES]]
    if len(kinds) > SHOWN_FAILURES:
        shown.append("...")
    return labelled("failures", shown, width, gap=" | ")


def _hold(progress: Progress, width: int) -> str:
    if not progress.held_until_s:
        return ""
    return labelled("waiting", [f"the service asked for a pause of {duration(progress.held_until_s)}"], width)


def ending(progress: Progress, width: int, *, keys: bool = False) -> str:
    """The line below the numbers: what keys do, or what a stop still waits for."""
    if progress.paused_for is None:
        more = f"  + and - change how many at once: {count(progress.concurrency)}" if keys else ""
        return batch_ending(progress, width) or fitted(f"Ctrl-C pauses and keeps everything.{more}", width)
    calls = f"{count(progress.in_flight)} in flight may end" if progress.in_flight else ""
    return labelled("stopping", [safe_line(progress.paused_for), calls, "Ctrl-C again ends at once"], width)
