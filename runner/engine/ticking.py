"""One look at all schedules: the same for a line of crontab, for the scheduler and for the fleet.

What is to happen is decided by `domain/schedule`, written down, and only then done. Of any number that look at the
same moment one has its plan written; the others find the schedule changed and leave it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Struct

from runner.domain.schedule import FireState, Plan, plan
from runner.store.schedules import Schedule
from runner.store.store import Store

log = logging.getLogger(__name__)


class Start(Struct, frozen=True, kw_only=True):
    """A fire to be worked on by whoever got this."""

    schedule: Schedule
    fire_us: int


class Left(Struct, frozen=True, kw_only=True):
    """A fire that does not take place: `what` is missed or skipped, `why` a sentence."""

    schedule: Schedule
    fire_us: int
    what: FireState
    why: str


class Ticked(Struct, frozen=True, kw_only=True):
    """What one look gave, and when the next fire is due; None without schedules."""

    starts: Sequence[Start]
    left: Sequence[Left]
    next_fire_us: int | None


def tick(store: Store, now_us: int) -> Ticked:
    """Look at every schedule. Blocks."""
    starts: list[Start] = []
    left: list[Left] = []
    nexts: list[int] = []
    open_fires = store.schedules.open_fires()
    for schedule in store.schedules.all():
        fires = open_fires.get(schedule.id, [])
        nexts += [schedule.next_fire_us] if schedule.enabled else []
        if not fires and (not schedule.enabled or now_us < schedule.next_fire_us):
            continue
        made = plan(schedule.spec, schedule.name, schedule.last_fire_us, fires, now_us, enabled=schedule.enabled)
        if made.is_empty or not store.schedules.carry_out(schedule, made, now_us):
            continue
        nexts[-1:] = [made.next_fire_us] if schedule.enabled else nexts[-1:]
        starts += [Start(schedule=schedule, fire_us=fire_us) for fire_us in made.starts]
        left += _left(schedule, made)
        _cancel(store, schedule, made)
    return Ticked(starts=starts, left=left, next_fire_us=min(nexts, default=None))


def _left(schedule: Schedule, made: Plan) -> list[Left]:
    found = [
        Left(schedule=schedule, fire_us=fire.fire_us, what=fire.state, why=fire.reason or "")
        for fire in made.new
        if fire.state is FireState.MISSED
    ]
    events = {"too late": FireState.MISSED, "in the way": FireState.SKIPPED}
    found += [
        Left(schedule=schedule, fire_us=move.fire_us, what=events[move.event], why=move.reason or "")
        for move in made.moves
        if move.event in events
    ]
    for one in found:
        log.warning(
            "fire_left",
            extra={"schedule": schedule.name, "what": one.what, "fire_us": one.fire_us, "reason": one.why},
        )
    return found


def _cancel(store: Store, schedule: Schedule, made: Plan) -> None:
    """What is at work makes room for the newest: whoever works on it is asked to cancel it."""
    for fire_us in made.cancels:
        run = store.schedules.run_of(schedule, fire_us)
        if run is not None:
            store.ask(run, "cancel")
