"""Who is told of how a run ended: the webhooks of `notify:`. Facts about the run, never about its rows."""

from __future__ import annotations

import os

from runner.api.webhook import tell_webhook
from runner.cli.messages import warning
from runner.domain.job import Job
from runner.domain.states import PauseReason
from runner.engine.run import RunEnd
from runner.errors import JobInvalid
from runner.files.environment import filled_in
from runner.views.money import dollars

MONEY = frozenset({PauseReason.BUDGET, PauseReason.SPEND_CAP, PauseReason.BILLING})


def events_of(end: RunEnd, code: int) -> frozenset[str]:
    """Which of the events that a job can name this end is."""
    if end.pause is not None and end.pause.reason in MONEY:
        return frozenset({"budget", "failed"})
    if end.pause is not None and end.pause.reason in (PauseReason.REQUESTED, PauseReason.SUBMITTED):
        return frozenset()
    if end.pause is not None and end.pause.reason is PauseReason.STALLED:
        return frozenset({"deadline", "failed"})
    return frozenset({"done"}) if code == 0 else frozenset({"failed"})


def notify(job: Job, end: RunEnd, code: int, spent_pico: int) -> None:
    """Tell everybody who wants to know. One who cannot be told is a warning: the run is as it is."""
    events = events_of(end, code)
    if job.simulated:
        return
    for wish in job.notify:
        if events.isdisjoint(wish.on):
            continue
        try:
            url = filled_in(wish.webhook, os.environ, "notify.webhook")
        except JobInvalid as problem:
            warning("notify", problem.message)
            continue
        problem_words = tell_webhook(url, _told(end, code, spent_pico))
        if problem_words is not None:
            warning("notify", f"the webhook of notify could not be told: {problem_words}.")


def _told(end: RunEnd, code: int, spent_pico: int) -> dict[str, object]:
    run, tally = end.run, end.tally
    state = end.pause.reason if end.pause is not None else run.state
    text = f"{run.job.name} {run.label}: {state}, {tally.done:,} rows answered, {tally.failed:,} failed"
    return {
        "text": f"{text}, {dollars(spent_pico)} spent",
        "job": run.job.name,
        "run": run.label,
        "state": run.state,
        "reason": end.pause.reason if end.pause is not None else None,
        "done": tally.done,
        "failed": tally.failed,
        "spent_usd": spent_pico / 10**12,
        "exit": code,
    }
