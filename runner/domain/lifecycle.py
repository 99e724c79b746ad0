"""How long a model will be there, by its published dates."""

from __future__ import annotations

from datetime import date

from runner.domain.pricing import ModelFacts

# At least so long before a retirement it is announced.
NOTICE_DAYS = 60
NOT_BEFORE = "not before "


def lifecycle_warnings(facts: ModelFacts, today: date, *, fast: bool = True) -> list[str]:
    """What somebody should know who goes on with this model, with its `fast` mode or without; nothing for one that
    stays."""
    told = [_retirement(facts, today), _fast_mode(facts, today) if fast else None]
    return [sentence for sentence in told if sentence]


def _retirement(facts: ModelFacts, today: date) -> str | None:
    if facts.retires is None:
        return f"{facts.id} is deprecated; no day of its retirement is known." if facts.deprecated else None
    floor = facts.retires.startswith(NOT_BEFORE)
    day = date.fromisoformat(facts.retires.removeprefix(NOT_BEFORE))
    left = (day - today).days
    if not floor:
        if left < 0:
            return f"{facts.id} was to retire on {day}."
        when = "today" if left == 0 else f"in {left} day{'' if left == 1 else 's'}"
        return f"{facts.id} is deprecated and retires on {day}, {when}."
    if left > NOTICE_DAYS:
        return None
    since = "has been possible since" if left <= 0 else "is possible from"
    return (
        f"{facts.id} is an older model: its retirement {since} {day}. It is announced {NOTICE_DAYS} days ahead; "
        f"`runner models --refresh` asks."
    )


def _fast_mode(facts: ModelFacts, today: date) -> str | None:
    if facts.fast_until is None:
        return None
    day = date.fromisoformat(facts.fast_until)
    verb = "ended" if day < today else "ends"
    return f"fast mode of {facts.id} {verb} on {day}."
