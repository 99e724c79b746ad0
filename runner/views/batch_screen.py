"""The lines of a live screen that tell of batches. Inside a batch no progress is known, and none is invented."""

from __future__ import annotations

from runner.domain.batch_progress import BatchProgress, OpenBatch
from runner.domain.progress import Progress
from runner.domain.quantity import of_rows
from runner.domain.states import BatchState
from runner.views.batch_words import open_words
from runner.views.durations import duration, span, time_of_day
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line
from runner.views.screen_lines import BARS_FROM, GAP, LABEL_WIDTH, ROWS_BAR, fitted, labelled, rows_bar

# From here on the service's ids are shown whole.
WHOLE_IDS_FROM = 100
SHORT_ID = 13
NO_ID = "no id known"


def batch_rows(progress: Progress, width: int) -> list[str]:
    """What has ended of all rows, and where the others are."""
    batches = progress.batches
    assert batches is not None  # noqa: S101 - the caller has looked
    over = progress.done + progress.failed
    out = batches.rows_with_api + batches.rows_unknown
    counts = [f"done {count(progress.done)}"]
    counts += [f"to redo {count(batches.to_redo)}"] if batches.to_redo else []
    counts += [f"failed {count(progress.failed)}", f"with the API {count(batches.rows_with_api)}"]
    if progress.total is None:
        parts = [f"{count(over)} ended of {count(progress.staged)} read so far", "the input is being read"]
        return [labelled("rows", parts, width), labelled("", counts, width)]
    waiting = progress.total - over - out - batches.to_redo - progress.in_flight
    counts += [f"live {count(progress.in_flight)}"] if progress.in_flight else []
    counts += [f"waiting {count(waiting)}"] if waiting > 0 else []
    drawn = ""
    if width >= BARS_FROM:
        drawn = rows_bar(over, batches.rows_with_api, batches.rows_unknown, progress.total, ROWS_BAR) + "  "
    return [
        labelled("rows", [f"{count(over)} ended of {count(progress.total)}"], width, before=drawn),
        labelled("", counts, width),
    ]


def batch_lines(progress: Progress, width: int) -> list[str]:
    """How many batches there are, the first of those that are open, and how long the last ones took."""
    batches = progress.batches
    if batches is None:
        return []
    more = batches.open - len(batches.first)
    return [
        _numbers(batches, width),
        *(_open_line(one, batches, width) for one in batches.first),
        labelled("", [f"  +{count(more)} more"], width) if more > 0 else "",
        _pace(batches, width),
    ]


def _numbers(batches: BatchProgress, width: int) -> str:
    parts = [f"{count(batches.ended)} ended", f"{count(batches.in_progress)} in progress"]
    parts += [f"{count(batches.ready)} ready to read"] if batches.ready else []
    parts += [f"{count(batches.unknown)} unknown ({of_rows(batches.rows_unknown)})"] if batches.unknown else []
    if batches.max_queued is not None:
        queued = batches.rows_with_api + batches.rows_unknown
        parts.append(f"queue {brief(queued)} of {brief(batches.max_queued)}")
    return labelled("batches", parts, width)


def _open_line(one: OpenBatch, batches: BatchProgress, width: int) -> str:
    """`6  msgbatch_01Hk...  50,000  in progress 38m   expires in 23h 22m`."""
    widest = max(len(count(other.number)) for other in batches.first)
    rows = max(len(count(other.rows)) for other in batches.first)
    name = safe_line(one.provider_id or NO_ID)
    if width < WHOLE_IDS_FROM:
        name = name if len(name) <= SHORT_ID + 3 else f"{name[:SHORT_ID]}..."
        name = f"{name:{SHORT_ID + 3}}"
    first = f"  {count(one.number):>{widest}}  {name}  {count(one.rows):>{rows}}  {open_words(one, batches.now_us)}"
    return labelled("", [first, _expiry(one)], width)


def _expiry(one: OpenBatch) -> str:
    running = one.state in (BatchState.ACCEPTED, BatchState.CLAIMED) and not one.canceling and one.missing_s is None
    if not running or one.expires_in_s is None or one.expires_in_s < 0:
        return ""
    return f"expires in {duration(one.expires_in_s)}"


def _pace(batches: BatchProgress, width: int) -> str:
    if not batches.paces_s:
        return ""
    took = ", ".join(span(pace_s) for pace_s in batches.paces_s)
    many = f"last {len(batches.paces_s)} batches" if len(batches.paces_s) > 1 else "last batch"
    return labelled("pace", [f"{many}: {took}", eta_words(batches)], width)


def eta_words(batches: BatchProgress) -> str:
    """`ETA 07:30 to 08:10 (est.)`; nothing where the last batches do not say."""
    if batches.eta_us is None:
        return ""
    soonest, latest = (time_of_day(at_us, batches.now_us) for at_us in batches.eta_us)
    return f"ETA {soonest} (est.)" if soonest == latest else f"ETA {soonest} to {latest} (est.)"


def batch_ending(progress: Progress, width: int) -> str | None:
    """The line below the numbers; None where a stop leaves nothing behind that goes on by itself."""
    batches = progress.batches
    if batches is None or not batches.open:
        return None
    if progress.simulated:
        return fitted("Ctrl-C pauses. It ends simulated batches; `runner resume` makes them anew.", width)
    closing = f"safe to close: `runner resume {progress.run}` picks this up again"
    if batches.next_poll_s is None:
        return fitted(closing, width)
    poll = span(batches.next_poll_s) if batches.next_poll_s >= 1 else "now"
    return fitted(f"{'next poll':{LABEL_WIDTH}}{poll}{GAP}{closing}", width)
