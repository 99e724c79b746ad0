"""Putting an estimate together: a drawn sample, counted or not, answered or not, and what the store knows already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

import anyio
from msgspec import Struct
from msgspec.structs import replace

from runner.cli.context import Context
from runner.cli.counted import counted_each
from runner.cli.limits import known_limits
from runner.cli.prompt_cache import cache_words
from runner.cli.row_sample import SAMPLE_ROWS, DrawnRow, drawn
from runner.clock import SECOND, local_utc_offset_s
from runner.domain.budget import EVERYTHING, Account, Level, Payer, day_of, job_scope, tightest
from runner.domain.choice import Choice, choose
from runner.domain.deadline import deadline_us
from runner.domain.job import Job
from runner.domain.job_estimate import Bounds, JobEstimate, Past, estimate
from runner.domain.limits import KnownLimits
from runner.domain.packing import API_MAX_REQUESTS
from runner.domain.pricing import PriceBook
from runner.domain.result import RowResult
from runner.errors import CredentialsRefused
from runner.files.bad_row import BadRow
from runner.files.check import InputReport
from runner.files.input_door import place_of
from runner.files.render import Renderer
from runner.store.store import Store
from runner.views.estimate_page import EstimatePage

OWN_MARKS = "cache_control is set, and what the cache saves is not known before rows are answered"
PAST_ANSWERS = 500
PAST_BATCHES = 50
# The share of past batches that took no longer than what is called the slow end.
SLOW = 0.9


class Estimated(Struct, frozen=True, kw_only=True):
    """The rows that were drawn, and what they say of all."""

    rows: list[DrawnRow]
    told: JobEstimate
    choice: Choice
    levels: list[Level]
    not_counted: str | None


class Desk(Struct, frozen=True, kw_only=True):
    """What estimates are made from: the job as settings settle it, its checked input, the store if there is one."""

    context: Context
    job: Job
    report: InputReport
    renderer: Renderer
    prices: PriceBook
    store: Store | None

    @property
    def total(self) -> int:
        return self.report.records * self.job.fan

    def draw(self, size: int = SAMPLE_ROWS) -> list[DrawnRow]:
        return drawn(self.job, self.report, self.renderer, self.prices, size)

    def counted(self, rows: list[DrawnRow]) -> tuple[list[DrawnRow], str | None]:
        """With the service's counts; or why there are none."""
        try:
            told = counted_each([row.request for row in rows], self.job, self.context.settings, self.context.clock)
        except CredentialsRefused as error:
            return rows, f"{error.message.rstrip('.')} (counting is free, and needs a key)"
        counted = [replace(row, row=replace(row.row, counted=tokens)) for row, tokens in zip(rows, told, strict=True)]
        return counted, None

    def estimated(
        self,
        rows: list[DrawnRow],
        not_counted: str | None,
        answers: Mapping[int, RowResult] | None = None,
        *,
        limits_known: bool = True,
    ) -> Estimated:
        """`answers` by the row's number. Where `limits_known` the organisation's limits are asked for."""
        sample = [_with_answer(row, (answers or {}).get(row.row.idx)) for row in rows]
        levels = self._levels()
        bounds = self._bounds(levels, limits_known=limits_known)
        told = estimate(
            [row.row for row in sample],
            self.total,
            self._mean_length(sample),
            self.prices,
            bounds,
            self._past(sample),
        )
        return Estimated(
            rows=sample, told=told, choice=self._choice(told, sample), levels=levels, not_counted=not_counted
        )

    def _mean_length(self, sample: list[DrawnRow]) -> float:
        """Of all lines; where the input is not taken whole, of those that were drawn."""
        if self.job.input.limit is not None or self.report.bad_count or not self.report.size:
            return fmean(row.row.length for row in sample) if sample else 1.0
        return max(1.0, self.report.size / max(1, self.report.records) - 1)  # without the end of the line

    def _levels(self) -> list[Level]:
        """The budgets that would pay: the run's own, not yet begun, and those that stand in the store."""
        job, now_us = self.job, self.context.clock.now_us()
        run = Payer(run=0, job=job.name).keys(day_of(now_us))[0]
        levels = [Level(key=run, cap_pico=job.budget_pico, spent_pico=0, committed_pico=0)]
        standing = [] if self.store is None else self.store.standing_budgets(now_us)
        levels += [level for level in standing if level.key.scope == EVERYTHING]
        return levels + self._of_job(standing, now_us)

    def _of_job(self, standing: Sequence[Level], now_us: int) -> list[Level]:
        """The job's caps as it says them now, with what the store knows to be spent."""
        job = self.job
        keys = [key for key in Payer(run=0, job=job.name).keys(day_of(now_us)) if key.scope == job_scope(job.name)]
        known = {level.key: level for level in standing}
        caps = (job.budget.per_day_pico, job.budget.per_month_pico)
        return [
            replace(known[key], cap_pico=cap)
            if key in known
            else Level(key=key, cap_pico=cap, spent_pico=0, committed_pico=0)
            for key, cap in zip(keys, caps, strict=True)
        ]

    def _bounds(self, levels: list[Level], *, limits_known: bool) -> Bounds:
        job = self.job
        full = Account(Payer(run=0, job=job.name), levels)
        known: Mapping[str, KnownLimits] = {}
        if limits_known:
            known = anyio.run(known_limits, job, self.context.settings, self.prices, self.context.clock)
        told = known.get(self.prices.limit_class(job.model)) if job.model else None
        theirs = told.limits if told is not None else None

        def least(own: int | None, name: str) -> int | None:
            return min((one for one in (own, getattr(theirs, name, None)) if one), default=None)

        return Bounds(
            room_pico=full.room_pico(day_of(self.context.clock.now_us())),
            max_requests=job.batch.max_requests or API_MAX_REQUESTS,
            max_bytes=job.batch.max_bytes,
            concurrency=job.limits.concurrency,
            rpm=least(job.limits.rpm, "rpm"),
            itpm=least(job.limits.itpm, "itpm"),
            otpm=least(job.limits.otpm, "otpm"),
        )

    def _past(self, sample: list[DrawnRow]) -> Past:
        models = {row.row.model for row in sample}
        if self.store is None or len(models) != 1:
            return Past()
        told = self.store.past_answers(self.job.name, models.pop(), PAST_ANSWERS)
        return Past(outputs=[tokens for tokens, _ in told], latencies_us=[us for _, us in told if us is not None])

    def _choice(self, told: JobEstimate, sample: list[DrawnRow]) -> Choice:
        """What auto would mean, whatever the job's mode is."""
        now_us = self.context.clock.now_us()
        finish_by = self.job.auto.finish_by
        return choose(
            told.rows,
            threshold=self.job.auto.threshold,
            now_us=now_us,
            deadline_us=None if finish_by is None else deadline_us(finish_by, now_us, local_utc_offset_s),
            batch_refused=self._refused_in_batches(sample),
            live_rows_per_min=told.rows * 60 / told.live.seconds if told.live.seconds else None,
            batch_pico=told.batch.forecast.pico,
            live_pico=told.live.forecast.pico,
        )

    def _refused_in_batches(self, sample: list[DrawnRow]) -> str | None:
        for row in sample[:1]:
            told = self.renderer.parse(row.payload)
            try:
                self.renderer.request(told, variant=self.renderer.variant_at(told, row.row.idx), batch=True)
            except BadRow as refused:
                return refused.reason
        return None

    def page(self, told: Estimated, *, sample_pico: int | None = None, kept_in: str | None = None) -> EstimatePage:
        full = tightest(told.levels)
        return EstimatePage(
            job=self.job.name,
            model=self.job.model or "named by each row",
            input=place_of(self.job),
            told=told.told,
            choice=told.choice,
            cap_pico=None if full is None else full.cap_pico,
            room_pico=None if full is None else full.room_pico,
            not_counted=told.not_counted,
            sample_pico=sample_pico,
            kept_in=kept_in,
            batch_s=self._batch_times(),
            simulated=self.job.simulated,
            unbounded=any(row.row.worst_pico is None for row in told.rows),
            cache=self._cache(told),
        )

    def _cache(self, told: Estimated) -> str:
        """What is known of the prompt cache before rows were answered."""
        cachings = [row.row.caching for row in told.rows if row.row.caching is not None]
        if any(not one.ours for one in cachings):
            return "" if told.told.cached else OWN_MARKS
        return cache_words(self.renderer, self.prices, self.total, batch=None) if cachings else ""

    def _batch_times(self) -> tuple[float, float] | None:
        times = [] if self.store is None else sorted(self.store.batch_times_us(PAST_BATCHES))
        if not times:
            return None
        return median(times) / SECOND, times[int(SLOW * (len(times) - 1))] / SECOND


def _with_answer(row: DrawnRow, result: RowResult | None) -> DrawnRow:
    if result is None or result.usage is None:
        return row
    return replace(row, row=replace(row.row, usage=result.usage, latency_us=result.latency_us))
