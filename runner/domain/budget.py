"""Budgets: what may be spent, by whom and when. The one rule: spent + committed + next never passes a cap. Pure.

A call or batch is paid for by several budgets at once: its run's, its job's of the day and of the month, and those
of the whole store. It belongs to the UTC day on which it was sent, whenever it ends: what it reserved there is given
back there, and what it cost is spent there. Money is whole pico-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct, field

from runner.domain.booking import day_number
from runner.domain.money import dollars

EVERYTHING = "all"
# The period of a run's budget: it has no other.
WHOLE_RUN = "all"
# Standing rows of these periods hold caps; what is spent stands in a row of each day and month.
DAY, MONTH = "day", "month"
MONTH_LETTERS = len("2026-11")
EPOCH = date(1970, 1, 1)
# The share of a cap from which a warning is said, where the job says nothing else.
DEFAULT_WARN_SHARE = 0.8


class BudgetKey(NamedTuple):
    """A row of the budgets: who pays, and in which period."""

    scope: str
    period: str

    @property
    def cap_key(self) -> BudgetKey:
        """Where its cap stands."""
        if self.period == WHOLE_RUN:
            return self
        return BudgetKey(self.scope, MONTH if len(self.period) == MONTH_LETTERS else DAY)


class Reserve(StrEnum):
    """What a batch holds back until it has been read."""

    WORST = "worst"  # the most that it can cost: a cap is never passed
    LIKELY = "likely"  # what its sum stays below with great probability, once enough rows are known


def day_of(at_us: int) -> str:
    """The UTC day of a moment: `2026-11-21`."""
    return _date_of(day_number(at_us))


@lru_cache(maxsize=400)
def _date_of(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()


def run_scope(run: int) -> str:
    return f"run:{run}"


def job_scope(job: str) -> str:
    return f"job:{job}"


class Payer(Struct, frozen=True, kw_only=True):
    """Whose calls they are."""

    run: int
    job: str

    def keys(self, day: str) -> tuple[BudgetKey, ...]:
        """Every budget that pays for what is sent on this day."""
        return _keys(self.run, self.job, day)


@lru_cache(maxsize=1_000)
def _keys(run: int, job: str, day: str) -> tuple[BudgetKey, ...]:
    month = day[:MONTH_LETTERS]
    return (
        BudgetKey(run_scope(run), WHOLE_RUN),
        BudgetKey(job_scope(job), day),
        BudgetKey(job_scope(job), month),
        BudgetKey(EVERYTHING, day),
        BudgetKey(EVERYTHING, month),
    )


class Level(Struct, frozen=True, kw_only=True):
    """How one budget stands. `cap_pico` None: nothing limits it."""

    key: BudgetKey
    cap_pico: int | None
    spent_pico: int
    committed_pico: int

    @property
    def room_pico(self) -> int | None:
        if self.cap_pico is None:
            return None
        return self.cap_pico - self.spent_pico - self.committed_pico


class BudgetChange(Struct):
    """What is spent now, and what more is held back for calls whose cost is not known."""

    spent_pico: int = 0
    committed_pico: int = 0


class Changes(Struct):
    """What a transaction changes, by the day to which it belongs."""

    by_day: dict[str, BudgetChange] = field(default_factory=dict)

    def spend(self, day: str, pico: int) -> None:
        self._of(day).spent_pico += pico

    def commit(self, day: str, pico: int) -> None:
        """Hold back more, or less where `pico` is negative."""
        self._of(day).committed_pico += pico

    def _of(self, day: str) -> BudgetChange:
        return self.by_day.setdefault(day, BudgetChange())


class Admission(StrEnum):
    """Whether a reservation was taken."""

    TAKEN = "taken"
    OVER = "over"
    UNBOUNDED = "unbounded"  # a cap is set, and nothing bounds what this may cost


class Account:
    """The budgets of one payer as one transaction sees and changes them; it holds their locks until it ends."""

    def __init__(self, payer: Payer, levels: Iterable[Level], changes: Changes | None = None) -> None:
        self.payer = payer
        self.changes = changes or Changes()
        self._left = {level.key: level.room_pico for level in levels if level.room_pico is not None}
        for day, change in self.changes.by_day.items():
            self._take(day, change.spent_pico + change.committed_pico)

    def room_pico(self, day: str) -> int | None:
        """What the tightest cap leaves for this day; None where there is no cap."""
        return min((self._left[key] for key in self.payer.keys(day) if key in self._left), default=None)

    def reserve(self, day: str, pico: int | None) -> Admission:
        """Hold back what something may cost, if every budget has the room."""
        room = self.room_pico(day) if self._left else None
        if room is not None and pico is None:
            return Admission.UNBOUNDED
        if room is not None and (pico or 0) > room:
            return Admission.OVER
        self.changes.commit(day, pico or 0)
        self._take(day, pico or 0)
        return Admission.TAKEN

    def by_key(self) -> Mapping[BudgetKey, BudgetChange]:
        """What is to be added to each row, nothing where nothing changes."""
        told: dict[BudgetKey, BudgetChange] = {}
        for day, change in self.changes.by_day.items():
            for key in self.payer.keys(day):
                of_key = told.setdefault(key, BudgetChange())
                of_key.spent_pico += change.spent_pico
                of_key.committed_pico += change.committed_pico
        return {key: change for key, change in sorted(told.items()) if change.spent_pico or change.committed_pico}

    def _take(self, day: str, pico: int) -> None:
        for key in self.payer.keys(day) if self._left else ():
            if key in self._left:
                self._left[key] -= pico


# --- in words


def name_of(key: BudgetKey) -> str:
    """`the run's budget`, `the budget of job letters for 2026-11-21`, `the budget for 2026-11`."""
    scope, period = key
    if scope.startswith("run:"):
        return "the run's budget"
    when = {DAY: "a day", MONTH: "a month"}.get(period, period)
    owner = "the budget" if scope == EVERYTHING else f"the budget of job {scope.removeprefix('job:')}"
    return f"{owner} for {when}"


def tightest(levels: Iterable[Level]) -> Level | None:
    """The budget with the least room; None where nothing has a cap."""
    capped = [level for level in levels if level.room_pico is not None]
    return min(capped, key=lambda level: level.room_pico or 0, default=None)


def reached_words(level: Level) -> str:
    """`the run's budget, $48.00, has no room for the next row: $46.78 spent, $1.18 committed`."""
    full = "has no room for the next row"
    words = f"{name_of(level.key)}, {dollars(level.cap_pico)}, {full}: {dollars(level.spent_pico)} spent"
    return words if not level.committed_pico else f"{words}, {dollars(level.committed_pico)} committed"


def warned(levels: Iterable[Level], share: float) -> list[Level]:
    """Budgets of which at least this share of the cap is spent."""
    return [level for level in levels if level.cap_pico is not None and level.spent_pico >= level.cap_pico * share]


def warning_words(level: Level) -> str:
    """`83% of the run's budget is spent: $49.80 of $60.00`."""
    share = 100 * level.spent_pico // max(level.cap_pico or 0, 1)
    amounts = f"{dollars(level.spent_pico)} of {dollars(level.cap_pico)}"
    return f"{min(share, 100)}% of {name_of(level.key)} is spent: {amounts}"
