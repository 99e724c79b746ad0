"""What a schedule does at a moment: which fires are due, missed, skipped, started, taken up again."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from runner.domain.cron import local_time
from runner.domain.schedule import (
    MOST_CAUGHT_UP,
    MOST_RECORDED,
    CatchUp,
    Fire,
    FireKind,
    FireState,
    Overlap,
    Plan,
    ScheduleSpec,
    backfill,
    fire_key,
    jitter_s,
    params_at,
    plan,
)

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
)
# 2026-11-21 02:30 UTC, a time of the schedule.
FIRE = round(datetime(2026, 11, 21, 2, 30, tzinfo=UTC).timestamp()) * 1_000_000


def spec(**changes: object) -> ScheduleSpec:
    return ScheduleSpec(**{"cron": "30 2 * * *", **changes})  # type: ignore[arg-type]


def at_work(fire_us: int, beat_us: int) -> Fire:
    return Fire(fire_us=fire_us, kind=FireKind.SCHEDULE, state=FireState.STARTED, beat_us=beat_us)


def look(told: ScheduleSpec, now_us: int, *open_fires: Fire, last_us: int = FIRE - DAY) -> Plan:
    return plan(told, "nightly", last_us, open_fires, now_us)


def states(made: Plan) -> list[tuple[int, str]]:
    """The new fires, in days before FIRE, and their states."""
    return [((FIRE - fire.fire_us) // DAY, fire.state) for fire in made.new]


def test_before_its_time_nothing_is_due() -> None:
    made = look(spec(), FIRE - 1)
    assert made.is_empty
    assert made.next_fire_us == FIRE


def test_at_its_time_a_fire_is_started_and_the_next_one_named() -> None:
    made = look(spec(), FIRE)
    assert made.starts == (FIRE,)
    assert (made.last_fire_us, made.next_fire_us) == (FIRE, FIRE + DAY)
    assert plan(spec(), "nightly", made.last_fire_us, [at_work(FIRE, FIRE)], FIRE + MINUTE).is_empty


@pytest.mark.parametrize(
    ("catch_up", "started", "missed"),
    [(CatchUp.LATEST, 1, 4), (CatchUp.NONE, 0, 5), (CatchUp.ALL, 1, 0)],
)
def test_after_days_without_anybody_the_rule_says_which_are_caught_up(
    catch_up: CatchUp, started: int, missed: int
) -> None:
    made = look(spec(catch_up=catch_up), FIRE + 6 * HOUR, last_us=FIRE - 5 * DAY)
    assert len(made.new) == 5
    assert sum(fire.state is FireState.MISSED for fire in made.new) == missed
    assert len(made.starts) == started
    assert all(fire.reason for fire in made.new if fire.state is FireState.MISSED)


def test_fires_that_are_caught_up_go_one_after_the_other_whatever_the_overlap() -> None:
    made = look(spec(catch_up=CatchUp.ALL), FIRE + HOUR, last_us=FIRE - 3 * DAY)
    assert made.starts == (FIRE - 2 * DAY,)
    assert [move.event for move in made.moves] == ["start"]


def test_a_long_silence_is_caught_up_and_recorded_within_bounds() -> None:
    every_minute = ScheduleSpec(cron="* * * * *", catch_up=CatchUp.ALL, overlap=Overlap.ALLOW)
    made = plan(every_minute, "busy", FIRE - 400 * DAY, [], FIRE + 30_000_000)
    assert len(made.new) == MOST_RECORDED + 1
    assert len(made.starts) == MOST_CAUGHT_UP
    assert "not listed" in (made.new[0].reason or "")


def test_what_is_later_than_its_deadline_is_missed() -> None:
    late = spec(deadline_s=3_600)
    assert states(look(late, FIRE + HOUR)) == [(0, FireState.WAITING)]
    made = look(late, FIRE + HOUR + 1_000_000)
    assert states(made) == [(0, FireState.MISSED)]
    assert "1h" in (made.new[0].reason or "")


def test_a_fire_that_waits_beyond_its_deadline_is_missed() -> None:
    waiting = Fire(fire_us=FIRE, kind=FireKind.SCHEDULE, state=FireState.WAITING)
    now_us = FIRE + 2 * HOUR
    busy = at_work(FIRE - DAY, now_us)
    made = look(spec(deadline_s=3_600, overlap=Overlap.QUEUE), now_us, waiting, busy, last_us=FIRE)
    assert [move.event for move in made.moves] == ["too late"]


@pytest.mark.parametrize(
    ("overlap", "events", "starts", "cancels"),
    [
        (Overlap.SKIP, ["in the way"], (), ()),
        (Overlap.QUEUE, [], (), ()),
        (Overlap.REPLACE, [], (), (FIRE - DAY,)),
        (Overlap.ALLOW, ["start"], (FIRE,), ()),
    ],
)
def test_while_an_earlier_fire_is_at_work_the_overlap_says_what_becomes_of_the_next(
    overlap: Overlap, events: list[str], starts: tuple[int, ...], cancels: tuple[int, ...]
) -> None:
    made = look(spec(overlap=overlap), FIRE, at_work(FIRE - DAY, FIRE))
    assert [move.event for move in made.moves] == events
    assert (made.starts, made.cancels) == (starts, cancels)


def test_a_replacing_fire_begins_when_the_earlier_one_is_gone() -> None:
    waiting = Fire(fire_us=FIRE, kind=FireKind.SCHEDULE, state=FireState.WAITING)
    assert look(spec(overlap=Overlap.REPLACE), FIRE + MINUTE, waiting, last_us=FIRE).starts == (FIRE,)


def test_a_fire_whose_worker_is_silent_is_taken_up_again() -> None:
    assert look(spec(), FIRE + MINUTE, at_work(FIRE, FIRE + 30_000_000), last_us=FIRE).is_empty
    made = look(spec(), FIRE + 2 * MINUTE, at_work(FIRE, FIRE + 30_000_000), last_us=FIRE)
    assert made.starts == (FIRE,)
    assert [move.event for move in made.moves] == ["taken up"]


@pytest.mark.parametrize("zone", ZONES)
def test_over_two_years_of_minutes_three_schedulers_start_each_local_time_once(zone: str) -> None:
    """Each has its own look at what is written down, and is away for up to half a day now and then."""
    seed = 20_261_121
    chance = random.Random(seed)
    told = spec(timezone=zone)
    written: dict[int, FireState] = {}
    starts: list[int] = []
    last_us = begin = FIRE - 300 * DAY
    next_us = look(told, begin, last_us=begin).next_fire_us
    away = [begin] * 3
    for now_us in range(begin, begin + 730 * DAY, MINUTE):
        if now_us < next_us:
            continue
        for one in range(3):
            if now_us < away[one]:
                continue
            if chance.random() < 0.05:
                away[one] = now_us + chance.randrange(1, 720) * MINUTE
                continue
            made = plan(told, "nightly", last_us, [], now_us)
            assert written.keys().isdisjoint(fire.fire_us for fire in made.new)
            written |= {fire.fire_us: fire.state for fire in made.new}
            last_us, next_us = made.last_fire_us, made.next_fire_us
            starts += made.starts
    days = Counter(local_time(fire_us, ZoneInfo(zone)).date() for fire_us in starts)
    assert set(days.values()) == {1}, f"seed {seed}"
    assert len(days) == 730, f"seed {seed}"


def test_a_paused_schedule_starts_nothing_but_goes_on_with_what_is_at_work() -> None:
    made = plan(spec(), "nightly", FIRE - DAY, [at_work(FIRE - DAY, 0)], FIRE, enabled=False)
    assert made.new == ()
    assert made.starts == (FIRE - DAY,)


def test_jitter_is_the_same_every_time_and_within_its_bound() -> None:
    offsets = {name: jitter_s(name, 600) for name in map(str, range(200))}
    assert offsets == {name: jitter_s(name, 600) for name in map(str, range(200))}
    assert all(0 <= offset <= 600 for offset in offsets.values())
    assert len(set(offsets.values())) > 100
    jittery = spec(jitter_s=600)
    offset_us = jitter_s("nightly", 600) * 1_000_000
    assert look(jittery, FIRE + offset_us - 1).starts == ()
    assert look(jittery, FIRE + offset_us).starts == (FIRE,)


def test_a_backfill_names_the_times_in_between_the_oldest_first() -> None:
    assert backfill(spec(), FIRE - 2 * DAY, FIRE, 10) == [FIRE - 2 * DAY, FIRE - DAY, FIRE]
    assert len(backfill(spec(), FIRE - 20 * DAY, FIRE, 10)) == 11


def test_the_key_of_a_fire_tells_the_two_hours_apart_that_have_one_name() -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = round(datetime(2026, 10, 25, 2, 30, tzinfo=zone).timestamp()) * 1_000_000
    assert fire_key("hourly", first, zone) == "hourly@2026-10-25T02:30+02:00"
    assert fire_key("hourly", first + HOUR, zone) == "hourly@2026-10-25T02:30+01:00"


def test_words_for_days_mean_the_day_of_the_fire_in_its_zone() -> None:
    moment = datetime(2026, 3, 1, 0, 5, tzinfo=ZoneInfo("Asia/Kolkata"))
    told = {"date": "yesterday", "until": "today", "at": "fire_time", "label": "yesterdays", "n": 3}
    assert params_at(told, moment) == {
        "date": "2026-02-28",
        "until": "2026-03-01",
        "at": "2026-03-01T00:05+05:30",
    }
