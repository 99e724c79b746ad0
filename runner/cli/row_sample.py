"""Rows that were drawn from all of an input while it was checked, and the requests that they become."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.expected_usage import Caching
from runner.domain.job import Job, WarmCache
from runner.domain.job_estimate import SampledRow
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest
from runner.domain.reservation import worst_pico
from runner.files.bad_row import BadRow
from runner.files.check import InputReport
from runner.files.render import Renderer

# Enough for an interval of some percent.
SAMPLE_ROWS = 200
# Enough to know what the order of magnitude is.
LOOKED_AT_ROWS = 100

MARK_BYTES = b'"cache_control"'


class DrawnRow(Struct, frozen=True, kw_only=True):
    """A row, the line that it was read from, and its request."""

    payload: bytes
    row: SampledRow
    request: MessagesRequest


def drawn(job: Job, report: InputReport, renderer: Renderer, prices: PriceBook, size: int) -> list[DrawnRow]:
    """Rows of at most `size` of the records that the check has drawn, one of each, in their order."""
    caching = _Cachings(job, report, renderer, prices)
    found = []
    for number, record in enumerate(sorted(report.drawn[:size], key=lambda drawn: drawn.number)):
        # Where several variants answer each record, the sample holds as many rows of each.
        idx = record.number * job.fan + number * job.repeat % job.fan
        payload = record.payload
        try:
            row = renderer.parse(payload)
            variant = renderer.variant_at(row, idx)
            request = renderer.request(row, variant=variant)
        except BadRow:
            continue
        sampled = caching.noted(_sampled(job, idx, payload, request, prices), variant, request)
        found.append(DrawnRow(payload=payload, request=request, row=sampled))
    return found


class _Cachings:
    """What becomes of the beginnings that rows share, by variant."""

    def __init__(self, job: Job, report: InputReport, renderer: Renderer, prices: PriceBook) -> None:
        rows = report.records * job.fan
        self._renderer = renderer
        self._primes = job.batch.warm_cache is WarmCache.AUTO
        self._live = renderer.heads_worth(prices, rows, batch=False)
        self._batch = renderer.heads_worth(prices, rows, batch=True)

    def noted(self, row: SampledRow, variant: int, request: MessagesRequest) -> SampledRow:
        head = self._renderer.head_of(variant)
        if head is not None:
            caching = Caching(ours=True, live=variant in self._live, batch=variant in self._batch)
            return replace(row, variant=variant, head_share=min(1.0, head.bytes / row.body_bytes), caching=caching)
        own = Caching(ours=False, live=True, batch=self._primes) if MARK_BYTES in request.body else None
        return replace(row, variant=variant, caching=own)


def spread(rows: Sequence[DrawnRow], wanted: int, variants: int) -> list[DrawnRow]:
    """So many of the rows, from all over them, and as many of each variant."""
    groups = [rows[start : start + variants] for start in range(0, len(rows), variants)]
    few = min(-(-wanted // variants), len(groups))
    return [row for n in range(few) for row in groups[n * len(groups) // few]][:wanted]


def _sampled(job: Job, idx: int, payload: bytes, request: MessagesRequest, prices: PriceBook) -> SampledRow:
    row_pico = job.limits.row_pico
    return SampledRow(
        idx=idx,
        length=len(payload),
        model=request.model,
        body_bytes=len(request.body),
        max_tokens=request.max_tokens,
        worst_pico=worst_pico(prices, request, row_pico=row_pico),
        worst_batch_pico=worst_pico(prices, request, row_pico=row_pico, batch=True),
    )
