"""A job's cost before it runs, live and in batches, from what is known of a sample of its rows. Pure.

What is not known is None and said so: without answers nobody knows how long answers are, and without a price nobody
knows what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.estimates import BYTES_PER_TOKEN, SHARE_OF_MAX_TOKENS
from runner.domain.expected_usage import Caching, Part, expected, first_one, shared_size
from runner.domain.forecast import (
    ENOUGH_ANSWERS,
    Forecast,
    Point,
    Total,
    batches_in_sequence,
    rows_at_once,
    total_of,
)
from runner.domain.marking import BATCH_HIT_SHARE, EXTREME_HIT_SHARES
from runner.domain.outcome import Usage
from runner.domain.pricing import PriceBook

MICRO = 1e6
PROMPT_KINDS = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read")


class SampledRow(Struct, frozen=True, kw_only=True):
    """A row of the sample. `length` is that of its input line; `counted` its prompt tokens by the service's count;
    `usage` and `latency_us` are those of its answer, if it has one. `head_share` is how much of its body all rows
    begin with that are asked by this `variant`, and `caching` says what becomes of that; None where nothing is
    marked."""

    idx: int
    length: int
    model: str
    body_bytes: int
    max_tokens: int
    worst_pico: int | None
    worst_batch_pico: int | None
    counted: int | None = None
    usage: Usage | None = None
    latency_us: int | None = None
    variant: int = 0
    head_share: float = 0.0
    caching: Caching | None = None

    @property
    def prompt_tokens(self) -> float:
        if self.usage is not None:
            return float(self.usage.prompt_tokens)
        return float(self.counted) if self.counted is not None else self.body_bytes / BYTES_PER_TOKEN

    def shared(self, read_by_most: int) -> int:
        """Of its prompt tokens, those that a cache keeps for all; of marks that are not ours only answers tell."""
        if self.caching is None:
            return 0
        cached = 0 if self.usage is None else self.usage.prompt_tokens - self.usage.input_tokens
        if cached or not self.caching.ours:
            return read_by_most if cached >= read_by_most else 0
        return round(self.prompt_tokens * self.head_share)

    def uses(self, shared: int, *, batch: bool, hit_share: float = BATCH_HIT_SHARE) -> Sequence[Part]:
        """What a row like this one will use, its answer aside."""
        usage = self.usage or Usage(input_tokens=math.ceil(self.prompt_tokens))
        if self.caching is None:
            return (Part(1.0, usage),)
        return expected(usage, shared, self.caching, batch=batch, hit_share=hit_share)


class Past(Struct, frozen=True, kw_only=True):
    """Answers of earlier runs of the job, with the same model."""

    outputs: Sequence[int] = ()
    latencies_us: Sequence[int] = ()


class ModeEstimate(Struct, frozen=True, kw_only=True):
    """One way to send the job. `least_pico` is the cost were every answer one token long. `at_once` rows fit in the
    budget at a time, which makes so many batches `in_sequence`; `batches` counts them all."""

    forecast: Forecast
    least_pico: int | None
    at_once: int | None
    batches: int | None = None
    in_sequence: int | None = None
    seconds: float | None = None
    seconds_why: str = ""


class JobEstimate(Struct, frozen=True, kw_only=True):
    """`tokens` are sums over all rows by kind, the output None where nothing is known of it. `dearer_rows` are
    roughly how many prompts are so long that a dearer price applies."""

    rows: int
    sampled: int
    counted: int
    answered: int
    tokens: Usage
    output_known: bool
    live: ModeEstimate
    batch: ModeEstimate
    dearer_rows: int
    cached: bool


class Bounds(Struct, frozen=True, kw_only=True):
    """What limits a run: room in its budgets, the size of batches, requests and tokens a minute, calls at once."""

    room_pico: int | None
    max_requests: int
    max_bytes: int
    concurrency: int
    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None


def estimate(
    sample: Sequence[SampledRow], rows: int, mean_length: float, prices: PriceBook, bounds: Bounds, past: Past
) -> JobEstimate:
    """The job of `rows` rows whose input lines have this mean length."""
    answered = [row for row in sample if row.usage is not None]
    live, batch = (
        _mode(sample, answered, rows, mean_length, prices, bounds, past, batch=batch) for batch in (False, True)
    )
    tokens, known = _tokens(sample, answered, rows, mean_length, past)
    seconds, why = _live_seconds(sample, past, tokens, rows, bounds, output_known=known)
    return JobEstimate(
        rows=rows,
        sampled=len(sample),
        counted=sum(row.counted is not None for row in sample),
        answered=len(answered),
        tokens=tokens,
        output_known=known,
        live=replace(live, seconds=seconds, seconds_why=why),
        batch=batch,
        dearer_rows=round(rows * _dearer(sample, prices) / max(1, len(sample))),
        cached=bool(tokens.cache_read),
    )


class _Road:
    """One way to send a job: what a sampled row costs on it, and all rows together."""

    def __init__(
        self, sample: Sequence[SampledRow], rows: int, mean_length: float, prices: PriceBook, *, batch: bool
    ) -> None:
        self._sample, self._rows, self._mean_length = sample, rows, mean_length
        self._prices, self._batch = prices, batch
        self._read_by_most = _read_by_most(sample)

    def cost(self, row: SampledRow, output: float, hit_share: float = BATCH_HIT_SHARE) -> float | None:
        """Of a row like this one with so long an answer."""
        parts = row.uses(row.shared(self._read_by_most[row.variant]), batch=self._batch, hit_share=hit_share)
        found = [(part.share, self._price(row, part.usage, output)) for part in parts]
        known = [share * price for share, price in found if price is not None]
        return math.fsum(known) if len(known) == len(found) else None

    def _price(self, row: SampledRow, usage: Usage, output: float) -> int | None:
        return self._prices.cost_pico(row.model, replace(usage, output_tokens=round(output)), batch=self._batch)

    def of_all(
        self, amount: Callable[[SampledRow], float | None], some: Sequence[SampledRow] | None = None
    ) -> Total | None:
        """The sum over all rows, by those of the sample or by `some` of it."""
        told = self._sample if some is None else some
        return _of_all([(row.length, amount(row)) for row in told], self._rows, self._mean_length)

    def costs(self, output: Callable[[SampledRow], float], some: Sequence[SampledRow] | None = None) -> Total | None:
        """The cost of all rows, with what those pay that go ahead for the prompt cache. In batches its ends are moved
        out to where few rows find what was kept, and nearly all."""
        told = self.of_all(lambda row: self.cost(row, output(row)), some)
        if told is None:
            return None
        told = told.plus(self._ahead_pico())
        if not self._batch:
            return told
        few, many = (
            self.of_all(lambda row, share=share: self.cost(row, output(row), share), some)  # type: ignore[misc]
            for share in EXTREME_HIT_SHARES
        )
        dearer = 0.0 if few is None else few.value - told.value
        cheaper = 0.0 if many is None else told.value - many.value
        return Total(value=told.value, low=told.low - max(0.0, cheaper), high=told.high + max(0.0, dearer))

    def _ahead_pico(self) -> float:
        """What the rows that go ahead pay more than those that read: one for each beginning that is kept."""
        more: dict[int, float] = {}
        for row in self._sample:
            shared = row.shared(self._read_by_most[row.variant])
            if shared and row.caching is not None and row.caching.kept(batch=self._batch):
                usage = row.usage or Usage(input_tokens=math.ceil(row.prompt_tokens))
                price, usual = self._price(row, first_one(usage, shared, batch=self._batch), 0), self.cost(row, 0)
                more[row.variant] = (price or 0) - (usual or 0)
        return math.fsum(more.values())


def _read_by_most(sample: Sequence[SampledRow]) -> dict[int, int]:
    """By variant: how much most of its rows read from the cache."""
    usages: dict[int, list[Usage]] = {row.variant: [] for row in sample}
    for row in sample:
        if row.usage is not None:
            usages[row.variant].append(row.usage)
    return {variant: shared_size(told) for variant, told in usages.items()}


def _mode(
    sample: Sequence[SampledRow],
    answered: Sequence[SampledRow],
    rows: int,
    mean_length: float,
    prices: PriceBook,
    bounds: Bounds,
    past: Past,
    *,
    batch: bool,
) -> ModeEstimate:
    road = _Road(sample, rows, mean_length, prices, batch=batch)
    worst = road.of_all(lambda row: row.worst_batch_pico if batch else row.worst_pico)
    worst_pico = None if worst is None else round(worst.value)
    forecast = Forecast(pico=None, worst_pico=worst_pico, basis="no price is known")
    if len(answered) >= min(ENOUGH_ANSWERS, rows):
        told = road.costs(lambda row: row.usage.output_tokens if row.usage else 0, answered)
        if told is not None:
            forecast = _measured(told, worst_pico, f"{len(answered):,} answers")
    elif len(past.outputs) >= ENOUGH_ANSWERS:
        told = road.costs(lambda row: min(fmean(past.outputs), row.max_tokens))
        if told is not None:
            ends = _with_outputs(told, rows, past.outputs, lambda output: road.cost(sample[0], output))
            forecast = _measured(ends, worst_pico, f"{len(past.outputs):,} answers of earlier runs")
    else:
        told = road.costs(lambda row: row.max_tokens * SHARE_OF_MAX_TOKENS)
        if told is not None:
            basis = f"a guess: answers of {SHARE_OF_MAX_TOKENS:.0%} of max_tokens"
            forecast = Forecast(pico=round(told.value), worst_pico=worst_pico, basis=basis)
    least = road.costs(lambda _: 1)
    mean_worst = None if worst_pico is None else -(-worst_pico // rows)
    mean_cost = None if forecast.pico is None else -(-forecast.pico // rows)
    at_once = rows_at_once(bounds.room_pico, mean_worst, rows)
    mode = ModeEstimate(forecast=forecast, least_pico=None if least is None else round(least.value), at_once=at_once)
    if not batch:
        return mode
    size = road.of_all(lambda row: float(row.body_bytes))
    by_size = math.ceil((size.value if size else 0) / bounds.max_bytes)
    in_sequence = batches_in_sequence(bounds.room_pico, mean_worst, mean_cost, rows)
    batches = max(1, math.ceil(rows / bounds.max_requests), by_size, in_sequence or 1)
    return replace(mode, batches=batches, in_sequence=in_sequence)


def _of_all(pairs: Sequence[tuple[int, float | None]], rows: int, mean_length: float) -> Total | None:
    """The sum over all rows; its ends are the same where the sample is too small to tell."""
    points = [Point(length, amount) for length, amount in pairs if amount is not None]
    if not points or len(points) < len(pairs):
        return None
    told = total_of(points, rows, mean_length)
    if told is not None:
        return told
    value = rows * fmean(point.amount for point in points)
    return Total(value=value, low=value, high=value)


def _measured(total: Total, worst_pico: int | None, basis: str) -> Forecast:
    high = round(total.high) if worst_pico is None else min(round(total.high), worst_pico)
    return Forecast(
        pico=round(total.value), low_pico=round(total.low), high_pico=high, worst_pico=worst_pico, basis=basis
    )


def _with_outputs(total: Total, rows: int, outputs: Sequence[int], cost: Callable[[float], float | None]) -> Total:
    """The ends moved out by how much the lengths of answers differ; the prompts' own error is in them already."""
    mean, deviation = fmean(outputs), stdev(outputs)
    a_token = ((cost(mean + 1000) or 0) - (cost(mean) or 0)) / 1000
    error = 1.645 * a_token * deviation * math.sqrt(rows * rows / len(outputs) + rows)
    low, high = total.value - total.low, total.high - total.value
    return Total(
        value=total.value,
        low=max(0.0, total.value - math.hypot(low, error)),
        high=total.value + math.hypot(high, error),
    )


def _tokens(
    sample: Sequence[SampledRow],
    answered: Sequence[SampledRow],
    rows: int,
    mean_length: float,
    past: Past,
) -> tuple[Usage, bool]:
    """Sums by kind, asked live, and whether anything is known of the output."""

    read_by_most = _read_by_most(sample)

    def of_all(kind: str, some: Sequence[SampledRow]) -> int:
        used = [(row.length, row.uses(row.shared(read_by_most[row.variant]), batch=False)[0].usage) for row in some]
        told = _of_all([(length, getattr(usage, kind)) for length, usage in used], rows, mean_length)
        return 0 if told is None else round(told.value)

    measured = len(answered) >= min(ENOUGH_ANSWERS, rows)
    some = answered if measured else sample
    usage = replace(Usage(), **{kind: of_all(kind, some) for kind in PROMPT_KINDS})
    if measured:
        return replace(usage, output_tokens=of_all("output_tokens", some)), True
    if len(past.outputs) >= ENOUGH_ANSWERS:
        return replace(usage, output_tokens=round(rows * fmean(past.outputs))), True
    return usage, False


def _dearer(sample: Sequence[SampledRow], prices: PriceBook) -> int:
    """Sampled prompts in a dearer band of their model."""
    found = 0
    for row in sample:
        facts = prices.find(row.model)
        bands = () if facts is None else facts.bands[1:]
        found += any(row.prompt_tokens > band.above_tokens for band in bands)
    return found


def _live_seconds(
    sample: Sequence[SampledRow], past: Past, tokens: Usage, rows: int, bounds: Bounds, *, output_known: bool
) -> tuple[float | None, str]:
    """How long live calls take, and what says so; None where neither limits nor latencies are known."""
    told: list[tuple[float, str]] = []
    latencies = [row.latency_us for row in sample if row.latency_us is not None] or list(past.latencies_us)
    if latencies:
        told.append((rows * fmean(latencies) / MICRO / bounds.concurrency, f"{bounds.concurrency} calls at once"))
    if bounds.rpm:
        told.append((60 * rows / bounds.rpm, f"{bounds.rpm:,} requests a minute"))
    if bounds.itpm:
        told.append((60 * tokens.prompt_tokens / bounds.itpm, f"{bounds.itpm:,} input tokens a minute"))
    if bounds.otpm and output_known:
        told.append((60 * tokens.output_tokens / bounds.otpm, f"{bounds.otpm:,} output tokens a minute"))
    if not told:
        return None, "neither limits nor latencies are known"
    return max(told)
