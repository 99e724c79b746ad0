"""A running job's numbers at one moment: made by the engine, drawn by the views."""

from __future__ import annotations

from msgspec import Struct, field

from runner.domain.batch_progress import BatchProgress


class LimitShown(Struct, frozen=True, kw_only=True):
    """A limit a minute, and where it was set: a flag, a variable, the job, a tier, the Admin API, reply headers."""

    per_minute: int
    source: str


class Progress(Struct, frozen=True, kw_only=True):
    """Counts of rows, unless named otherwise. `total` is None while the input is still being read.

    `failed` counts ended rows that did not succeed, `retrying` those that wait for a second try. Rates are per
    minute over the last minute; latencies in seconds; money in pico-dollars. `concurrency` is the most calls at once
    that the run may make. `batches` is set where rows go in batches, or some of an earlier mode are still out; then
    no time is reckoned from the rate of rows.
    """

    run: str
    job: str
    mode: str
    model: str
    simulated: bool
    elapsed_s: float
    total: int | None
    staged: int
    done: int
    failed: int
    retrying: int
    in_flight: int
    concurrency: int
    requests_per_min: float
    input_per_min: float
    output_per_min: float
    rpm: LimitShown | None
    itpm: LimitShown | None
    otpm: LimitShown | None
    rate_limited: int
    overloaded: int
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None
    spent_pico: int
    committed_pico: int
    cap_pico: int | None
    failures: dict[str, int] = field(default_factory=dict)
    eta_s: float | None = None
    paused_for: str | None = None
    held_until_s: float | None = None
    batches: BatchProgress | None = None
