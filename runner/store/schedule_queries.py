"""The statements of schedules and their fires, one named function each: it returns the statement and runs nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Delete, Insert, Select, Update, delete, insert, select, update

from runner.domain.schedule import FIRE_MOVES, OPEN_FIRE, FireState
from runner.domain.states import leading_to
from runner.store.queries import insert_absent
from runner.store.tables import fires, runs, schedules


def add_schedule() -> Insert:
    return insert(schedules)


def all_schedules() -> Select[Any]:
    return select(schedules).order_by(schedules.c.name)


def schedule_named(name: str) -> Select[Any]:
    return select(schedules).where(schedules.c.name == name)


def schedule_to_change(schedule: int) -> Select[Any]:
    return select(schedules).where(schedules.c.id == schedule).with_for_update()


def change_schedule(schedule: int, **values: Any) -> Update:
    """Every change has a version of its own, so that a plan made for an older one is not carried out."""
    return update(schedules).where(schedules.c.id == schedule).values(version=schedules.c.version + 1, **values)


def drop_schedule(schedule: int) -> Delete:
    return delete(schedules).where(schedules.c.id == schedule)


def drop_fires(schedule: int) -> Delete:
    return delete(fires).where(fires.c.schedule == schedule)


def add_fires(dialect: str) -> Any:
    return insert_absent(fires, dialect)


def open_fires() -> Select[Any]:
    return select(fires).where(fires.c.state.in_(OPEN_FIRE)).order_by(fires.c.fire_us)


def fire_at(schedule: int, fire_us: int) -> Select[Any]:
    return select(fires).where(fires.c.schedule == schedule, fires.c.fire_us == fire_us)


def newest_fires(schedule: int, limit: int) -> Select[Any]:
    return (
        select(fires, runs.c.label, runs.c.state.label("run_state"))
        .select_from(fires.outerjoin(runs, runs.c.id == fires.c.run))
        .where(fires.c.schedule == schedule)
        .order_by(fires.c.fire_us.desc())
        .limit(limit)
    )


def move_fire(schedule: int, fire_us: int, event: str, **values: Any) -> Update:
    """Only from a state that has this move; one event leads to one state."""
    before = leading_to(FIRE_MOVES, event)
    (to,) = {FIRE_MOVES[state][event] for state in before}
    return (
        update(fires)
        .where(fires.c.schedule == schedule, fires.c.fire_us == fire_us, fires.c.state.in_(before))
        .values(state=to, **values)
    )


def beat(schedule: int, fire_us: Collection[int], now_us: int) -> Update:
    return (
        update(fires)
        .where(fires.c.schedule == schedule, fires.c.fire_us.in_(fire_us), fires.c.state == FireState.STARTED)
        .values(beat_us=now_us)
    )


def bind_run(schedule: int, fire_us: int, run: int) -> Update:
    return update(fires).where(fires.c.schedule == schedule, fires.c.fire_us == fire_us).values(run=run)
