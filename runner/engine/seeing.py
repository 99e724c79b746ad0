"""A call that has ended, as those see it who count and trace."""

from __future__ import annotations

from runner.domain.decide import Decision, Finish
from runner.domain.job import Job
from runner.domain.outcome import Answer, Outcome
from runner.domain.seen import CallSeen
from runner.engine.settle import Call
from runner.store.group import Settlement


def seen(
    job: Job, run: str, call: Call, outcome: Outcome, decision: Decision, stored: Settlement, *, latency_s: float
) -> CallSeen:
    """What may be told of a call: numbers and names, nothing of the row."""
    answer = outcome if isinstance(outcome, Answer) else None
    usage = answer.usage if answer else None
    kinds = ("input_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "output_tokens")
    return CallSeen(
        job=job.name,
        base_url=job.base_url,
        run=run,
        model=call.model,
        outcome="answer" if answer else str(getattr(outcome, "kind", "failure")),
        latency_s=latency_s,
        began_us=call.sent_us,
        ended_us=stored.at_us,
        max_tokens=call.request.max_tokens,
        attempt=call.try_,
        row_status=decision.status if isinstance(decision, Finish) else None,
        stop_reason=answer.stop_reason if answer else None,
        request_id=outcome.origin.request_id,
        response_model=answer.model if answer else None,
        workspace=outcome.origin.workspace,
        error_type=None if answer else getattr(outcome, "type", None),
        tokens={} if usage is None else {kind: count for kind in kinds if (count := getattr(usage, kind))},
        cost_pico=stored.booking.cost_pico if stored.booking is not None else None,
    )
