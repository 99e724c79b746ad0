"""Budgets in words: what is left to do when one is full, what that would cost, and how to go on."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

from runner.domain.budget import EVERYTHING, MONTH_LETTERS, Level, name_of, run_scope
from runner.domain.pricing import PICO_PER_USD
from runner.views.money import dollars, usd
from runner.views.numbers import percent
from runner.views.safe_text import safe_line

# A cap that is proposed leaves this much more than what is probably needed.
SPARE = 1.1


def standing_words(level: Level) -> str:
    """`the budget of job letters for a day: $4.10 spent and $0.30 reserved of $12.00 (37%), $7.60 left`."""
    reserved = f" and {dollars(level.committed_pico)} reserved" if level.committed_pico else ""
    used = percent(level.spent_pico + level.committed_pico, level.cap_pico or 0)
    words = f"{safe_line(name_of(level.key))}: {dollars(level.spent_pico)} spent{reserved}"
    return f"{words} of {dollars(level.cap_pico)} ({used}), {dollars(max(0, level.room_pico or 0))} left"


def standing_json(level: Level) -> dict[str, Any]:
    return {
        "scope": level.key.scope,
        "period": level.key.period,
        "cap_usd": usd(level.cap_pico),
        "spent_usd": usd(level.spent_pico),
        "committed_usd": usd(level.committed_pico),
        "left_usd": usd(max(0, level.room_pico or 0)),
    }


def rest_pico(spent_pico: int, ended: int, waiting: int | None) -> int | None:
    """What the rows that wait will cost if they cost what the others did; None where nobody knows."""
    if waiting is None or not ended or not spent_pico:
        return None
    return spent_pico * waiting // ended


def rest_words(rest: int | None) -> str:
    """Behind the number of rows that wait."""
    return "" if rest is None else f" (about {dollars(rest)})"


def raised_usd(level: Level, rest: int | None) -> str:
    """A cap that the rest would fit in, in dollars as one types them; X where nobody knows.

    The room that is left was too small for one row, so a row reserves at least as much.
    """
    if rest is None or level.cap_pico is None:
        return "X"
    wanted = Decimal(level.cap_pico + int(rest * SPARE)) / PICO_PER_USD
    step = Decimal(1).scaleb(min(wanted.adjusted() - 1, 0))  # two digits, or whole dollars
    return f"{(wanted / step).to_integral_value(ROUND_CEILING) * step:f}"


def raise_advice(level: Level | None, run: int, label: str, rest: int | None) -> str:
    """How to go on with a run whose budget is full."""
    if level is None or level.key.scope == run_scope(run):
        proposed = "X" if level is None else raised_usd(level, rest)
        return f"runner resume {label} --max-usd {proposed}"
    again = f"then: runner resume {label}"
    when = "month" if len(level.key.period) == MONTH_LETTERS else "day"
    if level.key.scope == EVERYTHING:
        setting = f"RUNNER_MAX_USD_{when.upper()} (max_usd_{when} in runner.toml)"
        return f"raise {setting}, or wait for the next {when} (UTC); {again}"
    return f"raise budget.per.{when} in the job file and run it again, or wait for the next {when} (UTC); {again}"
