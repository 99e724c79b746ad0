"""Cron expressions and the moments that they mean in a time zone. Pure.

Five fields as cron has them (names, ranges, steps, lists), `L` for the last day of a month, `5#2` and `5L` for the
second and the last Friday, and `@hourly` to `@yearly`. A day has to match both of its fields when one of them begins
with `*`, else either, as in cron.

Where clocks are changed, no local time is lost and none counts twice:

- A local time that is left out is meant as the first moment after the gap, together with what falls there anyway.
- A local time that comes twice is meant the first time. Only when the hour field begins with `*` it is meant both
  times: such a schedule says how often, not when, and goes on through the hour that is repeated.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

MINUTE_US = 60_000_000
_DAY = timedelta(days=1)
# The longest that a schedule may pause: from one 29 February on a given weekday to the next, over a year like 2100.
_LONGEST_PAUSE = timedelta(days=366 * 41)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")
_NTH = re.compile(r"(\w+)#([1-5])")
_LAST_WEEKDAY = re.compile(r"(\w+)l", re.IGNORECASE)
_LAST = -1


class Cron(Struct, frozen=True, kw_only=True):
    """A parsed expression. `days` may hold -1, the last of the month; `nth` are (weekday, which), -1 for its last."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    both_days: bool
    every_hour: bool


def parse(text: str) -> Cron:
    """Raises ValueError, the end of a sentence, for what is no cron expression or never comes."""
    told = _ALIASES.get(text.strip().lower(), text)
    fields = told.split()
    if len(fields) != 5:
        raise ValueError('must have five fields, such as "30 2 * * *": minute, hour, day, month, weekday')
    minute, hour, day, month, weekday = fields
    plain, nth = _weekday_field(weekday)
    found = Cron(
        text=text.strip(),
        minutes=tuple(sorted(_values(minute, "minute", 0, 59))),
        hours=tuple(sorted(_values(hour, "hour", 0, 23))),
        days=_day_field(day),
        months=frozenset(_values(month, "month", 1, 12, _MONTHS)),
        weekdays=plain,
        nth=nth,
        both_days=day.startswith("*") or weekday.startswith("*"),
        every_hour=hour.startswith("*"),
    )
    if _next_day(found, date(2024, 1, 1)) is None:
        raise ValueError("names a day that never comes")
    return found


def _day_field(field: str) -> frozenset[int]:
    parts = field.split(",")
    plain = [part for part in parts if part.lower() != "l"]
    last = {_LAST} if len(plain) < len(parts) else set()
    return frozenset((_values(",".join(plain), "day", 1, 31) if plain else set()) | last)


def _weekday_field(field: str) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    plain, nth = [], set()
    for part in field.split(","):
        if found := _NTH.fullmatch(part):
            nth.add((_number(found[1], "weekday", 0, 7, _WEEKDAYS) % 7, int(found[2])))
        elif (found := _LAST_WEEKDAY.fullmatch(part)) and part.lower() not in _WEEKDAYS:
            nth.add((_number(found[1], "weekday", 0, 7, _WEEKDAYS) % 7, _LAST))
        else:
            plain.append(part)
    days = _values(",".join(plain), "weekday", 0, 7, _WEEKDAYS) if plain else set()
    return frozenset(day % 7 for day in days), frozenset(nth)


def _values(field: str, name: str, low: int, high: int, names: Mapping[str, int] | None = None) -> set[int]:
    told: set[int] = set()
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"has {part!r} as its {name}, which is no number, range or step")
        first, last, step = found.groups()
        if first == "*":
            if last is not None:
                raise ValueError(f"has {part!r} as its {name}; a range needs two numbers")
            begin, end = low, high
        else:
            begin = _number(first, name, low, high, names or {})
            end = _number(last, name, low, high, names or {}) if last else (high if step else begin)
        if end < begin or (step is not None and int(step) == 0):
            raise ValueError(f"has {part!r} as its {name}, which holds nothing")
        told.update(range(begin, end + 1, int(step or 1)))
    return told


def _number(word: str, name: str, low: int, high: int, names: Mapping[str, int]) -> int:
    number = names.get(word.lower(), int(word) if word.isdecimal() else -1)
    if not low <= number <= high:
        raise ValueError(f"has {word!r} as its {name}, which must be {low} to {high}")
    return number


def zone_of(name: str) -> ZoneInfo:
    """Raises ValueError, the end of a sentence, for what is no time zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"must be a time zone such as Europe/Berlin or UTC; {name!r} is none") from None


# --- moments


def next_fire(cron: Cron, zone: ZoneInfo, after_us: int) -> int:
    """The first moment after `after_us`; microseconds since 1970 UTC, a whole minute."""
    return next(fires_after(cron, zone, after_us))


def fires_after(cron: Cron, zone: ZoneInfo, after_us: int) -> Iterator[int]:
    """All moments after `after_us`, in order."""
    # From the day before: what a gap over midnight left out yesterday is meant today.
    day, last_us = _local(after_us, zone).date() - _DAY, after_us
    while (found := _next_day(cron, day)) is not None:
        for moment_us in _moments_of(cron, zone, found):
            if moment_us > last_us:
                last_us = moment_us
                yield moment_us
        day = found + _DAY


def fires_before(cron: Cron, zone: ZoneInfo, until_us: int) -> Iterator[int]:
    """All moments up to and with `until_us`, the newest first; the first of them lie in 1970."""
    day, last_us = _local(until_us, zone).date(), until_us + 1
    while day.year >= 1970:
        for moment_us in reversed(_moments_of(cron, zone, day) if _matches(cron, day) else ()):
            if moment_us < last_us:
                last_us = moment_us
                yield moment_us
        day -= _DAY


def _next_day(cron: Cron, day: date) -> date | None:
    for _ in range(_LONGEST_PAUSE.days):
        if day.month not in cron.months:
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        elif _matches(cron, day):
            return day
        else:
            day += _DAY
    return None


def _matches(cron: Cron, day: date) -> bool:
    if day.month not in cron.months:
        return False
    last_of_month = calendar.monthrange(day.year, day.month)[1]
    by_day = day.day in cron.days or (_LAST in cron.days and day.day == last_of_month)
    weekday = day.isoweekday() % 7
    by_weekday = (
        weekday in cron.weekdays
        or (weekday, (day.day + 6) // 7) in cron.nth
        or ((weekday, _LAST) in cron.nth and day.day + 7 > last_of_month)
    )
    return (by_day and by_weekday) if cron.both_days else (by_day or by_weekday)


@lru_cache(maxsize=512)
def _moments_of(cron: Cron, zone: ZoneInfo, day: date) -> tuple[int, ...]:
    """The moments that the local times of one day mean, ascending, each once."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = midnight + _DAY
    times = [hour * 60 + minute for hour in cron.hours for minute in cron.minutes]
    if midnight.utcoffset() == following.utcoffset():
        start_us = _us(midnight)
        return tuple(start_us + time * MINUTE_US for time in times)
    moments: set[int] = set()
    for time in times:
        moments.update(_meant(midnight + timedelta(minutes=time), zone, twice=cron.every_hour))
    return tuple(sorted(moments))


def _meant(wall: datetime, zone: ZoneInfo, *, twice: bool) -> list[int]:
    """The moments that a local time means."""
    first, second = _us(wall.replace(fold=0)), _us(wall.replace(fold=1))
    if _local(first, zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
        return [_end_of_gap(wall, zone)]
    return [first, second] if twice and second > first else [first]


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> int:
    """The first moment after the gap in which `wall` lies. In a gap fold 1 counts with the offset of after it, and so
    means a moment before it; fold 0 the other way round."""
    before, after = sorted((_us(wall.replace(fold=0)), _us(wall.replace(fold=1))))
    offset = _local(before, zone).utcoffset()
    while after - before > MINUTE_US:
        middle = before + (after - before) // (2 * MINUTE_US) * MINUTE_US
        if _local(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _local(moment_us: int, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)).astimezone(zone)


def _us(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def local_time(moment_us: int, zone: ZoneInfo) -> datetime:
    """The wall clock of the zone at a moment."""
    return _local(moment_us, zone)
