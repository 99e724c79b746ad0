"""Cron expressions: what they mean, where the clock is changed, and what is none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.cron import fires_after, fires_before, local_time, next_fire, parse, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks are changed by an hour, by half an hour, at midnight, in the other half of the year, and not at all.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
)
SECOND_US = 1_000_000


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_US


def times(cron: str, zone: ZoneInfo, start: str, hours: int) -> list[str]:
    end_us = us(start) + hours * 3_600 * SECOND_US
    found = takewhile(lambda moment: moment < end_us, fires_after(parse(cron), zone, us(start)))
    return [local_time(moment, zone).strftime("%H:%M%z") for moment in found]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["03:00+0200"]),
        ("*/15 2 * * *", ["03:00+0200"]),
        ("0 2,3 * * *", ["03:00+0200"]),
        ("0 * * * *", ["00:00+0100", "01:00+0100", "03:00+0200", "04:00+0200"]),
        ("0 */2 * * *", ["00:00+0100", "03:00+0200", "04:00+0200"]),
    ],
)
def test_a_local_time_that_is_left_out_is_meant_as_the_first_moment_after_the_gap(
    cron: str, expected: list[str]
) -> None:
    assert times(cron, BERLIN, "2026-03-28T22:59", 4) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["02:30+0200"]),
        ("*/30 2 * * *", ["02:00+0200", "02:30+0200"]),
        ("0 2,3 * * *", ["02:00+0200", "03:00+0100"]),
        ("0 * * * *", ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]),
    ],
)
def test_a_local_time_that_comes_twice_is_meant_once_unless_the_schedule_says_how_often(
    cron: str, expected: list[str]
) -> None:
    assert times(cron, BERLIN, "2026-10-24T22:59", 4) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 29 2 *", [date(2028, 2, 29), date(2032, 2, 29)]),
        ("0 0 l * *", [date(2026, 1, 31), date(2026, 2, 28)]),
        ("0 0 * * fri#2", [date(2026, 1, 9), date(2026, 2, 13)]),
        ("0 0 * * 5L", [date(2026, 1, 30), date(2026, 2, 27)]),
        ("0 0 1 * mon", [date(2026, 1, 5), date(2026, 1, 12)]),  # neither has a star: either will do
        ("0 0 */10 * mon", [date(2026, 5, 11), date(2026, 6, 1)]),  # one has: both have to match
        ("@monthly", [date(2026, 2, 1), date(2026, 3, 1)]),
        ("0 0 1 jan-mar/2 *", [date(2026, 3, 1), date(2027, 1, 1)]),
        ("0 0 * * 7", [date(2026, 1, 4), date(2026, 1, 11)]),
    ],
)
def test_days_are_those_of_cron(cron: str, expected: list[date]) -> None:
    found = islice(fires_after(parse(cron), ZoneInfo("UTC"), us("2026-01-01T00:00")), 2)
    assert [local_time(moment, ZoneInfo("UTC")).date() for moment in found] == expected


@pytest.mark.parametrize(
    ("cron", "word"),
    [
        ("* * * *", "five fields"),
        ("0 30 2 * * *", "five fields"),
        ("61 * * * *", "'61' as its minute"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 * * 8", "'8' as its weekday"),
        ("5-1 * * * *", "holds nothing"),
        ("*/0 * * * *", "holds nothing"),
        ("a b c d e", "weekday"),
    ],
)
def test_what_is_no_schedule_is_said_in_a_sentence(cron: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse(cron)


def test_what_is_no_time_zone_is_said_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="time zone such as"):
        zone_of("Europe/Bielefeld")


@pytest.mark.parametrize("name", ZONES)
def test_a_daily_time_is_meant_once_on_each_day_of_two_years(name: str) -> None:
    zone = ZoneInfo(name)
    start_us, end_us = us("2026-01-02T00:00"), us("2028-01-01T00:00")
    found = takewhile(lambda moment: moment < end_us, fires_after(parse("30 2 * * *"), zone, start_us))
    days = [local_time(moment, zone).date() for moment in found]
    assert days == [days[0] + timedelta(days=n) for n in range(len(days))]
    assert len(days) >= 728


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 0 * * *", "*/20 * * * *", "10 1,23 * * *", "45 1 * * sun"])
def test_where_clocks_are_changed_each_local_time_is_meant_exactly_once(name: str, cron: str) -> None:
    """Against the plainest reading there is: every minute of real time, looked at on the wall clock."""
    zone, parsed = ZoneInfo(name), parse(cron)
    for start_us, end_us in _around_changes(zone):
        found = list(takewhile(lambda moment, end=end_us: moment < end, fires_after(parsed, zone, start_us)))
        assert found == _by_the_minute(cron, zone, start_us, end_us)


def _around_changes(zone: ZoneInfo) -> list[tuple[int, int]]:
    """Four days around each change of the clock within two years; where there is none, four days of January."""
    days = [us("2026-01-05T00:00") + n * 86_400 * SECOND_US for n in range(730)]
    offsets = [local_time(day, zone).utcoffset() for day in days]
    changes = [day for day, before, now in zip(days[1:], offsets, offsets[1:], strict=False) if before != now]
    return [(day - 3 * 86_400 * SECOND_US, day + 86_400 * SECOND_US) for day in changes or days[:1]]


def _by_the_minute(cron: str, zone: ZoneInfo, start_us: int, end_us: int) -> list[int]:
    parsed = parse(cron)
    weekdays = parsed.weekdays
    fires: list[int] = []
    seen: set[datetime] = set()
    before = local_time(start_us, zone).replace(tzinfo=None)
    moment = start_us + 60 * SECOND_US
    while moment < end_us:
        wall = local_time(moment, zone).replace(tzinfo=None)
        passed = [before + timedelta(minutes=n) for n in range(1, max(1, (wall - before) // timedelta(minutes=1)))]
        due = False
        for time in [*passed, wall]:
            matches = (
                time.hour in parsed.hours and time.minute in parsed.minutes and time.isoweekday() % 7 in weekdays
            )
            if matches and (parsed.every_hour or time not in seen):
                due = True
                seen.add(time)
        if due:
            fires.append(moment)
        before = wall
        moment += 60 * SECOND_US
    return fires


@given(
    cron=st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 0 1 * *", "15 0 * * mon", "5 23 l * *"]),
    zone=st.sampled_from(ZONES),
    hours=st.integers(0, 24 * 730),
    seconds=st.integers(0, 3_599),
)
def test_backwards_it_is_the_same_as_forwards(cron: str, zone: str, hours: int, seconds: int) -> None:
    parsed, there = parse(cron), ZoneInfo(zone)
    moment = us("2026-01-01T00:00") + (hours * 3_600 + seconds) * SECOND_US
    following = next_fire(parsed, there, moment)
    back = list(islice(fires_before(parsed, there, following), 3))
    assert back[0] == following
    assert back[1] <= moment
    assert [next_fire(parsed, there, at) for at in back[1:]] == back[:-1]
