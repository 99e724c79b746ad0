"""`finish_by`: the text in which a job says when its answers have to be there, and the moment that it means. Pure.

Three forms: a duration after the run was created, the next such time of day, a date and time. The wall clock comes in
as its distance from UTC. Where it is turned back, a time occurs twice, and the first that is still to come is meant;
where it is put forward, a time is left out, and what is meant is the moment at which it would have been.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runner.domain.durations import seconds_of

SECOND_US = 1_000_000
DAY_S = 86_400
# A month: the API keeps a batch's results no longer.
LONGEST_S = 30 * DAY_S
FORMS = "a duration such as 6h, a time of day such as 08:00, or a date and time such as 2026-11-22T08:00"

UtcOffset = Callable[[int], int]

_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def deadline_us(text: str, created_us: int, utc_offset_s: UtcOffset) -> int:
    """The moment that `text` means for a run created at `created_us`; both in microseconds since 1970 UTC.

    `utc_offset_s` gives the wall clock's distance from UTC in seconds, east positive, at a moment in seconds since
    1970 UTC. A date and time may lie before the run's creation. Raises ValueError with the three forms.
    """
    told = text.strip()
    if (seconds := seconds_of(told)) is not None:
        return created_us + _duration_us(seconds)
    if found := _TIME_OF_DAY.fullmatch(told):
        return _next_time_of_day_us(int(found[1]) * 3_600 + int(found[2]) * 60, created_us, utc_offset_s)
    if found := _MOMENT.fullmatch(told):
        moment = _date_and_time(told.upper())
        return _moment_us(moment) if found[1] else _local_us(moment, created_us, utc_offset_s)
    raise ValueError(f"must be {FORMS}")


def check_deadline(text: str) -> None:
    """Raises ValueError, the end of a sentence, for a text that means no moment whenever the run is created."""
    deadline_us(text, 0, lambda _at_s: 0)


def _duration_us(seconds: float) -> int:
    if not 1 <= seconds <= LONGEST_S:
        raise ValueError(f"must be between 1s and {LONGEST_S // DAY_S}d, where it is a duration")
    return round(seconds * SECOND_US)


def _next_time_of_day_us(second_of_day: int, created_us: int, utc_offset_s: UtcOffset) -> int:
    created_s = created_us // SECOND_US
    today = (created_s + utc_offset_s(created_s)) // DAY_S
    # From yesterday's date on: the clock may be about to be turned back over midnight.
    moments = [
        moment_us
        for day in range(today - 1, today + 3)
        for moment_us in _moments_us(day * DAY_S + second_of_day, utc_offset_s)
    ]
    return min(moment_us for moment_us in moments if moment_us > created_us)


def _date_and_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is no date of the calendar; it must be {FORMS}") from None


def _moment_us(told: datetime) -> int:
    return (told - _EPOCH) // timedelta(microseconds=1)


def _local_us(told: datetime, created_us: int, utc_offset_s: UtcOffset) -> int:
    wall_s = _moment_us(told.replace(tzinfo=UTC)) // SECOND_US
    *past, last = _moments_us(wall_s, utc_offset_s)
    return next((moment_us for moment_us in past if moment_us > created_us), last)


def _moments_us(wall_s: int, utc_offset_s: UtcOffset) -> list[int]:
    """The moments at which the wall clock shows `wall_s` (its seconds since 1970, as if they were UTC), ascending.

    One, or two where the clock is turned back. Where it is put forward over `wall_s` none shows it; then the moment
    that would, had the clock not been touched. It is taken to be touched at most once within two days.
    """
    before, after = utc_offset_s(wall_s - DAY_S), utc_offset_s(wall_s + DAY_S)
    shown = [wall_s - offset for offset in (before, after) if utc_offset_s(wall_s - offset) == offset]
    return [moment_s * SECOND_US for moment_s in sorted(set(shown)) or [wall_s - before]]
