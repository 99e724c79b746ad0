"""Schedules and what became of their fires, as tables and as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from runner.domain.cron import local_time, zone_of
from runner.domain.schedule import clock_words, jitter_s
from runner.store.schedules import PastFire, Schedule
from runner.views.durations import duration, utc
from runner.views.tables import Column, table_lines

LS_COLUMNS = (
    Column(title="SCHEDULE", most=32),
    Column(title="WHEN", most=24),
    Column(title="NEXT"),
    Column(title="LAST"),
    Column(title="RUN"),
    Column(title="OVERLAP"),
    Column(title="JOB", most=60),
)
HISTORY_COLUMNS = (
    Column(title="TIME"),
    Column(title="STATE"),
    Column(title="EXIT", right=True),
    Column(title="RUN"),
    Column(title="TOOK", right=True),
    Column(title="NOTE", most=90),
)


def schedule_table(
    found: Sequence[tuple[Schedule, Sequence[PastFire]]], width: int | None, *, plain: bool
) -> list[str]:
    """One line a schedule, with its newest fire."""
    return table_lines(LS_COLUMNS, [_line(one, past) for one, past in found], width, plain=plain)


def _line(one: Schedule, past: Sequence[PastFire]) -> list[str]:
    last = past[0] if past else None
    return [
        one.name,
        one.spec.cron,
        next_words(one),
        "-" if last is None else state_words(last),
        (last.run if last else None) or "-",
        one.spec.overlap,
        one.job.file,
    ]


def next_words(one: Schedule) -> str:
    """`2026-11-22 02:30 Europe/Berlin`, or that it is paused."""
    if not one.enabled:
        return "paused"
    return f"{clock_words(one.next_fire_us, _zone(one))} {one.spec.timezone}"


def state_words(past: PastFire) -> str:
    """In which state the fire is."""
    return str(past.fire.state)


def schedule_facts(one: Schedule, nexts: Sequence[int], last: PastFire | None) -> list[str]:
    """What there is to know of one schedule, a line a fact."""
    spec = one.spec
    late = "however late" if spec.deadline_s is None else f"at most {duration(spec.deadline_s)} late"
    facts = [
        ("schedule", f"{one.name}{'' if one.enabled else '   paused'}"),
        ("job", one.job.file),
        ("in", one.job.folder),
        ("when", f"{spec.cron}   {spec.timezone}"),
        ("overlap", str(spec.overlap)),
        ("catch up", f"{spec.catch_up}, {late}"),
    ]
    if spec.jitter_s:
        facts.append(("jitter", f"begins {duration(jitter_s(one.name, spec.jitter_s))} after its time"))
    facts += [("with", f"{name}={value}") for name, value in {**one.job.params, **one.job.overrides}.items()]
    if last is not None:
        facts.append(("last", f"{clock_words(last.fire.fire_us, _zone(one))}  {state_words(last)}  {last.run or ''}"))
    facts += [("next" if at == nexts[0] else "", clock_words(at, _zone(one))) for at in nexts]
    return [f"{name:9} {told}".rstrip() for name, told in facts]


def history_table(one: Schedule, past: Sequence[PastFire], width: int | None, *, plain: bool) -> list[str]:
    """One line a fire, the newest first."""
    zone = _zone(one)
    rows = [
        [
            local_time(fire.fire.fire_us, zone).strftime("%Y-%m-%d %H:%M %z"),
            state_words(fire),
            "-" if fire.exit_code is None else str(fire.exit_code),
            fire.run or "-",
            _took(fire),
            fire.fire.reason or ("" if fire.fire.kind == "schedule" else str(fire.fire.kind).replace("_", " ")),
        ]
        for fire in past
    ]
    return table_lines(HISTORY_COLUMNS, rows, width, plain=plain)


def _took(past: PastFire) -> str:
    if past.ended_us is None or past.run is None:
        return "-"
    return duration((past.ended_us - past.fire.fire_us) / 1e6)


def schedule_json(one: Schedule, last: PastFire | None) -> dict[str, Any]:
    """One schedule for machines."""
    spec = one.spec
    return {
        "name": one.name,
        "job": one.job.file,
        "cron": spec.cron,
        "timezone": spec.timezone,
        "overlap": spec.overlap,
        "catch_up": spec.catch_up,
        "deadline_s": spec.deadline_s,
        "jitter_s": spec.jitter_s,
        "enabled": one.enabled,
        "next_fire": utc(one.next_fire_us) if one.enabled else None,
        "last": None if last is None else history_json(one, last),
    }


def history_json(one: Schedule, past: PastFire) -> dict[str, Any]:
    """One fire for machines."""
    return {
        "time": local_time(past.fire.fire_us, _zone(one)).isoformat(),
        "kind": past.fire.kind,
        "state": past.fire.state,
        "reason": past.fire.reason,
        "run": past.run,
        "run_state": past.run_state,
        "exit": past.exit_code,
        "recorded": utc(past.recorded_us),
        "ended": utc(past.ended_us),
    }


def _zone(one: Schedule) -> ZoneInfo:
    return zone_of(one.spec.timezone)
