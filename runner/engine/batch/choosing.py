"""What `mode: auto` means for a run, by its rows: how many are left, what they may cost, how much time there is."""

from __future__ import annotations

from itertools import islice

from msgspec import Struct

from runner.clock import local_utc_offset_s
from runner.domain.choice import Choice, choose
from runner.domain.deadline import deadline_us
from runner.domain.estimates import BYTES_PER_TOKEN, SHARE_OF_MAX_TOKENS
from runner.domain.expected_usage import Caching, expected
from runner.domain.marking import MANY_ROWS
from runner.domain.outcome import Usage
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest
from runner.domain.run import Run
from runner.files.bad_row import BadRow, BatchRefuses
from runner.files.render import Renderer
from runner.store.store import Store

# Rows that stand for all of them.
SAMPLE_ROWS = 50


def deadline_of(run: Run) -> int | None:
    """Until when the run is to be finished, shared microseconds; None without `finish_by`."""
    told = run.job.auto.finish_by
    return None if told is None else deadline_us(told, run.created_us, local_utc_offset_s)


def chosen(
    run: Run,
    store: Store,
    renderer: Renderer,
    prices: PriceBook,
    *,
    rows: int | None,
    now_us: int,
    deadline_us: int | None,
) -> Choice:
    """The choice for the rows that are left. Reads the first staged rows; blocks."""
    sample = _sampled(run, store, renderer, prices, MANY_ROWS if rows is None else rows)
    return choose(
        rows,
        threshold=run.job.auto.threshold,
        now_us=now_us,
        deadline_us=deadline_us,
        batch_refused=sample.refused,
        batch_pico=_of_all(sample.batch_pico, sample.rows, rows),
        live_pico=_of_all(sample.live_pico, sample.rows, rows),
    )


class _Sample(Struct):
    rows: int = 0
    live_pico: int | None = 0
    batch_pico: int | None = 0
    refused: str | None = None


def _sampled(run: Run, store: Store, renderer: Renderer, prices: PriceBook, rows: int) -> _Sample:
    sample = _Sample()
    kept = {batch: renderer.heads_worth(prices, rows, batch=batch) for batch in (False, True)}
    for line in islice(store.staged_lines(run.id), SAMPLE_ROWS):
        try:
            row = renderer.parse(line)
            variant = renderer.variants_of(row)[0]
            request = renderer.request(row, variant=variant, batch=True)
        except BatchRefuses as refused:
            sample.refused = refused.reason
            continue
        except BadRow:
            continue
        usage = Usage(
            input_tokens=round(len(request.body) / BYTES_PER_TOKEN),
            output_tokens=round(request.max_tokens * SHARE_OF_MAX_TOKENS),
        )
        head = renderer.head_of(variant)
        shared = 0 if head is None else min(head.tokens, usage.input_tokens)
        caching = Caching(ours=True, live=variant in kept[False], batch=variant in kept[True])
        sample.rows += 1
        sample.live_pico = _plus(sample.live_pico, _cost(prices, request, usage, shared, caching, batch=False))
        sample.batch_pico = _plus(sample.batch_pico, _cost(prices, request, usage, shared, caching, batch=True))
    return sample


def _cost(
    prices: PriceBook, request: MessagesRequest, usage: Usage, shared: int, caching: Caching, *, batch: bool
) -> int | None:
    """With what the prompt cache is expected to save of it."""
    parts = expected(usage, shared, caching, batch=batch)
    found = [(part.share, prices.cost_pico(request.model, part.usage, batch=batch)) for part in parts]
    known = [share * pico for share, pico in found if pico is not None]
    return round(sum(known)) if len(known) == len(found) else None


def _plus(sum_pico: int | None, more_pico: int | None) -> int | None:
    return None if sum_pico is None or more_pico is None else sum_pico + more_pico


def _of_all(sample_pico: int | None, sampled: int, rows: int | None) -> int | None:
    return None if sample_pico is None or rows is None or sampled == 0 else sample_pico * rows // sampled
