"""The prices that a command reckons with: those of this release, under what settings say of one's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from runner.domain.price_changes import PricesInvalid, changed_prices, joined_changes
from runner.domain.pricing import PriceBook, shipped_json, shipped_prices
from runner.errors import UsageInvalid
from runner.settings import Settings


def price_book_of(settings: Settings) -> PriceBook:
    """Raises UsageInvalid, naming the file or setting that cannot be used."""
    path = settings.prices_file
    if path is None and not settings.model_prices:
        return shipped_prices()
    table = {} if path is None else _table(path, settings.origin.get("prices", "prices"))
    try:
        return changed_prices(shipped_json(), joined_changes(table, settings.model_prices))
    except PricesInvalid as bad:
        places = [settings.origin[name] for name in ("prices", "model_prices") if name in settings.origin]
        raise UsageInvalid(
            f"the prices of {' and '.join(places)} cannot be used: {bad}.",
            name="prices",
            hints=("docs/cost.md shows the form",),
        ) from None


def _table(path: Path, place: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text, parse_float=str)
        told = json.loads(text, parse_float=str)
    except (OSError, ValueError) as error:
        raise UsageInvalid(f"{place} names a table of prices that cannot be read: {error}.", name="prices") from None
    if not isinstance(told, dict):
        raise UsageInvalid(f"{place} names {path}, which holds no table of prices.", name="prices")
    return told
