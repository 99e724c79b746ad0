"""`mode: auto`: whether the rows of a run go in batches or live, and when a late batch is cancelled. Pure.

A batch costs half and may take a day, though most have ended within an hour. So a deadline of less than a day does
not rule batches out: they are tried where the deadline leaves them a fair time, and what they have not answered when
it runs short is taken back by cancelling them and finished live. Times are microseconds of shared time.
"""

from __future__ import annotations

import math

from msgspec import Struct

from runner.domain.job import Mode
from runner.domain.money import dollars
from runner.domain.quantity import of_rows

SECOND_US = 1_000_000
HOUR_S = 3_600

# From asking for a cancel until what is left is known here: requests that run may finish, and the lines are stored.
CANCEL_S = 1_800
# Most batches end within an hour; one that is cancelled sooner has mostly cost time.
FAIR_TIME_S = HOUR_S
# Where nothing was measured yet: what the default concurrency makes of slow answers. A guess, and a low one, because
# a batch cancelled early costs some money and a deadline missed costs the deadline.
UNMEASURED_ROWS_PER_MIN = 100.0


class Choice(Struct, frozen=True, kw_only=True):
    """LIVE or BATCH, never AUTO; `reason` is one sentence for people, without a full stop."""

    mode: Mode
    reason: str


def choose(
    rows: int | None,
    *,
    threshold: int,
    now_us: int,
    deadline_us: int | None = None,
    batch_refused: str | None = None,
    live_rows_per_min: float | None = None,
    batch_pico: int | None = None,
    live_pico: int | None = None,
) -> Choice:
    """What auto means for so many rows; None: too many to be counted beforehand.

    `batch_refused` says why this job cannot go in batches, None where it can. The costs are estimates of all rows
    either way, None where they are not known; a batch of rows that fill the prompt cache anew may be the dearer one.
    """
    if rows is not None and rows < threshold:
        return _live(f"{_rows(rows)}, fewer than {threshold:,}")
    if batch_refused is not None:
        return _live(f"{_rows(rows)}, but not in batches: {batch_refused}")
    if batch_pico is not None and live_pico is not None and batch_pico >= live_pico:
        return _live(f"{_rows(rows)}, and batches would save nothing ({_either(batch_pico, live_pico)})")
    time = _time(rows, live_rows_per_min, None if deadline_us is None else (deadline_us - now_us) / SECOND_US)
    if not time.allows:
        return _live(f"{_rows(rows)}, but {time.words}")
    return Choice(mode=Mode.BATCH, reason=f"batch: {_rows(rows)}, {_price(batch_pico, live_pico)}, {time.words}")


def cancel_at_us(
    deadline_us: int, rows_left: int, live_rows_per_min: float | None, *, created_us: int | None = None
) -> int:
    """When batches that still run must be cancelled, so that the `rows_left` in them are finished live in time.

    Asked again as batches end and the pace of live calls is measured. Rows that could not have been finished live
    even if they had never been sent in a batch (the oldest was created at `created_us`) have their better chance
    there: they stay until just before the deadline.
    """
    latest_us = deadline_us - CANCEL_S * SECOND_US
    at_us = latest_us - math.ceil(_live_s(rows_left, live_rows_per_min) * SECOND_US)
    return latest_us if created_us is not None and at_us < created_us else at_us


class _Time(Struct, frozen=True, kw_only=True):
    allows: bool
    words: str


def _time(rows: int | None, live_rows_per_min: float | None, left_s: float | None) -> _Time:
    """Whether the deadline leaves a batch a fair time, and what to say of it."""
    if left_s is None:
        return _Time(allows=True, words="no deadline")
    live_s = _live_s(rows, live_rows_per_min)
    if left_s <= 0:
        return _Time(allows=False, words="the deadline has passed")
    if left_s < FAIR_TIME_S + CANCEL_S:
        return _Time(allows=False, words=f"the deadline in {_hours(left_s)} is too near for a batch")
    if live_s > left_s:
        return _Time(allows=True, words=f"live calls would hardly meet the deadline in {_hours(left_s)}")
    if left_s - live_s < FAIR_TIME_S + CANCEL_S:
        late = f"rows of a late batch would need {_hours(live_s)} live"
        return _Time(allows=False, words=f"the deadline is in {_hours(left_s)} and {late}")
    return _Time(allows=True, words=f"deadline in {_hours(left_s)}")


def _live_s(rows: int | None, live_rows_per_min: float | None) -> float:
    """How long so many rows take live; uncounted ones longer than any deadline."""
    if rows is None:
        return math.inf
    return rows * 60 / (live_rows_per_min or UNMEASURED_ROWS_PER_MIN)


def _live(why: str) -> Choice:
    return Choice(mode=Mode.LIVE, reason=f"live: {why}")


def _rows(rows: int | None) -> str:
    if rows is None:
        return "rows not counted yet"
    return of_rows(rows)


def _price(batch_pico: int | None, live_pico: int | None) -> str:
    """How much cheaper; half is the API's word where nothing was estimated."""
    if batch_pico is None or live_pico is None:
        return "half the price"
    percent = round(100 * batch_pico / live_pico)
    share = "half" if percent == 50 else f"{percent}% of"
    return f"{share} the price ({_either(batch_pico, live_pico)})"


def _either(batch_pico: int, live_pico: int) -> str:
    return f"{dollars(batch_pico)} instead of {dollars(live_pico)}"


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR_S:,.1f} h"
