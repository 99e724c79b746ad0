"""Schedules over a store: every time fires once, whoever looks, however often, and whatever dies in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from runner.domain.cron import fires_after, parse
from runner.domain.schedule import CatchUp, FireKind, FireState, Overlap, ScheduleSpec, plan
from runner.engine.ticking import tick
from runner.store.schedules import Schedule, ScheduledJob
from runner.store.store import Store
from tests.store.building import ready_store

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00Z
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
)
JOB = ScheduledJob(file="/jobs/nightly.yaml", folder="/jobs")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with ready_store(store_url) as store:
        yield store


def scheduled(store: Store, name: str, told: ScheduleSpec, now_us: int = START) -> Schedule:
    cron, zone = told.parsed()
    return store.schedules.put(name, told, JOB, next_fire_us=next(fires_after(cron, zone, now_us)), now_us=now_us)


TWO_YEARS = pytest.param(0, 730, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1_200)], id="two years")


@pytest.mark.parametrize(("first", "days"), [pytest.param(84, 12, id="clocks change"), TWO_YEARS])
def test_in_six_zones_three_schedulers_run_each_local_time_once(store: Store, first: int, days: int) -> None:
    """Of the three each is now and then away, and now and then dies with a fire at work, which another takes up."""
    seed = 20_261_121
    chance = random.Random(seed)
    cron, begin, end = "30 2 * * *", START + first * DAY, START + (first + days) * DAY
    for zone in ZONES:
        scheduled(store, zone, ScheduleSpec(cron=cron, timezone=zone), begin)
    expected = {
        (zone, fire)
        for zone in ZONES
        for fire in takewhile(lambda fire: fire < end, fires_after(parse(cron), ZoneInfo(zone), begin))
    }
    run: Counter[tuple[str, int]] = Counter()
    died = 0
    for now_us in _moments(sorted({fire for _zone, fire in expected}), end + 10 * MINUTE, chance):
        for _scheduler in range(3):
            if chance.random() < 0.1:
                continue  # restarting
            for start in tick(store, now_us).starts:
                if chance.random() < 0.1:
                    died += 1
                    continue
                run[start.schedule.name, start.fire_us] += 1
                store.schedules.end(start.schedule, start.fire_us, exit_code=0, well=True, reason=None, now_us=now_us)
    assert run == dict.fromkeys(expected, 1), f"seed {seed}"
    assert died > len(expected) / 50, f"seed {seed}"
    for zone in ZONES:
        newest = store.schedules.history(store.schedules.named(zone), days + 2)
        assert {fire.fire.state for fire in newest} == {FireState.DONE}


def _moments(fires: list[int], end: int, chance: random.Random) -> Iterator[int]:
    """Looks just before each fire and for some minutes after it, at odd seconds; and the last."""
    for fire in fires:
        yield fire - chance.randrange(1, 30) * SECOND
        for minute in (0, 2, 4, 6):
            yield min(end, fire + minute * MINUTE + chance.randrange(0, 50) * SECOND)
    yield end


def test_of_those_who_look_at_the_same_moment_one_may_start(store: Store) -> None:
    one = scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *"))
    now_us = one.next_fire_us
    plans = [plan(one.spec, one.name, one.last_fire_us, [], now_us) for _ in range(3)]
    assert [store.schedules.carry_out(one, made, now_us) for made in plans] == [True, False, False]


def test_what_a_dead_scheduler_had_started_is_taken_up_once_and_only_after_a_minute(store: Store) -> None:
    one = scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *"))
    (start,) = tick(store, one.next_fire_us).starts
    assert tick(store, one.next_fire_us + 50 * SECOND).starts == []
    store.schedules.beat(one.id, [start.fire_us], one.next_fire_us + 50 * SECOND)
    assert tick(store, one.next_fire_us + 100 * SECOND).starts == []
    again = [tick(store, one.next_fire_us + 200 * SECOND).starts for _ in range(3)]
    assert [len(starts) for starts in again] == [1, 0, 0]


def test_a_missed_and_a_skipped_fire_are_recorded_with_their_reasons(store: Store) -> None:
    one = scheduled(store, "hourly", ScheduleSpec(cron="0 * * * *", catch_up=CatchUp.NONE))
    first = one.next_fire_us
    assert tick(store, first + 30 * MINUTE).left[0].what is FireState.MISSED
    tick(store, first + 60 * MINUTE)
    store.schedules.beat(one.id, [first + 60 * MINUTE], first + 120 * MINUTE)
    (skipped,) = tick(store, first + 120 * MINUTE).left
    assert skipped.what is FireState.SKIPPED
    newest, before, oldest = store.schedules.history(one, 10)
    assert [newest.fire.state, before.fire.state, oldest.fire.state] == ["skipped", "started", "missed"]
    assert "still at work" in (newest.fire.reason or "")
    assert "nobody" in (oldest.fire.reason or "")


def test_a_backfill_runs_one_after_the_other_and_leaves_out_what_went_well(store: Store) -> None:
    one = scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *"))
    fires = [one.next_fire_us + day * DAY for day in range(3)]
    now_us = fires[2] + 60 * MINUTE
    (done,) = tick(store, fires[0]).starts
    store.schedules.end(one, done.fire_us, exit_code=0, well=True, reason=None, now_us=now_us)
    (failed,) = tick(store, fires[1]).starts
    store.schedules.end(one, failed.fire_us, exit_code=4, well=False, reason="money", now_us=now_us)
    (third,) = tick(store, fires[2]).starts
    store.schedules.end(one, third.fire_us, exit_code=4, well=False, reason="money", now_us=now_us)
    assert store.schedules.ask_for(one, fires, FireKind.BACKFILL, now_us) == 2
    for expected in fires[1:]:
        (start,) = tick(store, now_us).starts
        assert start.fire_us == expected
        store.schedules.end(one, start.fire_us, exit_code=0, well=True, reason=None, now_us=now_us)
    assert tick(store, now_us).starts == []


def test_a_changed_time_is_due_from_now_on_and_a_changed_rule_loses_nothing(store: Store) -> None:
    one = scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *"))
    late = one.next_fire_us + MINUTE
    scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *", overlap=Overlap.QUEUE), late)
    assert [start.fire_us for start in tick(store, late).starts] == [one.next_fire_us]
    scheduled(store, "nightly", ScheduleSpec(cron="0 1 * * *", overlap=Overlap.ALLOW), late)
    assert tick(store, late + MINUTE).starts == []


def test_what_falls_due_while_a_schedule_is_paused_is_not_caught_up(store: Store) -> None:
    one = scheduled(store, "nightly", ScheduleSpec(cron="30 2 * * *"))
    store.schedules.enable(one, enabled=False, now_us=START)
    assert tick(store, one.next_fire_us + MINUTE).starts == []
    store.schedules.enable(one, enabled=True, now_us=one.next_fire_us + 2 * MINUTE)
    assert tick(store, one.next_fire_us + 3 * MINUTE).starts == []
    assert len(tick(store, one.next_fire_us + DAY).starts) == 1
