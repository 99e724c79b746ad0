"""Models: what they cost, take and write, how long they stay; a list, one in full, and the same for machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any

from runner.domain.lifecycle import lifecycle_warnings
from runner.domain.model_list import Difference
from runner.domain.pricing import PICO_PER_MICRO, PICO_PER_USD, PRICE_KINDS, Band, ModelFacts, PriceBook
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line
from runner.views.tables import Column, facts_lines, table_lines

COLUMNS = (
    Column(title="MODEL"),
    Column(title="IN", right=True),
    Column(title="OUT", right=True),
    Column(title="CACHE READ", right=True),
    Column(title="CONTEXT", right=True),
    Column(title="ANSWER", right=True),
    Column(title="STATUS"),
    Column(title="RETIRES"),
)
KIND_WORDS = {
    "input": "input",
    "output": "output",
    "cache_write_5m": "cache write, 5 min",
    "cache_write_1h": "cache write, 1 h",
    "cache_read": "cache read",
}


def each_model(book: PriceBook) -> list[ModelFacts]:
    """Every model once, in the order of the book."""
    return list({facts.id: facts for facts in book.models.values()}.values())


def models_table(models: Sequence[ModelFacts], width: int | None, *, plain: bool = False) -> list[str]:
    """A line for each band of prices; the further ones of a model say from which prompt on they hold."""
    cells = [row for facts in models for row in _rows(facts)]
    return table_lines(COLUMNS, cells, width, plain=plain)


def _rows(facts: ModelFacts) -> list[list[str]]:
    first, *more = facts.bands
    rows = [
        [
            facts.id,
            *_prices(first),
            brief(facts.context_window),
            brief(facts.max_output),
            facts.status,
            facts.retires or "",
        ]
    ]
    rows += [[f"  prompts above {count(band.above_tokens)}", *_prices(band), "", "", "", ""] for band in more]
    return rows


def _prices(band: Band) -> list[str]:
    return [per_million(price) for price in (band.input, band.output, band.cache_read)]


def per_million(pico_per_token: Fraction) -> str:
    """Dollars per million tokens: `$0.125`."""
    usd = pico_per_token / PICO_PER_MICRO
    return f"${_decimal(usd)}"


def _decimal(usd: Fraction) -> str:
    text = f"{float(usd):.6f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part:0<2}"


def model_lines(facts: ModelFacts, book: PriceBook, today: date) -> list[str]:
    told = [
        ("model", safe_line(facts.id)),
        ("also", safe_line(", ".join(facts.aliases))),
        ("status", _status(facts)),
        ("context", f"{count(facts.context_window)} tokens"),
        ("answer", _longest_answer(facts)),
        ("prices", "\n".join(_band_lines(facts))),
        ("in batches", f"{_share(book.batch_multiplier)} of these"),
        ("in the US", "not offered" if facts.us_geo_multiplier is None else f"{_times(facts.us_geo_multiplier)}"),
        ("fast", _fast(facts)),
        ("server tools", _fees(book)),
        ("cached from", f"{count(facts.min_cache_tokens)} tokens on; a shorter prefix is not cached"),
        ("limits", f"shared by all of {safe_line(facts.limit_class)}"),
        ("prices of", safe_line(book.version)),
        ("mind", "\n".join(lifecycle_warnings(facts, today))),
    ]
    return facts_lines([fact for fact in told if fact[1]])


def _status(facts: ModelFacts) -> str:
    words = [facts.status]
    for word, day in (
        ("released", facts.released),
        ("deprecated", facts.deprecated),
        ("retires", facts.retires),
    ):
        if day:
            words.append(f"{word} {day}")
    return "   ".join(words)


def _longest_answer(facts: ModelFacts) -> str:
    words = f"at most {count(facts.max_output)} tokens"
    return words + (f", {count(facts.max_output_batch)} in a batch with a beta" if facts.max_output_batch else "")


def _band_lines(facts: ModelFacts) -> list[str]:
    lines = []
    for number, band in enumerate(facts.bands):
        if len(facts.bands) > 1:
            upto = facts.bands[number + 1].above_tokens if number + 1 < len(facts.bands) else None
            edge = f"up to {count(upto)} tokens" if upto else f"above {count(band.above_tokens)}"
            lines.append(f"prompts {edge}")
        indent = "  " if len(facts.bands) > 1 else ""
        lines += [f"{indent}{per_million(getattr(band, kind)):>9}  {KIND_WORDS[kind]}" for kind in PRICE_KINDS]
    return [*lines, "a million tokens each"]


def _share(multiplier: Fraction) -> str:
    return "half" if multiplier == Fraction(1, 2) else _times(multiplier)


def _times(multiplier: Fraction) -> str:
    return f"{float(multiplier):g} times"


def _fast(facts: ModelFacts) -> str:
    if facts.fast_multiplier is None:
        return "not offered"
    words = _times(facts.fast_multiplier) + ", not in batches"
    if facts.fast_beta:
        words += ", needs a beta"
    return words + (f", until {facts.fast_until}" if facts.fast_until else "")


def _fees(book: PriceBook) -> str:
    fees = [f"{safe_line(name)} {_fee(fee)}" for name, fee in sorted(book.fees.items())]
    return "   ".join(fees)


def _fee(fee: Fraction) -> str:
    return f"${_decimal(fee / PICO_PER_USD)} each" if fee else "free"


def model_json(facts: ModelFacts, today: date) -> dict[str, Any]:
    return {
        "id": facts.id,
        "aliases": list(facts.aliases),
        "line": facts.line,
        "status": facts.status,
        "released": facts.released,
        "deprecated": facts.deprecated,
        "retires": facts.retires,
        "context_window": facts.context_window,
        "max_output": facts.max_output,
        "max_output_batch": facts.max_output_batch,
        "min_cache_tokens": facts.min_cache_tokens,
        "limit_class": facts.limit_class,
        "usd_per_million_tokens": [
            {
                "prompts_above": max(band.above_tokens, 0),
                **{kind: float(getattr(band, kind) / PICO_PER_MICRO) for kind in PRICE_KINDS},
            }
            for band in facts.bands
        ],
        "us_multiplier": None if facts.us_geo_multiplier is None else float(facts.us_geo_multiplier),
        "fast_multiplier": None if facts.fast_multiplier is None else float(facts.fast_multiplier),
        "fast_beta": facts.fast_beta,
        "fast_until": facts.fast_until,
        "warnings": lifecycle_warnings(facts, today),
    }


def book_json(book: PriceBook, models: Sequence[ModelFacts], today: date) -> dict[str, Any]:
    return {
        "prices": book.version,
        "batch_multiplier": float(book.batch_multiplier),
        "usd_per_use": {name: float(fee / PICO_PER_USD) for name, fee in sorted(book.fees.items())},
        "models": [model_json(facts, today) for facts in models],
    }


def difference_lines(found: Sequence[Difference]) -> list[str]:
    return [f"{safe_line(one.model)}: {safe_line(one.sentence)}" for one in found]
