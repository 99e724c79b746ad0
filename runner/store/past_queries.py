"""What earlier runs of a job tell of the next one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from runner.store.tables import batches, results, runs


def answers_of_job(job_name: str, model: str, limit: int) -> Select[Any]:
    """Sizes and times of answers that the job's runs had from this model, the newest runs first."""
    return (
        select(results.c.output_tokens, results.c.latency_us)
        .join(runs, runs.c.id == results.c.run)
        .where(runs.c.job_name == job_name, results.c.model == model, results.c.output_tokens.is_not(None))
        .order_by(results.c.run.desc(), results.c.idx)
        .limit(limit)
    )


def batch_times(limit: int) -> Select[Any]:
    """How long the newest batches took."""
    return (
        select((batches.c.ended_us - batches.c.created_us).label("us"))
        .where(batches.c.ended_us.is_not(None), batches.c.created_us.is_not(None))
        .order_by(batches.c.ended_us.desc())
        .limit(limit)
    )
