"""Estimates of jobs whose rows share what a prompt cache keeps."""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.expected_usage import Caching, expected, first_one, shared_size
from runner.domain.job_estimate import Bounds, JobEstimate, Past, SampledRow, estimate
from runner.domain.outcome import Usage
from runner.domain.pricing import shipped_prices

MODEL = "claude-sonnet-5-5"
PRICES = shipped_prices()
HEAD, ROWS, SAMPLE = 4_000, 3_000, 200
OURS = Caching(ours=True, live=True, batch=True)
THEIRS = Caching(ours=False, live=True, batch=True)
NO_BOUNDS = Bounds(room_pico=None, max_requests=100_000, max_bytes=200_000_000, concurrency=32)
TOKENS = st.integers(0, 10_000)


@given(
    usage=st.builds(Usage, input_tokens=TOKENS, cache_write_5m=TOKENS, cache_write_1h=TOKENS, cache_read=TOKENS),
    share=st.floats(0, 1),
    caching=st.builds(Caching, ours=st.booleans(), live=st.booleans(), batch=st.booleans()),
    batch=st.booleans(),
)
def test_a_prompt_stays_as_long_as_it_is_whatever_becomes_of_its_beginning(
    usage: Usage, share: float, caching: Caching, batch: bool
) -> None:
    shared = round(usage.prompt_tokens * share)
    parts = expected(usage, shared, caching, batch=batch)
    assert math.fsum(part.share for part in parts) == pytest.approx(1)
    assert {part.usage.prompt_tokens for part in parts} == {usage.prompt_tokens}
    assert first_one(usage, shared, batch=batch).prompt_tokens == usage.prompt_tokens


def test_what_most_have_read_is_what_they_share() -> None:
    read = [Usage(cache_read=size) for size in (0, 4_000, 4_000, 4_000, 9_000, 0)]
    assert shared_size(read) == 4_000
    assert shared_size([Usage(cache_write_5m=4_000)]) == 0


def population(dice: random.Random) -> list[tuple[int, Usage]]:
    """Rows by the length of their lines: a beginning that all share, a text, an answer."""
    found = []
    for _ in range(ROWS):
        length = int(dice.lognormvariate(math.log(900), 0.9))
        usage = Usage(
            input_tokens=100 + length // 4, cache_read=HEAD, output_tokens=12 + int(dice.expovariate(1 / 40))
        )
        found.append((length, usage))
    return found


def written(usage: Usage) -> Usage:
    return replace(usage, cache_read=0, cache_write_5m=usage.cache_read)


def cost(usage: Usage, *, batch: bool = False) -> int:
    pico = PRICES.cost_pico(MODEL, usage, batch=batch)
    assert pico is not None
    return pico


def live_cost(rows: list[tuple[int, Usage]]) -> int:
    """What a run costs whose first call writes what the others read."""
    return cost(written(rows[0][1])) + sum(cost(usage) for _, usage in rows[1:])


def sampled(idx: int, length: int, usage: Usage | None, caching: Caching | None, prompt: int) -> SampledRow:
    body = 4 * prompt
    return SampledRow(
        idx=idx,
        length=length,
        model=MODEL,
        body_bytes=body,
        max_tokens=200,
        worst_pico=10**12,
        worst_batch_pico=10**12,
        counted=prompt,
        usage=usage,
        head_share=4 * HEAD / body,
        caching=caching,
    )


def estimated(rows: list[tuple[int, Usage]], seed: int, caching: Caching | None, *, answered: bool) -> JobEstimate:
    """From a sample that was asked live: its first row wrote what the others read."""
    drawn = random.Random(seed).sample(range(len(rows)), SAMPLE)
    sample = []
    for number, idx in enumerate(sorted(drawn)):
        length, usage = rows[idx]
        told = (written(usage) if number == 0 else usage) if answered else None
        sample.append(sampled(idx, length, told, caching, usage.prompt_tokens))
    return estimate(sample, len(rows), fmean(length for length, _ in rows), PRICES, NO_BOUNDS, Past())


def test_the_actual_lies_in_the_interval_nine_times_of_ten_with_a_cache_too() -> None:
    everything = population(random.Random("rows"))
    actual = live_cost(everything)
    inside, widths = 0, []
    for seed in range(100):
        told = estimated(everything, seed, OURS, answered=True).live.forecast
        assert told.low_pico is not None
        assert told.high_pico is not None
        inside += told.low_pico <= actual <= told.high_pico
        widths.append((told.high_pico - told.low_pico) / actual)
    assert inside >= 85, inside
    assert median(widths) <= 0.30, median(widths)


def test_the_one_row_that_writes_is_not_taken_for_one_in_so_many() -> None:
    """One of 200 sampled rows pays for keeping what all read; of 3,000 it is one too."""
    alike = [(400, Usage(input_tokens=100, cache_read=HEAD, output_tokens=20))] * ROWS
    actual = live_cost(alike)
    assert estimated(alike, 1, OURS, answered=True).live.forecast.pico == actual
    assert estimated(alike, 1, THEIRS, answered=True).live.forecast.pico == actual
    as_measured = estimated(alike, 1, None, answered=True).live.forecast.pico
    assert as_measured is not None
    assert as_measured > 1.05 * actual


def test_without_answers_what_is_kept_is_priced_by_how_much_of_the_bodies_it_is() -> None:
    everything = population(random.Random("rows"))
    least = estimated(everything, 1, OURS, answered=False).live.least_pico
    one_token = live_cost([(length, replace(usage, output_tokens=1)) for length, usage in everything])
    assert least == pytest.approx(one_token, rel=0.03)
    cold = estimated(everything, 1, replace(OURS, live=False), answered=False).live.least_pico
    assert cold == pytest.approx(
        sum(cost(Usage(input_tokens=usage.prompt_tokens, output_tokens=1)) for _, usage in everything), rel=0.03
    )


@pytest.mark.parametrize("hits", [0.30, 0.65, 1.0])
def test_the_interval_of_a_batch_holds_few_hits_and_many(hits: float) -> None:
    everything = population(random.Random("rows"))
    told = estimated(everything, 3, OURS, answered=True).batch.forecast
    dice = random.Random(int(hits * 100))
    actual = sum(
        cost(usage if dice.random() < hits else replace(usage, cache_read=0, cache_write_1h=HEAD), batch=True)
        for _, usage in everything
    )
    assert told.low_pico is not None
    assert told.high_pico is not None
    assert told.low_pico <= actual <= told.high_pico


def test_a_batch_without_a_mark_of_ours_pays_the_plain_price_though_the_sample_read_the_cache() -> None:
    everything = population(random.Random("rows"))
    told = estimated(everything, 3, replace(OURS, batch=False), answered=True).batch.forecast
    plain = sum(
        cost(replace(usage, cache_read=0, input_tokens=usage.prompt_tokens), batch=True) for _, usage in everything
    )
    assert told.pico == pytest.approx(plain, rel=0.05)
    assert told.low_pico is not None
    assert told.high_pico is not None
    assert told.low_pico <= plain <= told.high_pico
