"""The shipped prices are the published ones: for every model and every kind, written down twice and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from runner.domain.outcome import Usage
from runner.domain.pricing import PICO_PER_MICRO, PICO_PER_USD, PriceBook, price_book, shipped_json, shipped_prices

PUBLISHED = json.loads((Path(__file__).parent / "published_facts.json").read_text())
BOOK = shipped_prices()
KINDS = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens")

# Dollars for 100,000 tokens of each kind alone, taken from the price page by hand: input, written to the cache for
# five minutes, for an hour, read from it, output. Below each class what a batch, the US and both make of it, and
# fast mode where the class has it.
FABLE_52 = {
    "plain": ("0.8", "1", "1.6", "0.02", "4"),
    "batch": ("0.4", "0.5", "0.8", "0.01", "2"),
    "us": ("0.88", "1.1", "1.76", "0.022", "4.4"),
    "us batch": ("0.44", "0.55", "0.88", "0.011", "2.2"),
}
FABLE_51 = {
    "plain": ("1", "1.25", "2", "0.025", "5"),
    "batch": ("0.5", "0.625", "1", "0.0125", "2.5"),
    "us": ("1.1", "1.375", "2.2", "0.0275", "5.5"),
    "us batch": ("0.55", "0.6875", "1.1", "0.01375", "2.75"),
}
FABLE_5 = {
    "plain": ("1", "1.25", "2", "0.1", "5"),
    "batch": ("0.5", "0.625", "1", "0.05", "2.5"),
    "us": ("1.1", "1.375", "2.2", "0.11", "5.5"),
    "us batch": ("0.55", "0.6875", "1.1", "0.055", "2.75"),
}
OPUS_55 = {
    "plain": ("0.4", "0.5", "0.8", "0.02", "2"),
    "batch": ("0.2", "0.25", "0.4", "0.01", "1"),
    "us": ("0.44", "0.55", "0.88", "0.022", "2.2"),
    "us batch": ("0.22", "0.275", "0.44", "0.011", "1.1"),
    "fast": ("0.8", "1", "1.6", "0.04", "4"),
    "us fast": ("0.88", "1.1", "1.76", "0.044", "4.4"),
}
OPUS = {
    "plain": ("0.5", "0.625", "1", "0.05", "2.5"),
    "batch": ("0.25", "0.3125", "0.5", "0.025", "1.25"),
    "us": ("0.55", "0.6875", "1.1", "0.055", "2.75"),
    "us batch": ("0.275", "0.34375", "0.55", "0.0275", "1.375"),
}
OPUS_FAST = {**OPUS, "fast": ("1", "1.25", "2", "0.1", "5"), "us fast": ("1.1", "1.375", "2.2", "0.11", "5.5")}
SONNET_55 = {
    "plain": ("0.2", "0.25", "0.4", "0.01", "1"),
    "batch": ("0.1", "0.125", "0.2", "0.005", "0.5"),
    "us": ("0.22", "0.275", "0.44", "0.011", "1.1"),
    "us batch": ("0.11", "0.1375", "0.22", "0.0055", "0.55"),
}
SONNET_5 = {
    "plain": ("0.2", "0.25", "0.4", "0.02", "1"),
    "batch": ("0.1", "0.125", "0.2", "0.01", "0.5"),
    "us": ("0.22", "0.275", "0.44", "0.022", "1.1"),
    "us batch": ("0.11", "0.1375", "0.22", "0.011", "0.55"),
}
SONNET_4 = {
    "plain": ("0.3", "0.375", "0.6", "0.03", "1.5"),
    "batch": ("0.15", "0.1875", "0.3", "0.015", "0.75"),
    "us": ("0.33", "0.4125", "0.66", "0.033", "1.65"),
    "us batch": ("0.165", "0.20625", "0.33", "0.0165", "0.825"),
}
HAIKU_55 = {
    "plain": ("0.01", "0.0125", "0.02", "0.001", "0.05"),
    "batch": ("0.005", "0.00625", "0.01", "0.0005", "0.025"),
    "us": ("0.011", "0.01375", "0.022", "0.0011", "0.055"),
    "us batch": ("0.0055", "0.006875", "0.011", "0.00055", "0.0275"),
}
HAIKU_45 = {
    "plain": ("0.1", "0.125", "0.2", "0.01", "0.5"),
    "batch": ("0.05", "0.0625", "0.1", "0.005", "0.25"),
}


def without_us(told: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {way: amounts for way, amounts in told.items() if "us" not in way}


BY_HAND = {
    "claude-fable-5-2": {
        **FABLE_52,
        "fast": ("1.6", "2", "3.2", "0.04", "8"),
        "us fast": ("1.76", "2.2", "3.52", "0.044", "8.8"),
    },
    "claude-mythos-5-2": FABLE_52,
    "claude-fable-5-1": FABLE_51,
    "claude-mythos-5-1": FABLE_51,
    "claude-fable-5": FABLE_5,
    "claude-mythos-5": FABLE_5,
    "claude-opus-5-5": OPUS_55,
    "claude-opus-5": OPUS_FAST,
    "claude-opus-4-8": OPUS_FAST,
    "claude-opus-4-7": OPUS,
    "claude-opus-4-6": OPUS,
    "claude-opus-4-5-20251101": without_us(OPUS),
    "claude-opus-4-5": without_us(OPUS),
    "claude-sonnet-5-5": SONNET_55,
    "claude-sonnet-5": SONNET_5,
    "claude-sonnet-4-6": SONNET_4,
    "claude-sonnet-4-5-20250929": without_us(SONNET_4),
    "claude-sonnet-4-5": without_us(SONNET_4),
    "claude-haiku-5-5": HAIKU_55,
    "claude-haiku-4-5-20251001": HAIKU_45,
    "claude-haiku-4-5": HAIKU_45,
}
WAYS = {"plain", "batch", "us", "us batch", "fast", "us fast"}


def test_every_model_of_the_book_stands_in_the_table_by_hand() -> None:
    assert set(BY_HAND) == set(BOOK.models)


@pytest.mark.parametrize("model", BY_HAND)
def test_a_hundred_thousand_tokens_cost_what_the_price_page_says(model: str) -> None:
    """In each way of asking; one that the table leaves out is not sold, and has no price here either."""
    for way in sorted(WAYS):
        for number, kind in enumerate(KINDS):
            usage = Usage(
                **{kind: 100_000},
                inference_geo="us" if "us" in way else None,
                speed="fast" if "fast" in way else None,
            )
            amounts = BY_HAND[model].get(way)
            expected = None if amounts is None else Fraction(amounts[number]) * PICO_PER_USD
            assert BOOK.cost_pico(model, usage, batch="batch" in way) == expected, (way, kind)


@pytest.mark.parametrize(
    ("kind", "plain", "batch"),
    [
        ("input_tokens", "0.0500005", "0.02500025"),  # 100,001 at 0.5 a million
        ("cache_write_5m", "0.062500625", "0.0312503125"),
        ("cache_write_1h", "0.100001", "0.0500005"),
        ("cache_read", "0.00500005", "0.002500025"),
    ],
)
def test_a_longer_prompt_has_the_dearer_band_whatever_it_is_made_of(kind: str, plain: str, batch: str) -> None:
    usage = Usage(**{kind: 100_001})
    assert BOOK.cost_pico("claude-haiku-5-5", usage) == Fraction(plain) * PICO_PER_USD
    assert BOOK.cost_pico("claude-haiku-5-5", usage, batch=True) == Fraction(batch) * PICO_PER_USD


def test_the_dearer_band_holds_for_the_answer_too() -> None:
    usage = Usage(input_tokens=100_001, output_tokens=100_000)  # 0.0500005 and a tenth of 2.5
    assert BOOK.cost_pico("claude-haiku-5-5", usage) == Fraction("0.3000005") * PICO_PER_USD


@pytest.mark.parametrize("batch", [False, True])
def test_server_tools_are_paid_by_the_use(batch: bool) -> None:
    """A cent a search, in a batch too; fetches are free; what is paid by the hour cannot be read from a reply."""
    cost = [
        BOOK.cost_pico("claude-sonnet-5-5", usage, batch=batch)
        for usage in (
            Usage(web_searches=3),
            Usage(web_searches=3, uses=(("web_fetch_requests", 40),)),
            Usage(web_searches=3, uses=(("code_execution_requests", 1),)),
        )
    ]
    assert cost == [Fraction("0.03") * PICO_PER_USD, Fraction("0.03") * PICO_PER_USD, None]


# -- the published facts, in their own form


def wrong_entries(book: PriceBook) -> Iterator[str]:
    """What of a book differs from the published facts, a sentence each."""
    for told in PUBLISHED["models"]:
        for name in (told["id"], *told["aliases"]):
            yield from _wrong(book, name, told)
    published = {name for told in PUBLISHED["models"] for name in (told["id"], *told["aliases"])}
    for name in sorted(set(book.models) - published):
        yield f"{name} is in the book and not published"
    if dict(book.retired) != PUBLISHED["retired"]:
        yield "the retired models differ"
    fees = {
        "web_search_requests": Fraction(str(PUBLISHED["server_tools"]["web_search_usd_per_1000"])) / 1000,
        "web_fetch_requests": Fraction(PUBLISHED["server_tools"]["web_fetch_usd"]),
    }
    for name in sorted({*fees, *book.fees}):
        if book.fees.get(name) != fees.get(name, -1) * PICO_PER_USD:
            yield f"the fee of {name}"


def _wrong(book: PriceBook, name: str, told: Mapping[str, Any]) -> Iterator[str]:
    facts = book.find(name)
    if facts is None:
        yield f"{name} is published and not in the book"
        return
    for ours, theirs in (
        (facts.status, told["status"]),
        (facts.released, told["released"]),
        (facts.deprecated, told["deprecated"]),
        (facts.retires, told["retires"]),
        (facts.context_window, told["context_window"]),
        (facts.max_output, told["max_output"]),
        (facts.max_output_batch, told["max_output_batch_with_beta"]),
        (facts.min_cache_tokens, told["min_cacheable_tokens"]),
        (facts.us_geo_multiplier, _fraction(told["us_inference_multiplier"])),
        (book.batch_multiplier, _fraction(told["batch_multiplier"])),
    ):
        if ours != theirs:
            yield f"{name}: {ours} is published as {theirs}"
    ours = {
        f"{kind} above {band.above_tokens}": getattr(band, kind)
        for band in facts.bands
        for kind in ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    }
    published = dict(_published_prices(told))
    for kind in sorted({*ours, *published}):
        if ours.get(kind) != published.get(kind):
            yield f"{name}: {kind}"
    fast = told["fast"]
    if (facts.fast_multiplier is None) != (fast is None):
        yield f"{name}: fast mode"
    elif fast is not None and facts.fast_multiplier is not None:
        for kind in ("input", "output"):
            if getattr(facts.bands[0], kind) * facts.fast_multiplier != _price(fast[kind]):
                yield f"{name}: fast {kind}"
        if facts.fast_beta != fast["beta_header_required"]:
            yield f"{name}: the beta of fast mode"


def _published_prices(told: Mapping[str, Any]) -> Iterator[tuple[str, Fraction]]:
    base = _price(told["input_usd_per_mtok"])
    yield "input above -1", base
    yield "output above -1", _price(told["output_usd_per_mtok"])
    for kind in ("cache_write_5m", "cache_write_1h", "cache_read"):
        yield f"{kind} above -1", base * Fraction(str(told[f"{kind}_multiplier"]))
    long = told["long_prompts"]
    if long is not None:
        for kind in ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read"):
            yield f"{kind} above {long['threshold_prompt_tokens']}", _price(long[f"{kind}_usd_per_mtok"])


def _price(usd_per_million: float) -> Fraction:
    return Fraction(str(usd_per_million)) * PICO_PER_MICRO


def _fraction(value: float | None) -> Fraction | None:
    return None if value is None else Fraction(str(value))


def test_the_book_agrees_with_the_published_facts_for_every_model() -> None:
    assert list(wrong_entries(BOOK)) == []
    assert BOOK.version == PUBLISHED["as_of"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("models", 4, "bands", 0, "cache_read"), 0.4, "claude-opus-5-5: cache_read above -1"),
        (("models", 6, "bands", 1, "output"), 2.4, "claude-haiku-5-5: output above 100000"),
        (("models", 4, "fast_multiplier"), 3, "claude-opus-5-5: fast input"),
        (("models", 4, "context_window"), 200_000, "claude-opus-5-5: 200000 is published as 1000000"),
        (("server_tools", "web_search_requests"), 0.005, "the fee of web_search_requests"),
    ],
)
def test_a_wrong_entry_is_named(path: tuple[Any, ...], value: Any, named: str) -> None:
    told = json.loads(json.dumps(shipped_json()))
    place = told
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert named in list(wrong_entries(price_book(told)))
