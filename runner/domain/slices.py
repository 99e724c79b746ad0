"""One limit for many processes: a row of three levels, of which each process takes what it needs for a second.

A process brings back what it has left, and at once takes anew; what it has used too much comes back as a debt, and
the level may go negative. So whatever was granted and not brought back, in any stretch of time, is at most what the
row holds when full and what flowed in meanwhile.

Among those who want more than there is nobody gets more than its part of what has flowed in since it asked last, so
that whoever comes a moment later finds its own. Pure: the row in, the row out.
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.limits import NOT_KNOWN, Amounts, KnownLimits, LimitSource, RateLimits, used_rate

# What a process takes at most, and what a row holds: the use of one second.
SLICE_S = 1.0
# Requests are granted whole: without room for one more, the fractions that flow in meanwhile were lost.
SPARE_REQUESTS = 1.0
# Clocks of two machines are never so far apart: the time of the row is of a clock that was set back since.
SET_BACK_US = 60_000_000
# From this share on what flows into a row would soon be lost: whoever wants more than its part may have it.
ALMOST_FULL = 0.9
SLICE_US = round(SLICE_S * 1e6)

NOTHING = Amounts(0.0, 0.0, 0.0)
EVERYTHING = Amounts(math.inf, math.inf, math.inf)


class SharedLevel(Struct, frozen=True, kw_only=True):
    """The row. `takers` counts the processes that have wished for more than their share in this window of a second,
    `takers_before` those of the window before: among so many the second is shared out."""

    known: KnownLimits = NOT_KNOWN
    levels: Amounts = NOTHING
    at_us: int = 0
    paused_until_us: int | None = None
    window_us: int = 0
    takers: int = 0
    takers_before: int = 0

    @property
    def share(self) -> float:
        return 1 / max(1, self.takers, self.takers_before)


class Take(Struct, frozen=True, kw_only=True):
    """What a process asks: `held` is what it has left (negative: used too much), `wish` the most that it could use,
    `last_us` when it asked last, `told` what it knows of the limits."""

    held: Amounts = NOTHING
    wish: Amounts = EVERYTHING
    last_us: int = 0
    told: KnownLimits | None = None


class Taken(Struct, frozen=True, kw_only=True):
    """What it gets: `more` is to be added to what it holds (it may be negative), `share` its part of the limit,
    `wait_s` how long it makes no sense to ask again."""

    known: KnownLimits
    more: Amounts
    share: float
    wait_s: float
    paused_until_us: int | None


def looked(row: SharedLevel) -> Taken:
    """What a row says to one who takes nothing."""
    return Taken(known=row.known, more=NOTHING, share=1.0, wait_s=0.0, paused_until_us=row.paused_until_us)


def taken(row: SharedLevel, take: Take, now_us: int) -> tuple[SharedLevel, Taken]:
    """The row after a take, and what was taken."""
    known = row.known.heeding(take.told)
    row = _counted(row, take, known, now_us)
    share = row.share
    # Nothing gathers while the service wants to hear nothing: what is sent after that begins evenly.
    passed_s = max(0, now_us - max(row.at_us, row.paused_until_us or 0)) / 1e6
    since_s = max(0, now_us - take.last_us) / 1e6
    wait_s = 0.0
    levels, more = [0.0] * 3, [0.0] * 3
    for dimension, per_minute in enumerate(known.limits):
        if per_minute is None:
            continue
        rate = used_rate(per_minute)
        holds = _holds(dimension, rate)
        if row.known.limits[dimension] is None:
            level = _first_level(holds, known)
        else:
            level = row.levels[dimension] + rate * passed_s
        level = min(holds, min(holds, level) + take.held[dimension])
        part = _part(share * rate, since_s, held=take.held[dimension], spare=level >= ALMOST_FULL * holds)
        granted = _granted(dimension, min(level, take.wish[dimension]), part)
        wait_s = max(wait_s, (_least(dimension) - level) / rate)
        levels[dimension] = level - granted
        more[dimension] = granted - take.held[dimension]
    at_us = now_us if row.at_us - now_us > SET_BACK_US else max(row.at_us, now_us)
    after = replace(row, known=known, levels=Amounts(*levels), at_us=at_us)
    return after, Taken(
        known=known, more=Amounts(*more), share=share, wait_s=wait_s, paused_until_us=row.paused_until_us
    )


def _holds(dimension: int, rate: float) -> float:
    return rate * SLICE_S + SPARE_REQUESTS if dimension == 0 else max(rate * SLICE_S, 1.0)


def _first_level(holds: float, known: KnownLimits) -> float:
    """Of a limit that has just become known. Told beforehand it is full, and each process spreads what it takes over
    the second. Learned from a reply it was used before it was known: by how much, nobody has counted."""
    return 0.0 if known.source is LimitSource.HEADERS else holds


def _part(rate: float, since_s: float, *, held: float, spare: bool) -> float:
    """The most that a process may hold, with its part of the rate: what has flowed in for it since it asked last, at
    most a slice."""
    slice_ = rate * SLICE_S
    return slice_ if spare else min(slice_, max(0.0, held) + rate * since_s)


def _least(dimension: int) -> float:
    """What must be there for anything to be granted: a whole request, any tokens."""
    return 1.0 if dimension == 0 else 0.0


def _granted(dimension: int, level: float, part: float) -> float:
    if dimension == 0:
        return float(math.floor(max(0.0, min(level, math.ceil(part))) + 1e-9))
    return max(0.0, min(level, part))


def _counted(row: SharedLevel, take: Take, known: KnownLimits, now_us: int) -> SharedLevel:
    """Windows of a second follow one another; in each, a process that wishes for more than its share counts once."""
    window_us, takers, before = row.window_us, row.takers, row.takers_before
    since_us = now_us - window_us
    if since_us >= SLICE_US or since_us < -SET_BACK_US:
        before = takers if SLICE_US <= since_us < 2 * SLICE_US else 0
        window_us, takers = now_us, 0
    if take.last_us < window_us and _wants_more(take.wish, known.limits, row.share):
        takers += 1
    return replace(row, window_us=window_us, takers=takers, takers_before=before)


def _wants_more(wish: Amounts, limits: RateLimits, share: float) -> bool:
    return any(
        per_minute is not None and wanted > used_rate(per_minute) * SLICE_S * share
        for wanted, per_minute in zip(wish, limits, strict=True)
    )
