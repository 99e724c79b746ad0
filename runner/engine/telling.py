"""What a running run says of itself: its numbers at one moment, for whoever draws them."""

from __future__ import annotations

from runner.clock import SECOND, Clock
from runner.domain.progress import Progress
from runner.domain.run import Run
from runner.engine.batch.lane import Lane
from runner.engine.feeder import Feeder
from runner.engine.gate import Gate
from runner.engine.ingest import Ingest
from runner.engine.meter import Meter
from runner.engine.stop import Stop


def progress_of(
    run: Run, meter: Meter, ingest: Ingest, feeder: Feeder, gate: Gate, stop: Stop, clock: Clock, lane: Lane | None
) -> Progress:
    """The numbers of this moment."""
    now_s = clock.monotonic()
    limits = run.job.limits
    requests, input_rate, output_rate, row_rate = meter.per_minute(now_s)
    records = ingest.total
    total = None if records is None else records * run.fan
    left = None if total is None else total - meter.done - meter.failed
    held_s = (gate.held_until_us - clock.now_us()) / SECOND
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
        concurrency=limits.concurrency,
        requests_per_min=requests,
        input_per_min=input_rate,
        output_per_min=output_rate,
        rpm=limits.rpm,
        itpm=limits.itpm,
        otpm=limits.otpm,
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
        paused_for=stop.why,
        held_until_s=held_s if held_s > 0 else None,
        batches=None if lane is None else lane.progress(total),
    )
