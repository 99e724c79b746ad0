"""Costs to the last pico-dollar: a table computed by hand from the published prices, and the laws of pricing."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.outcome import Usage
from runner.domain.pricing import PICO_PER_USD, PriceBook, price_book, shipped_prices

BOOK = shipped_prices()
KINDS = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens")


def usd(amount: str) -> int:
    """Pico-dollars of an amount written in dollars."""
    pico = Fraction(amount) * PICO_PER_USD
    assert pico.denominator == 1
    return pico.numerator


# Tokens are input, cache written for 5 minutes, for an hour, cache read, output; the sum stands beside each.
BY_HAND = [
    # 2 $/M in, 10 $/M out: 1,000 x 2 + 500 x 10 = 7,000 micro-dollars
    ("sonnet plain", "claude-sonnet-5-5", (1000, 0, 0, 0, 500), {}, "0.007"),
    ("sonnet batch is half", "claude-sonnet-5-5", (1000, 0, 0, 0, 500), {"batch": True}, "0.0035"),
    ("sonnet in the US", "claude-sonnet-5-5", (1000, 0, 0, 0, 500), {"geo": "us"}, "0.0077"),
    # 2.5 to write for 5 minutes, 4 for an hour, 0.1 to read: 250 + 400 + 10 for a hundred each
    ("sonnet cache kinds", "claude-sonnet-5-5", (0, 100, 100, 100, 0), {}, "0.00066"),
    ("one read token", "claude-sonnet-5-5", (0, 0, 0, 1, 0), {}, "0.0000001"),
    # 4 and 20 for Opus 5.5: 12 x 4 + 345 x 20 = 6,948
    ("opus plain", "claude-opus-5-5", (12, 0, 0, 0, 345), {}, "0.006948"),
    ("opus fast is double", "claude-opus-5-5", (12, 0, 0, 0, 345), {"speed": "fast"}, "0.013896"),
    ("opus all kinds", "claude-opus-5-5", (10, 20, 30, 40, 50), {}, "0.001388"),  # 40+100+240+8+1000
    ("opus fast in the US", "claude-opus-5-5", (1, 0, 0, 0, 1), {"speed": "fast", "geo": "us"}, "0.0000528"),
    # Fable 5.2: 8 and 40, read 0.2; batch and US together 0.55
    ("fable batch, US", "claude-fable-5-2", (1000, 0, 0, 5000, 100), {"batch": True, "geo": "us"}, "0.00715"),
    ("fable 5.1 reads at a fortieth", "claude-fable-5-1", (0, 0, 0, 1000, 0), {}, "0.00025"),
    # Haiku 5.5: 0.1 and 0.5 up to 100,000 prompt tokens, five times that for the whole call above
    ("haiku small", "claude-haiku-5-5", (37, 0, 0, 0, 11), {}, "0.0000092"),  # 3.7 + 5.5
    ("haiku at the band's edge", "claude-haiku-5-5", (100_000, 0, 0, 0, 1000), {}, "0.0105"),
    ("haiku one above", "claude-haiku-5-5", (100_001, 0, 0, 0, 1000), {}, "0.0525005"),
    ("cached tokens count for the band", "claude-haiku-5-5", (1, 0, 0, 100_000, 0), {}, "0.0050005"),
    ("output does not", "claude-haiku-5-5", (100_000, 0, 0, 0, 100_000), {}, "0.06"),
    ("haiku above, all kinds", "claude-haiku-5-5", (0, 60_000, 60_000, 0, 0), {}, "0.0975"),  # 37,500 + 60,000
    ("haiku above, batch", "claude-haiku-5-5", (200_000, 0, 0, 0, 2000), {"batch": True}, "0.0525"),
    ("the smallest: half a cached haiku token", "claude-haiku-5-5", (0, 0, 0, 1, 0), {"batch": True}, "0.000000005"),
    # Older models: Haiku 4.5 is 1 and 5, Sonnet 4.5 3 and 15, read a tenth
    ("haiku 4.5 by its alias", "claude-haiku-4-5", (10, 0, 0, 0, 10), {}, "0.00006"),
    ("sonnet 4.5", "claude-sonnet-4-5-20250929", (100, 100, 100, 100, 100), {}, "0.002805"),
    ("nothing costs nothing", "claude-sonnet-5-5", (0, 0, 0, 0, 0), {}, "0"),
    # A search is a cent each, and a batch does not halve it
    ("two searches", "claude-sonnet-5-5", (1000, 0, 0, 0, 0), {"searches": 2}, "0.022"),
    ("two searches in a batch", "claude-sonnet-5-5", (1000, 0, 0, 0, 0), {"searches": 2, "batch": True}, "0.021"),
]


def usage_of(tokens: tuple[int, ...], told: dict[str, object]) -> Usage:
    return Usage(
        **dict(zip(KINDS, tokens, strict=True)),
        web_searches=told.get("searches", 0),
        inference_geo=told.get("geo"),
        speed=told.get("speed"),
    )


@pytest.mark.parametrize(
    ("model", "tokens", "told", "dollars"), [c[1:] for c in BY_HAND], ids=[c[0] for c in BY_HAND]
)
def test_costs_are_exactly_those_computed_by_hand(
    model: str, tokens: tuple[int, ...], told: dict[str, object], dollars: str
) -> None:
    assert BOOK.cost_pico(model, usage_of(tokens, told), batch=bool(told.get("batch"))) == usd(dollars)


@pytest.mark.parametrize("geo", [None, "", "global", "not_available", "eu"])
def test_only_the_us_has_a_price_of_its_own(geo: str | None) -> None:
    assert BOOK.cost_pico("claude-sonnet-5-5", Usage(input_tokens=1, inference_geo=geo)) == usd("0.000002")


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("claude-something-6", Usage(input_tokens=1)),
        ("claude-3-opus-20240229", Usage(input_tokens=1)),  # retired: a name, no price
        ("", Usage()),
        ("claude-sonnet-5-5", Usage(input_tokens=1, unpriced=("image_seconds",))),
        ("claude-sonnet-5-5", Usage(input_tokens=1, speed="fast")),
        ("claude-haiku-4-5", Usage(input_tokens=1, inference_geo="us")),
    ],
)
def test_what_has_no_known_price_costs_unknown_never_nothing(model: str, usage: Usage) -> None:
    assert BOOK.cost_pico(model, usage) is None


def test_an_unknown_model_has_no_bound() -> None:
    assert BOOK.bound_pico("claude-something-6", prompt_tokens=1, max_tokens=1) is None


# -- laws

MODELS = sorted(BOOK.models)
SMALL = st.integers(0, 20_000)  # five kinds of it, twice, may pass 100,000: the laws below say where bands matter
WITHIN = st.integers(0, 12_000)


def usages(tokens: st.SearchStrategy[int]) -> st.SearchStrategy[Usage]:
    return st.builds(Usage, **dict.fromkeys(KINDS, tokens))


@given(model=st.sampled_from(MODELS), one=usages(WITHIN), two=usages(WITHIN))
def test_within_a_band_two_calls_cost_what_their_sum_costs(model: str, one: Usage, two: Usage) -> None:
    assert cost(model, one) + cost(model, two) == cost(model, one.plus(two))


@given(model=st.sampled_from(MODELS), usage=usages(SMALL), kind=st.sampled_from(KINDS), more=st.integers(1, 200_000))
def test_more_tokens_never_cost_less(model: str, usage: Usage, kind: str, more: int) -> None:
    assert cost(model, replace(usage, **{kind: getattr(usage, kind) + more})) >= cost(model, usage)


@given(model=st.sampled_from(MODELS), usage=usages(st.integers(0, 300_000)), us=st.booleans())
def test_a_batch_costs_exactly_half(model: str, usage: Usage, us: bool) -> None:
    priced = replace(usage, inference_geo="us" if us and BOOK.models[model].us_geo_multiplier else None)
    assert cost(model, priced, batch=True) * 2 == cost(model, priced)


@given(
    model=st.sampled_from(MODELS),
    prompt=st.lists(st.integers(0, 100_000), min_size=4, max_size=4),
    unused=st.integers(0, 100_000),
    max_tokens=st.integers(1, 400_000),
    share=st.floats(0, 1),
    batch=st.booleans(),
    us=st.booleans(),
    fast=st.booleans(),
)
def test_the_bound_is_at_least_the_cost_of_every_call_within_it(
    model: str,
    prompt: list[int],
    unused: int,
    max_tokens: int,
    share: float,
    batch: bool,
    us: bool,
    fast: bool,
) -> None:
    """Any mix of input kinds, any band, any length of answer, a workspace in the US or not."""
    facts = BOOK.models[model]
    speed = "fast" if fast and facts.fast_multiplier else None
    usage = Usage(
        **dict(zip(KINDS, [*prompt, int(max_tokens * share)], strict=True)),
        inference_geo="us" if us and facts.us_geo_multiplier else None,
        speed=speed,
    )
    bound = BOOK.bound_pico(
        model, prompt_tokens=sum(prompt) + unused, max_tokens=max_tokens, batch=batch, speed=speed
    )
    assert bound is not None
    assert bound >= cost(model, usage, batch=batch)


def test_asking_for_global_inference_lowers_the_bound() -> None:
    anywhere = BOOK.bound_pico("claude-sonnet-5-5", prompt_tokens=1000, max_tokens=1000)
    outside = BOOK.bound_pico("claude-sonnet-5-5", prompt_tokens=1000, max_tokens=1000, geo="global")
    assert anywhere == usd("0.0154")  # (1,000 x 4 + 1,000 x 10) x 1.1
    assert outside == usd("0.014")


def cost(model: str, usage: Usage, *, batch: bool = False) -> int:
    told = BOOK.cost_pico(model, usage, batch=batch)
    assert told is not None
    return told


# -- the book itself


def shipped_json() -> dict[str, object]:
    told = json.loads(resources.files("runner.domain").joinpath("models.json").read_text(encoding="utf-8"))
    assert isinstance(told, dict)
    return told


def test_the_shipped_book_is_dated_and_whole() -> None:
    assert BOOK.version == shipped_json()["version"]
    for facts in BOOK.models.values():
        assert facts.bands[0].above_tokens == -1
        edges = [band.above_tokens for band in facts.bands]
        assert edges == sorted(edges)
        assert not {facts.id, *facts.aliases} & set(BOOK.retired)
        for band in facts.bands:
            assert band.cache_read < band.input < band.cache_write_5m < band.cache_write_1h < band.output


def test_every_product_of_shipped_prices_is_a_whole_number_of_pico_dollars() -> None:
    for facts in BOOK.models.values():
        for band in facts.bands:
            for price in (band.input, band.output, band.cache_write_5m, band.cache_write_1h, band.cache_read):
                dearest = (
                    price * BOOK.batch_multiplier * (facts.us_geo_multiplier or 1) * (facts.fast_multiplier or 1)
                )
                assert dearest.denominator == 1, facts.id


def test_an_alias_is_priced_as_its_model() -> None:
    assert BOOK.find("claude-haiku-4-5") is BOOK.find("claude-haiku-4-5-20251001")
    assert BOOK.find("claude-nobody") is None


def test_an_override_that_is_no_whole_number_rounds_up() -> None:
    told = shipped_json()
    model = json.loads(json.dumps(told["models"]))[0]
    model["bands"][0]["input"] = 0.0000001  # a tenth of a pico-dollar a token
    book: PriceBook = price_book({**told, "models": [model]})
    assert [book.cost_pico(model["id"], Usage(input_tokens=n)) for n in (0, 1, 10, 11)] == [0, 1, 1, 2]


# -- sums and discounts


def test_ten_million_small_rows_sum_to_the_last_pico_dollar() -> None:
    """A row of a cent's hundred-thousandth, ten million times: 37 x 0.1 + 11 x 0.5 = 9.2 micro-dollars each."""
    row = BOOK.cost_pico("claude-haiku-5-5", Usage(input_tokens=37, output_tokens=11))
    read = BOOK.cost_pico("claude-haiku-5-5", Usage(cache_read=1), batch=True)
    assert (row, read) == (9_200_000, 5_000)
    total = sum(itertools.repeat(row, 10_000_000)) + sum(itertools.repeat(read, 10_000_000))
    assert total == usd("92") + usd("0.05")


@given(model=st.sampled_from(MODELS), usage=usages(SMALL), batch=st.booleans())
def test_what_is_saved_adds_up_to_the_list_price(model: str, usage: Usage, batch: bool) -> None:
    price = BOOK.price(model, usage, batch=batch)
    assert price is not None
    assert price.cost_pico == cost(model, usage, batch=batch)
    assert price.unbatched_pico == cost(model, usage)
    whole_prompt = replace(usage, input_tokens=usage.prompt_tokens, cache_write_5m=0, cache_write_1h=0, cache_read=0)
    assert price.list_pico == cost(model, whole_prompt)


def test_savings_by_hand() -> None:
    """Sonnet 5.5, 10,000 of 11,000 prompt tokens read from the cache, in a batch: 2 and 0.1 a million, half of it."""
    price = BOOK.price("claude-sonnet-5-5", Usage(input_tokens=1_000, cache_read=10_000, web_searches=1), batch=True)
    assert price is not None
    assert price.list_pico == usd("0.032")  # 11,000 x 2 = 22,000 micro-dollars, and a cent for the search
    assert price.unbatched_pico == usd("0.013")  # 2,000 + 1,000, and the cent
    assert price.cost_pico == usd("0.0115")  # half of 3,000, and the cent
