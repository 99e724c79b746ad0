"""Schedules and their fires: kept, planned for, moved. Every transaction may be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict
from sqlalchemy import Connection

from runner.domain.schedule import CatchUp, Fire, FireKind, FireMove, FireState, Overlap, Plan, ScheduleSpec
from runner.domain.states import RunState
from runner.errors import UsageInvalid
from runner.store import schedule_queries as queries
from runner.store.database import Database
from runner.store.ledger import plain_text


class ScheduledJob(Struct, frozen=True, kw_only=True):
    """What a schedule runs: a job file, read anew at each fire, and what its command line would say, in `folder`."""

    file: str
    folder: str
    params: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


class Schedule(Struct, frozen=True, kw_only=True):
    """A schedule as it is kept. `version` rises with every change of it."""

    id: int
    name: str
    spec: ScheduleSpec
    job: ScheduledJob
    enabled: bool
    version: int
    last_fire_us: int
    next_fire_us: int


class PastFire(Struct, frozen=True, kw_only=True):
    """A fire with what became of it."""

    fire: Fire
    run: str | None
    run_state: RunState | None
    exit_code: int | None
    recorded_us: int
    ended_us: int | None


class Schedules:
    """The schedules of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, spec: ScheduleSpec, job: ScheduledJob, *, next_fire_us: int, now_us: int) -> Schedule:
        """Make a schedule, or change the one of that name. Of new times only those after `now_us` are due."""

        def work(connection: Connection) -> Schedule:
            told = {**asdict(spec), "job": job.to_json()}
            times = {"last_fire_us": now_us, "next_fire_us": next_fire_us}
            found = connection.execute(queries.schedule_named(name)).first()
            if found is None:
                first = {"name": name, "enabled": True, "version": 1, "created_us": now_us}
                connection.execute(queries.add_schedule(), {**first, **times, **told})
            else:
                moved = (found.cron, found.timezone) != (spec.cron, spec.timezone)
                connection.execute(queries.change_schedule(found.id, **(times if moved else {}), **told))
            return _schedule(connection.execute(queries.schedule_named(name)).one())

        return self._database.write(work)

    def all(self) -> list[Schedule]:
        return self._database.read(lambda c: [_schedule(row) for row in c.execute(queries.all_schedules())])

    def named(self, name: str) -> Schedule:
        """Raises UsageInvalid where there is none of that name."""
        found = self._database.read(lambda c: c.execute(queries.schedule_named(name)).first())
        if found is None:
            hints = ("runner schedule ls   lists them",)
            raise UsageInvalid(f"there is no schedule {name!r}.", name="no-schedule", hints=hints)
        return _schedule(found)

    def enable(self, schedule: Schedule, *, enabled: bool, now_us: int) -> None:
        """What falls due while a schedule is paused is not caught up."""
        changes = {"enabled": enabled, **({"last_fire_us": now_us} if enabled else {})}
        self._database.write(lambda c: c.execute(queries.change_schedule(schedule.id, **changes)))

    def drop(self, schedule: Schedule) -> None:
        """The schedule and the history of its fires; its runs stay."""

        def work(connection: Connection) -> None:
            connection.execute(queries.drop_fires(schedule.id))
            connection.execute(queries.drop_schedule(schedule.id))

        self._database.write(work)

    # --- fires

    def open_fires(self) -> dict[int, list[Fire]]:
        """What waits or is at work, by schedule."""
        found: dict[int, list[Fire]] = {}
        for row in self._database.read(lambda c: c.execute(queries.open_fires()).all()):
            found.setdefault(row.schedule, []).append(_fire(row))
        return found

    def carry_out(self, schedule: Schedule, plan: Plan, now_us: int) -> bool:
        """Write a plan down, if nobody has changed anything since it was made. Only True allows its starts.

        A replay that finds its own change says False: then nobody has started them, and they are taken up after a
        minute of silence.
        """

        def work(connection: Connection) -> bool:
            found = connection.execute(queries.schedule_to_change(schedule.id)).first()
            if found is None or found.version != schedule.version:
                return False
            _add_fires(connection, schedule.id, plan.new, now_us)
            for move in plan.moves:
                connection.execute(_move(schedule.id, move, now_us))
            changes = {"last_fire_us": plan.last_fire_us, "next_fire_us": plan.next_fire_us}
            connection.execute(queries.change_schedule(schedule.id, **changes))
            return True

        return self._database.write(work)

    def ask_for(self, schedule: Schedule, fire_us: Sequence[int], kind: FireKind, now_us: int) -> int:
        """Have fires started that a person asks for, unless they are open or went well; how many wait now."""

        def work(connection: Connection) -> int:
            waiting = [Fire(fire_us=at_us, kind=kind, state=FireState.WAITING) for at_us in fire_us]
            _add_fires(connection, schedule.id, waiting, now_us)
            for at_us in fire_us:
                again = {"kind": kind, "reason": None, "ended_us": None, "exit_code": None}
                connection.execute(queries.move_fire(schedule.id, at_us, "asked for", **again))
            found = [connection.execute(queries.fire_at(schedule.id, at_us)).one() for at_us in fire_us]
            connection.execute(queries.change_schedule(schedule.id))
            return sum(row.state == FireState.WAITING for row in found)

        return self._database.write(work)

    def begin(self, schedule: Schedule, fire_us: int, now_us: int) -> bool:
        """Start a fire that waits, here and now, whatever else of its schedule is at work."""
        tries: list[bool] = []

        def work(connection: Connection) -> bool:
            start = _move(schedule.id, FireMove(fire_us=fire_us, event="start"), now_us)
            tries.append(connection.execute(start).rowcount == 1)
            connection.execute(queries.change_schedule(schedule.id))
            return any(tries)

        return self._database.write(work)

    def beat(self, schedule: int, fire_us: Sequence[int], now_us: int) -> None:
        """Say that somebody works on these fires."""
        self._database.write(lambda c: c.execute(queries.beat(schedule, fire_us, now_us)))

    def bind_run(self, schedule: Schedule, fire_us: int, run: int) -> None:
        self._database.write(lambda c: c.execute(queries.bind_run(schedule.id, fire_us, run)))

    def end(
        self, schedule: Schedule, fire_us: int, *, exit_code: int, well: bool, reason: str | None, now_us: int
    ) -> None:
        event = "ended well" if well else "ended badly"
        told = {"exit_code": exit_code, "reason": plain_text(reason), "ended_us": now_us}
        self._database.write(lambda c: c.execute(queries.move_fire(schedule.id, fire_us, event, **told)))

    def history(self, schedule: Schedule, limit: int) -> list[PastFire]:
        """The newest first."""
        return self._database.read(
            lambda c: [_past(row) for row in c.execute(queries.newest_fires(schedule.id, limit))]
        )

    def run_of(self, schedule: Schedule, fire_us: int) -> int | None:
        found = self._database.read(lambda c: c.execute(queries.fire_at(schedule.id, fire_us)).first())
        return None if found is None else found.run


def _add_fires(connection: Connection, schedule: int, fires: Sequence[Fire], now_us: int) -> None:
    rows = [
        {
            "schedule": schedule,
            "fire_us": fire.fire_us,
            "kind": fire.kind,
            "state": fire.state,
            "reason": fire.reason,
            "recorded_us": now_us,
            "ended_us": now_us if fire.state is FireState.MISSED else None,
        }
        for fire in fires
    ]
    if rows:
        connection.execute(queries.add_fires(connection.dialect.name), rows)


def _move(schedule: int, move: FireMove, now_us: int) -> Any:
    values: dict[str, Any] = {"reason": move.reason}
    if move.event in ("start", "taken up"):
        values |= {"beat_us": now_us, "ended_us": None, "exit_code": None}
    else:
        values["ended_us"] = now_us
    return queries.move_fire(schedule, move.fire_us, move.event, **values)


def _schedule(row: Any) -> Schedule:
    return Schedule(
        id=row.id,
        name=row.name,
        spec=ScheduleSpec(
            cron=row.cron,
            timezone=row.timezone,
            overlap=Overlap(row.overlap),
            catch_up=CatchUp(row.catch_up),
            deadline_s=row.deadline_s,
            jitter_s=row.jitter_s,
        ),
        job=ScheduledJob(**json.loads(row.job)),
        enabled=row.enabled,
        version=row.version,
        last_fire_us=row.last_fire_us,
        next_fire_us=row.next_fire_us,
    )


def _fire(row: Any) -> Fire:
    return Fire(
        fire_us=row.fire_us,
        kind=FireKind(row.kind),
        state=FireState(row.state),
        reason=row.reason,
        beat_us=row.beat_us,
    )


def _past(row: Any) -> PastFire:
    return PastFire(
        fire=_fire(row),
        run=row.label,
        run_state=RunState(row.run_state) if row.run_state else None,
        exit_code=row.exit_code,
        recorded_us=row.recorded_us,
        ended_us=row.ended_us,
    )
