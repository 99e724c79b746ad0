"""What a running run says of itself: its numbers at one moment, for whoever draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.domain.limits import RateLimits
from runner.domain.progress import LimitShown, Progress
from runner.domain.run import Run
from runner.engine.engine import Engine
from runner.engine.feeder import Feeder
from runner.engine.ingest import Ingest
from runner.engine.scopes import Scopes

if TYPE_CHECKING:
    from runner.engine.batch.lane import Lane

OF_THE_JOB = "job"


def progress_of(engine: Engine, ingest: Ingest, feeder: Feeder, lane: Lane | None) -> Progress:
    """The numbers of this moment."""
    run, meter, scopes = engine.run, engine.meter, engine.scopes
    now_s = engine.parts.clock.monotonic()
    requests, input_rate, output_rate, row_rate = meter.per_minute(now_s)
    records = ingest.total
    total = None if records is None else records * run.fan
    left = None if total is None else total - meter.done - meter.failed
    held_s = max((scope.held_s for scope in scopes), default=0.0)
    rpm, itpm, otpm = (_shown(scopes, engine.parts.own_from, run, name) for name in RateLimits._fields)
    return Progress(
        run=run.label,
        job=run.job.name,
        mode=run.job.mode,
        model=run.job.model or "",
        simulated=run.job.simulated,
        elapsed_s=now_s - meter.started_s,
        total=total,
        staged=ingest.records * run.fan,
        done=meter.done,
        failed=meter.failed,
        retrying=feeder.retrying,
        in_flight=meter.in_flight,
        concurrency=engine.pace.maximum,
        requests_per_min=requests,
        input_per_min=input_rate,
        output_per_min=output_rate,
        rpm=rpm,
        itpm=itpm,
        otpm=otpm,
        rate_limited=meter.rate_limited,
        overloaded=meter.overloaded,
        latency_p50_s=meter.percentile(0.50),
        latency_p95_s=meter.percentile(0.95),
        latency_p99_s=meter.percentile(0.99),
        spent_pico=meter.spent_pico,
        committed_pico=meter.committed_pico,
        cap_pico=run.job.budget_pico,
        failures=dict(meter.failures),
        # Results of batches come in heaps: their rate says nothing about the next one.
        eta_s=left / row_rate * 60 if lane is None and left is not None and row_rate > 0 else None,
        paused_for=engine.stop.why,
        held_until_s=held_s if held_s > 0 else None,
        batches=None if lane is None else lane.progress(total),
    )


def _shown(scopes: Scopes, own_from: Mapping[str, str], run: Run, name: str) -> LimitShown | None:
    """The limit that binds: the run's own, or that of all the model classes that it asks, together."""
    own: int | None = getattr(run.job.limits, name)
    theirs = [(getattr(scope.share.known.limits, name), scope.share.known.source) for scope in set(scopes)]
    shown = [] if own is None else [LimitShown(per_minute=own, source=own_from.get(name, OF_THE_JOB))]
    if theirs and all(limit is not None for limit, _ in theirs):
        source = " and ".join(sorted({str(source) for _, source in theirs}))
        shown.append(LimitShown(per_minute=sum(limit for limit, _ in theirs), source=source))
    return min(shown, key=lambda limit: limit.per_minute, default=None)
