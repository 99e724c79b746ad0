"""The caps of the whole store, which settings give: written down where every process sees them."""

from __future__ import annotations

from decimal import Decimal

from runner.domain.budget import DAY, EVERYTHING, MONTH, BudgetKey
from runner.domain.pricing import PICO_PER_USD
from runner.settings import Settings
from runner.store.store import Store


def write_caps(settings: Settings, store: Store) -> None:
    """A setting that says nothing leaves what was set before; `none` takes it away."""
    for period, cap in ((DAY, settings.max_usd_day), (MONTH, settings.max_usd_month)):
        if cap is not None:
            store.set_cap(BudgetKey(EVERYTHING, period), pico_of(cap))


def pico_of(amount: Decimal) -> int | None:
    """An amount of dollars; None for what has no end."""
    return int(amount * PICO_PER_USD) if amount.is_finite() else None
