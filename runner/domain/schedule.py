"""Schedules: which fires of one are due, missed, skipped, started or taken up again at a moment. Pure.

A *fire* is one moment at which a schedule's job is to run. Its time is its name: the run that it starts has it as its
key, so whoever starts it, and however often, it is one run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.cron import Cron, fires_before, local_time, next_fire, parse, zone_of
from runner.domain.states import Moves

SECOND_US = 1_000_000
# Somebody looks once a minute; a few of those may be lost before a fire counts as missed.
ON_TIME_S = 300
# With `catch_up: all` the newest so many, so that a week of downtime is no flood.
MOST_CAUGHT_UP = 10
# As many fires may wait for their turn.
MOST_WAITING = 10
# Of missed fires so many are recorded one by one; what lies before them is one entry.
MOST_RECORDED = 100
# Whoever works on a fire says so every few seconds; after this silence another takes it up.
SILENT_S = 60


class Overlap(StrEnum):
    """What becomes of a fire that is due while an earlier one is still at work."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"  # the earlier one is canceled
    ALLOW = "allow"


class CatchUp(StrEnum):
    """Which fires that nobody was there to start are started later."""

    LATEST = "latest"
    NONE = "none"
    ALL = "all"


class FireKind(StrEnum):
    """Why there is a fire."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    BACKFILL = "backfill"
    MANUAL = "manual"


class FireState(StrEnum):
    WAITING = "waiting"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    MISSED = "missed"
    SKIPPED = "skipped"


FIRE_MOVES: Moves = {
    FireState.WAITING: {
        "start": FireState.STARTED,
        "too late": FireState.MISSED,
        "in the way": FireState.SKIPPED,
    },
    FireState.STARTED: {
        "taken up": FireState.STARTED,
        "ended well": FireState.DONE,
        "ended badly": FireState.FAILED,
    },
    FireState.DONE: {},
    FireState.FAILED: {"asked for": FireState.WAITING},
    FireState.MISSED: {"asked for": FireState.WAITING},
    FireState.SKIPPED: {"asked for": FireState.WAITING},
}

OPEN_FIRE = frozenset({FireState.WAITING, FireState.STARTED})


class ScheduleSpec(Struct, frozen=True, kw_only=True):
    """When a job runs, as a person wrote it. Seconds; `deadline_s` None: a fire may begin however late."""

    cron: str
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LATEST
    deadline_s: int | None = None
    jitter_s: int = 0

    def parsed(self) -> tuple[Cron, ZoneInfo]:
        """Raises ValueError, the end of a sentence."""
        return parse(self.cron), zone_of(self.timezone)


def spec_from(told: Mapping[str, Any] | None) -> ScheduleSpec | None:
    """The schedule of a job's snapshot."""
    if told is None:
        return None
    words = {"overlap": Overlap(told["overlap"]), "catch_up": CatchUp(told["catch_up"])}
    return ScheduleSpec(**{**told, **words})


class Fire(Struct, frozen=True, kw_only=True):
    """One fire of a schedule. `fire_us` is its time as scheduled; `beat_us` the last sign of life of its worker."""

    fire_us: int
    kind: FireKind
    state: FireState
    reason: str | None = None
    beat_us: int | None = None


class FireMove(Struct, frozen=True, kw_only=True):
    """A fire that is to be in another state."""

    fire_us: int
    event: str
    reason: str | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What to write down and to do for one schedule at one moment.

    `new` are fires to be recorded; `moves` are of these and of older ones; `starts` are to be worked on from now on;
    `cancels` are at work and in the way of the newest.
    """

    new: tuple[Fire, ...]
    moves: tuple[FireMove, ...]
    starts: tuple[int, ...]
    cancels: tuple[int, ...]
    last_fire_us: int
    next_fire_us: int

    @property
    def is_empty(self) -> bool:
        return not (self.new or self.moves or self.cancels)


def plan(
    spec: ScheduleSpec, name: str, last_fire_us: int, open_fires: Sequence[Fire], now_us: int, *, enabled: bool = True
) -> Plan:
    """What is due at `now_us`, after everything up to `last_fire_us` was looked at."""
    cron, zone = spec.parsed()
    new, last_us = _due(spec, cron, zone, last_fire_us, now_us) if enabled else ((), max(last_fire_us, now_us))
    at_work = [fire for fire in open_fires if fire.state is FireState.STARTED]
    waiting = [fire for fire in (*open_fires, *new) if fire.state is FireState.WAITING]
    queue = _Queue(spec, name, zone, now_us, at_work)
    for fire in sorted(waiting, key=lambda fire: fire.fire_us) if enabled else ():
        queue.look_at(fire, newer=any(other.fire_us > fire.fire_us for other in waiting))
    for fire in at_work:
        if now_us - (fire.beat_us or 0) > SILENT_S * SECOND_US:
            queue.take_up(fire)
    return Plan(
        new=new,
        moves=tuple(queue.moves),
        starts=tuple(queue.starts),
        cancels=tuple(queue.cancels),
        last_fire_us=last_us,
        next_fire_us=next_fire(cron, zone, max(last_us, now_us)),
    )


def _due(
    spec: ScheduleSpec, cron: Cron, zone: ZoneInfo, last_fire_us: int, now_us: int
) -> tuple[tuple[Fire, ...], int]:
    """The fires since the last look, the oldest first, each waiting or missed; and up to where has been looked."""
    newest_first: list[int] = []
    for moment_us in fires_before(cron, zone, now_us):
        if moment_us <= last_fire_us or len(newest_first) > MOST_RECORDED:
            break
        newest_first.append(moment_us)
    fires = [_fire(spec, moment_us, place, now_us) for place, moment_us in enumerate(newest_first)]
    if len(fires) > MOST_RECORDED:
        fires[-1] = replace(
            fires[-1], reason="nobody was there to start it, nor those before it, which are not listed"
        )
    return tuple(reversed(fires)), max(last_fire_us, newest_first[0] if newest_first else last_fire_us)


def _fire(spec: ScheduleSpec, moment_us: int, place: int, now_us: int) -> Fire:
    """`place` counts the fires that came due after this one."""
    late_s = (now_us - moment_us) / SECOND_US
    on_time = late_s <= ON_TIME_S
    kind = FireKind.SCHEDULE if on_time else FireKind.CATCH_UP
    caught = {CatchUp.NONE: on_time, CatchUp.LATEST: place == 0, CatchUp.ALL: place < MOST_CAUGHT_UP}
    if spec.deadline_s is not None and late_s > spec.deadline_s:
        return _missed(moment_us, f"more than its deadline of {_duration(spec.deadline_s)} had passed")
    if not caught[spec.catch_up]:
        if spec.catch_up is CatchUp.LATEST:
            return _missed(moment_us, "nobody was there to start it, and a later one was due as well")
        return _missed(moment_us, "nobody was there to start it")
    return Fire(fire_us=moment_us, kind=kind, state=FireState.WAITING)


def _missed(moment_us: int, reason: str) -> Fire:
    return Fire(fire_us=moment_us, kind=FireKind.SCHEDULE, state=FireState.MISSED, reason=reason)


class _Queue:
    """Fires that wait, looked at in the order of their times."""

    def __init__(self, spec: ScheduleSpec, name: str, zone: ZoneInfo, now_us: int, at_work: Sequence[Fire]) -> None:
        self._spec = spec
        self._zone = zone
        self._now_us = now_us
        self._jitter_us = jitter_s(name, spec.jitter_s) * SECOND_US
        self._at_work = [fire.fire_us for fire in at_work]
        self._kept = 0
        self.moves: list[FireMove] = []
        self.starts: list[int] = []
        self.cancels: list[int] = []

    def look_at(self, fire: Fire, *, newer: bool) -> None:
        if self._too_late(fire):
            self._drop(
                fire, "too late", f"it did not begin within its deadline of {_duration(self._spec.deadline_s)}"
            )
        elif not _asked_for(fire) and self._now_us < fire.fire_us + self._jitter_us:
            self._kept += 1
        elif not self._at_work or self._spec.overlap is Overlap.ALLOW:
            self.moves.append(FireMove(fire_us=fire.fire_us, event="start"))
            self.starts.append(fire.fire_us)
            self._at_work.append(fire.fire_us)
        else:
            self._wait_or_skip(fire, newer=newer)

    def _too_late(self, fire: Fire) -> bool:
        deadline_s = self._spec.deadline_s
        late_us = self._now_us - fire.fire_us
        return not _asked_for(fire) and deadline_s is not None and late_us > deadline_s * SECOND_US

    def _wait_or_skip(self, fire: Fire, *, newer: bool) -> None:
        """Something earlier is at work. What was caught up or asked for waits for its turn whatever the overlap."""
        earlier = f"the one of {clock_words(self._at_work[0], self._zone)} was still at work"
        if fire.kind is not FireKind.SCHEDULE or self._spec.overlap is Overlap.QUEUE:
            if self._kept >= MOST_WAITING and fire.kind is FireKind.SCHEDULE:
                self._drop(fire, "in the way", f"{earlier}, and {MOST_WAITING} were waiting already")
            else:
                self._kept += 1
        elif self._spec.overlap is Overlap.REPLACE and not newer:
            self._kept += 1
            self.cancels += [at_work for at_work in self._at_work if at_work not in self.starts]
        elif self._spec.overlap is Overlap.REPLACE:
            self._drop(fire, "in the way", "a later one was due before it could begin")
        else:
            self._drop(fire, "in the way", earlier)

    def _drop(self, fire: Fire, event: str, reason: str) -> None:
        self.moves.append(FireMove(fire_us=fire.fire_us, event=event, reason=reason))

    def take_up(self, fire: Fire) -> None:
        """Whoever worked on it is silent."""
        self.moves.append(FireMove(fire_us=fire.fire_us, event="taken up"))
        self.starts.append(fire.fire_us)


def _asked_for(fire: Fire) -> bool:
    return fire.kind in (FireKind.BACKFILL, FireKind.MANUAL)


def backfill(spec: ScheduleSpec, from_us: int, until_us: int, limit: int) -> list[int]:
    """The fire times from `from_us` up to and with `until_us`, the oldest first, at most `limit` + 1 of them."""
    cron, zone = spec.parsed()
    times = (moment for moment in fires_before(cron, zone, until_us))
    found: list[int] = []
    for moment_us in islice(times, limit + 1):
        if moment_us < from_us:
            break
        found.append(moment_us)
    return found[::-1]


def jitter_s(name: str, most_s: int) -> int:
    """How long after its time a fire of this schedule begins: the same for each, so that it can be foreseen."""
    if most_s <= 0:
        return 0
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % (most_s + 1)


def fire_key(name: str, fire_us: int, zone: ZoneInfo) -> str:
    """The key of the run that a fire starts: `nightly@2026-11-21T02:30+01:00`."""
    moment = local_time(fire_us, zone)
    return f"{name}@{moment.isoformat(timespec='seconds' if moment.second else 'minutes')}"


# Words that a parameter may hold instead of a date.
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


def params_at(params: Mapping[str, Any], moment: datetime) -> dict[str, str]:
    """The parameters that stand for the day of a fire, or for its time (`fire_time`), as what they stand for."""
    told = {
        name: (moment.date() + timedelta(days=_DAYS[value])).isoformat()
        for name, value in params.items()
        if isinstance(value, str) and value in _DAYS
    }
    return told | {
        name: moment.isoformat(timespec="minutes") for name, value in params.items() if value == "fire_time"
    }


def clock_words(moment_us: int, zone: ZoneInfo) -> str:
    """`2026-11-21 02:30`, on the wall clock of the schedule."""
    return f"{local_time(moment_us, zone):%Y-%m-%d %H:%M}"


def _duration(seconds: int | None) -> str:
    told = seconds or 0
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if told and told % size == 0:
            return f"{told // size}{unit}"
    return f"{told}s"
