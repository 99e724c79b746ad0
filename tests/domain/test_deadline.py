"""What moment a `finish_by` means, on ordinary days and on those on which the clock is turned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.deadline import FORMS, SECOND_US, check_deadline, deadline_us

BERLIN = "Europe/Berlin"  # back on 25 October 2026 at 03:00, forward on 29 March 2026 at 02:00
NEW_YORK = "America/New_York"  # back on 1 November 2026 at 02:00
LORD_HOWE = "Australia/Lord_Howe"  # turned by half an hour
APIA = "Pacific/Apia"  # had no 30 December 2011
AZORES = "Atlantic/Azores"  # back on 25 October 2026 at 01:00, over midnight
KATHMANDU = "Asia/Kathmandu"
ZONES = (BERLIN, NEW_YORK, LORD_HOWE, APIA, AZORES, KATHMANDU, "UTC")


def offsets(zone: str) -> Callable[[int], int]:
    place = ZoneInfo(zone)

    def offset_s(at_s: int) -> int:
        told = datetime.fromtimestamp(at_s, place).utcoffset()
        assert told is not None
        return int(told.total_seconds())

    return offset_s


def us(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp()) * SECOND_US


def read(text: str, created: str, zone: str = "UTC") -> str:
    """The moment in UTC, as a text without its offset."""
    told = deadline_us(text, us(created), offsets(zone))
    return datetime.fromtimestamp(told / SECOND_US, UTC).isoformat().removesuffix("+00:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("6h", "2026-11-21T16:30:15"),
        ("90m", "2026-11-21T12:00:15"),
        ("1.5h", "2026-11-21T12:00:15"),
        (" 6 h ", "2026-11-21T16:30:15"),
        ("45s", "2026-11-21T10:31:00"),
        ("2d", "2026-11-23T10:30:15"),
        ("30d", "2026-12-21T10:30:15"),
    ],
)
def test_a_duration_counts_from_the_runs_creation(text: str, moment: str) -> None:
    for zone in ZONES:
        assert read(text, "2026-11-21T10:30:15+00:00", zone) == moment


@pytest.mark.parametrize(
    ("text", "created", "zone", "moment"),
    [
        ("08:00", "2026-11-21T07:59:59+01:00", BERLIN, "2026-11-21T07:00:00"),
        ("08:00", "2026-11-21T08:00:00+01:00", BERLIN, "2026-11-22T07:00:00"),
        ("8:00", "2026-11-21T23:59:59+01:00", BERLIN, "2026-11-22T07:00:00"),
        ("00:00", "2026-11-21T12:00:00+01:00", BERLIN, "2026-11-21T23:00:00"),
        ("06:00", "2026-11-21T00:30:00+05:45", KATHMANDU, "2026-11-21T00:15:00"),
        ("08:00", "2026-11-21T09:00:00-05:00", NEW_YORK, "2026-11-22T13:00:00"),
        # an hour shorter, an hour longer until the morning
        ("08:00", "2026-03-28T22:00:00+01:00", BERLIN, "2026-03-29T06:00:00"),
        ("08:00", "2026-10-24T22:00:00+02:00", BERLIN, "2026-10-25T07:00:00"),
        # twice: the first that is still to come
        ("02:30", "2026-10-24T22:00:00+02:00", BERLIN, "2026-10-25T00:30:00"),
        ("02:30", "2026-10-25T02:30:00+02:00", BERLIN, "2026-10-25T01:30:00"),
        ("02:30", "2026-10-25T02:30:00+01:00", BERLIN, "2026-10-26T01:30:00"),
        ("01:45", "2026-11-01T01:50:00-04:00", NEW_YORK, "2026-11-01T06:45:00"),
        # left out: when it would have been, 03:30 by the clock as it is now
        ("02:30", "2026-03-28T22:00:00+01:00", BERLIN, "2026-03-29T01:30:00"),
        ("02:30", "2026-03-29T01:45:00+01:00", BERLIN, "2026-03-29T01:30:00"),
        ("02:30", "2026-03-29T03:30:00+02:00", BERLIN, "2026-03-30T00:30:00"),
        # by half an hour
        ("02:15", "2026-10-03T20:00:00+10:30", LORD_HOWE, "2026-10-03T15:45:00"),
        # back over midnight: 23:30 of yesterday's date is still to come
        ("23:30", "2010-11-07T00:00:30-02:30", "America/St_Johns", "2010-11-07T03:00:00"),
        # a date that was not there at all: Friday 30 December 2011 was left out
        ("08:00", "2011-12-29T20:00:00-10:00", APIA, "2011-12-30T18:00:00"),
    ],
)  # fmt: skip
def test_a_time_of_day_is_the_next_one_of_the_local_clock(text: str, created: str, zone: str, moment: str) -> None:
    assert read(text, created, zone) == moment


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-11-22T08:00", BERLIN, "2026-11-22T07:00:00"),
        ("2026-11-22 08:00", NEW_YORK, "2026-11-22T13:00:00"),
        ("2026-07-22T08:00:30", BERLIN, "2026-07-22T06:00:30"),
        ("2026-11-22T08:00Z", BERLIN, "2026-11-22T08:00:00"),
        ("2026-11-22t08:00z", BERLIN, "2026-11-22T08:00:00"),
        ("2026-11-22T08:00-05:00", BERLIN, "2026-11-22T13:00:00"),
        ("2026-11-22T08:00:15+0545", BERLIN, "2026-11-22T02:15:15"),
        ("2026-10-25T02:30", BERLIN, "2026-10-25T00:30:00"),
        ("2026-03-29T02:30", BERLIN, "2026-03-29T01:30:00"),
        ("2020-01-01T00:00", BERLIN, "2019-12-31T23:00:00"),
    ],
)
def test_a_date_and_time_is_local_unless_it_says_otherwise(text: str, zone: str, moment: str) -> None:
    assert read(text, "2020-06-01T12:00:00+00:00", zone) == moment


def test_of_a_local_time_that_occurs_twice_the_first_that_is_to_come_is_meant() -> None:
    assert read("2026-10-25T02:30", "2026-10-25T02:45:00+02:00", BERLIN) == "2026-10-25T01:30:00"
    assert read("2026-10-25T02:30", "2026-10-26T00:00:00+01:00", BERLIN) == "2026-10-25T01:30:00", "both are past"


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "6", "6 hours", "-6h", "6h30m", "1e3h", "08", "8:0", "24:00", "08:60", "08:00:00", "8am",
        "2026-11-22", "2026-11-22T", "2026-11-22T08", "2026-11-22T24:00", "22.11.2026 08:00", "2026-W47-7T08:00",
        "2026-13-01T08:00", "2026-02-30T08:00", "2026-11-22T08:00+25:00", "2026-11-22T08:00 CET",
        "٦h", "08:00\n09:00",
    ],
)  # fmt: skip
def test_any_other_text_is_answered_with_the_three_forms(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as 6h") as caught:
        check_deadline(text)
    assert FORMS in str(caught.value)


@pytest.mark.parametrize("text", ["0h", "0.5s", "31d", "9999999d", "721h"])
def test_a_duration_has_bounds(text: str) -> None:
    with pytest.raises(ValueError, match="between 1s and 30d"):
        check_deadline(text)


CREATED_S = st.integers(us("2010-01-01T00:00:00+00:00") // SECOND_US, us("2030-01-01T00:00:00+00:00") // SECOND_US)
ZONES_TO_TRY = st.sampled_from(ZONES)


@given(CREATED_S, st.integers(0, SECOND_US - 1), st.integers(0, 23), st.integers(0, 59), ZONES_TO_TRY)
def test_the_next_time_of_day_is_the_first_minute_at_which_the_clock_shows_it(
    created_s: int, fraction_us: int, hour: int, minute: int, zone: str
) -> None:
    created_us = created_s * SECOND_US + fraction_us
    told = deadline_us(f"{hour:02}:{minute:02}", created_us, offsets(zone))
    place = ZoneInfo(zone)
    first_minute = created_s - created_s % 60 + 60 if created_us % (60 * SECOND_US) else created_s + 60
    shown = next(
        (
            at_s
            for at_s in range(first_minute, first_minute + 26 * 3_600, 60)
            if (local := datetime.fromtimestamp(at_s, place)).hour == hour and local.minute == minute
        ),
        None,
    )
    assert told > created_us
    assert told % (60 * SECOND_US) == 0
    if shown is None or told < shown * SECOND_US:  # the clock left it out
        assert offsets(zone)(told // SECOND_US) != offsets(zone)(told // SECOND_US - 86_400)
    else:
        assert told == shown * SECOND_US


@given(CREATED_S, ZONES_TO_TRY)
def test_a_moment_written_with_its_offset_is_that_moment(at_s: int, zone: str) -> None:
    text = datetime.fromtimestamp(at_s, ZoneInfo(zone)).isoformat()
    assert deadline_us(text, 0, offsets("UTC")) == at_s * SECOND_US


@given(CREATED_S, ZONES_TO_TRY)
def test_a_moment_written_without_it_is_that_moment_or_its_double(at_s: int, zone: str) -> None:
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    told = deadline_us(local.replace(tzinfo=None).isoformat(), 0, offsets(zone))
    again = datetime.fromtimestamp(told // SECOND_US, ZoneInfo(zone))
    assert again.replace(tzinfo=None, fold=0) == local.replace(tzinfo=None, fold=0)
    assert told <= at_s * SECOND_US
    assert timedelta(seconds=at_s) - timedelta(microseconds=told) <= timedelta(hours=1)
