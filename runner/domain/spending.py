"""What was spent, added up by whatever is asked: job, model, day, tag, run or schedule. Pure sums of the books."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import fields

from runner.domain.booking import DAY_US, BookingKind

EPOCH = date(1970, 1, 1)


class Sums(Struct, frozen=True, kw_only=True):
    """Sums of lines of the ledger. `rows` are those that a call ended; `cost_pico` is exact, `duplicate_pico` in it
    was paid twice, `correction_pico` in it came later. `unknown_calls` may cost up to `bound_pico` beside it;
    `uncosted` calls were answered and have no known price, `unbounded` ones not even a bound. `unbatched_pico` is
    what the known ones would have cost outside of batches, `list_pico` without a prompt cache too."""

    calls: int = 0
    rows: int = 0
    unknown_calls: int = 0
    uncosted: int = 0
    unbounded: int = 0
    input_tokens: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output_tokens: int = 0
    web_searches: int = 0
    cost_pico: int = 0
    duplicate_pico: int = 0
    correction_pico: int = 0
    bound_pico: int = 0
    unbatched_pico: int = 0
    list_pico: int = 0

    def plus(self, other: Sums) -> Sums:
        return Sums(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Sums)})

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_write_5m + self.cache_write_1h + self.cache_read

    @property
    def saved_by_batch_pico(self) -> int:
        return self.unbatched_pico - self.cost_pico

    @property
    def saved_by_cache_pico(self) -> int:
        """Below 0 where more was written to the cache than was ever read from it."""
        return self.list_pico - self.unbatched_pico

    @property
    def per_thousand_pico(self) -> int | None:
        """What a thousand rows cost, rounded up; None where no row has ended."""
        return None if not self.rows else -(-1000 * self.cost_pico // self.rows)


NOTHING = Sums()


class Spending(Struct, frozen=True, kw_only=True):
    """The sums of one run on one UTC day (counted from 1970-01-01), of one model and kind of line."""

    run: str
    job: str
    day: int
    kind: str
    model: str
    batch: bool
    sums: Sums
    tags: Mapping[str, str] = field(default_factory=dict)
    schedule: str | None = None
    workspace: str | None = None


class By(StrEnum):
    """What spending is added up by."""

    JOB = "job"
    MODEL = "model"
    DAY = "day"
    TAG = "tag"
    RUN = "run"
    SCHEDULE = "schedule"


UNTAGGED = "(no tags)"
BY_HAND = "(by hand)"


class Group(Struct, frozen=True, kw_only=True):
    """What was spent under one name, by how many runs."""

    name: str
    runs: int
    sums: Sums


def grouped(spendings: Iterable[Spending], by: By, tag: str | None = None) -> list[Group]:
    """Groups by name; days in order, others with what cost the most first. With `tag` runs are grouped by the value
    of this one, otherwise a run is in a group for each of its tags."""
    runs: dict[str, set[str]] = {}
    sums: dict[str, Sums] = {}
    for one in spendings:
        for name in _names(one, by, tag):
            runs.setdefault(name, set()).add(one.run)
            sums[name] = sums.get(name, NOTHING).plus(one.sums)
    groups = [Group(name=name, runs=len(runs[name]), sums=total) for name, total in sums.items()]
    return sorted(groups, key=_by_name if by is By.DAY else _by_cost)


def _by_name(group: Group) -> tuple[int, str]:
    return 0, group.name


def _by_cost(group: Group) -> tuple[int, str]:
    return -group.sums.cost_pico - group.sums.bound_pico, group.name


def _names(one: Spending, by: By, tag: str | None) -> Sequence[str]:
    if by is By.TAG:
        if tag is not None:
            return [one.tags.get(tag, f"(no {tag})")]
        return [f"{name}={value}" for name, value in sorted(one.tags.items())] or [UNTAGGED]
    return [
        {
            By.JOB: one.job,
            By.MODEL: one.model,
            By.DAY: date_of(one.day).isoformat(),
            By.RUN: one.run,
            By.SCHEDULE: one.schedule or BY_HAND,
        }[by]
    ]


def total(spendings: Iterable[Spending]) -> Group:
    """Everything once."""
    runs: set[str] = set()
    sums = NOTHING
    for one in spendings:
        runs.add(one.run)
        sums = sums.plus(one.sums)
    return Group(name="total", runs=len(runs), sums=sums)


def sums_of(kind: str, columns: Mapping[str, int]) -> Sums:
    """The sums that a day's line of one kind stands for."""
    cost = columns["cost_pico"]
    unknown = kind == BookingKind.UNKNOWN
    told = {one.name: columns[one.name] for one in fields(Sums) if one.name in columns}
    return Sums(
        **{
            **told,
            "unknown_calls": columns["calls"] if unknown else 0,
            "uncosted": 0 if unknown else columns["uncosted"],
            "duplicate_pico": cost if kind == BookingKind.DUPLICATE else 0,
            "correction_pico": cost if kind == BookingKind.CORRECTION else 0,
        }
    )


def date_of(day: int) -> date:
    return EPOCH + timedelta(days=day)


def day_number(day: date) -> int:
    return (day - EPOCH).days


def first_of_month(now_us: int) -> int:
    """The day on which this month began, UTC."""
    return day_number(date_of(now_us // DAY_US).replace(day=1))


def since_day(told: str, now_us: int) -> int:
    """`2026-11-01`, `2026-11`, `today`, `yesterday`, `month`, or so many days back: `7d`, `4w`. Raises ValueError."""
    today = now_us // DAY_US
    word = told.strip().lower()
    if word in ("today", "yesterday"):
        return today - (word == "yesterday")
    if word == "month":
        return first_of_month(now_us)
    if word[:-1].isascii() and word[:-1].isdigit() and word[-1:] in ("d", "w"):
        # A day back is today and yesterday: the day that began then is in it whole.
        return max(today - int(word[:-1]) * (7 if word[-1] == "w" else 1), 0)
    form = "%Y-%m" if word.count("-") == 1 else "%Y-%m-%d"
    return day_number(datetime.strptime(word, form).replace(tzinfo=UTC).date())
