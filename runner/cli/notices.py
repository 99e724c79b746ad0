"""Telling others: what a job's `notify:` rules want to hear of, by webhook or by command.

Nothing here may fail or hold up a run: it comes after what it tells of is stored, within a bounded time, and what
does not get through is a warning.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from runner.api.webhook import NotTold, Webhook, post
from runner.cli.context import Context
from runner.cli.messages import warning
from runner.domain.cron import local_time, zone_of
from runner.domain.environment import expanded
from runner.domain.notify import Notice, NotifyRule, Occasion, occasions_of, wanted
from runner.domain.run import Run
from runner.domain.schedule import clock_words
from runner.domain.states import FINISHED_RUN
from runner.engine.ticking import Left
from runner.errors import RunnerError
from runner.files.job_file import load_job
from runner.store.schedules import Schedule
from runner.store.store import Store
from runner.views.batch_words import retention_words

log = logging.getLogger(__name__)

COMMAND_S = 30.0


def tell_of_run(context: Context, store: Store, run: Run) -> None:
    """A run was left: whoever wants to hear of its state is told."""
    occasions = occasions_of(run.state, run.pause_reason)
    why = f": {run.pause_message}" if run.pause_message else ""
    if run.state not in FINISHED_RUN and (soon_gone := _soon_gone(context, store, run)):
        occasions |= {Occasion.RETENTION}
        why = f": {soon_gone}"
    if not run.job.notify or not occasions:
        return
    tally, money = store.tally(run.id), store.money(run.id)
    text = f"run {run.label} of {run.job.name} is {run.state.replace('_', ' ')}{why}"
    facts = {
        "run": run.label,
        "state": run.state,
        "reason": run.pause_reason,
        "done": tally.done,
        "failed": tally.failed,
        "spent_usd": money.spent_pico / 1e12,
        "simulated": run.job.simulated,
    }
    tell(context, run.job.notify, Notice(occasions=occasions, job=run.job.name, text=text, facts=facts))


def _soon_gone(context: Context, store: Store, run: Run) -> str | None:
    """Which results of the run are about to be deleted at the provider."""
    now_us = context.clock.now_us()
    return next(filter(None, (retention_words(one, now_us) for one in store.submissions_of(run.id))), None)


def tell_of_fire(
    context: Context, schedule: Schedule, fire_us: int, occasions: frozenset[Occasion], why: str, what: str = "failed"
) -> None:
    """A fire did not become a run, or did not take place."""
    rules = _rules_of(schedule)
    zone = zone_of(schedule.spec.timezone)
    facts = {
        "schedule": schedule.name,
        "time": local_time(fire_us, zone).isoformat(),
        "state": what,
        "reason": why,
    }
    text = f"schedule {schedule.name}, {clock_words(fire_us, zone)}: {what}, because {why}"
    tell(context, rules, Notice(occasions=occasions, job=schedule.name, text=text, facts=facts))


def tell_of_left(context: Context, left: Sequence[Left]) -> None:
    """Fires that were missed or skipped."""
    for one in left:
        occasions = frozenset({Occasion.DEADLINE})
        tell_of_fire(context, one.schedule, one.fire_us, occasions, one.why, one.what)


def _rules_of(schedule: Schedule) -> Sequence[NotifyRule]:
    """Of the job as its file is now; none where it cannot be read, which is told elsewhere."""
    try:
        return load_job(schedule.job.file, schedule.job.params, schedule.job.overrides).notify
    except RunnerError:
        return ()


def tell(context: Context, rules: Iterable[NotifyRule], notice: Notice) -> None:
    """Tell everybody who wants to hear of it, one after the other."""
    for rule in wanted(rules, notice):
        try:
            _carry_out(context, rule, notice.document())
        except NotTold as problem:
            log.warning("not_told", extra={"job": notice.job, "reason": problem.message})
            warning(problem.name, problem.message, problem.hints)


def _carry_out(context: Context, rule: NotifyRule, document: dict[str, Any]) -> None:
    if rule.command is not None:
        _run(rule.command, document)
        return
    try:
        url = expanded(rule.webhook or "", os.environ)
    except KeyError as name:
        raise NotTold(f"the webhook is ${{{name.args[0]}}}, and that variable is not set.") from None
    hook = Webhook(
        url=url,
        secret=os.environ.get("RUNNER_WEBHOOK_SECRET") or None,
        allow_private=os.environ.get("RUNNER_WEBHOOK_PRIVATE", "") in ("1", "true"),
    )
    post(hook, document, now_s=context.clock.now_us() // 1_000_000)


def _run(command: Sequence[str], document: dict[str, Any]) -> None:
    """The document on its stdin. No shell reads the words, and nothing of a row is among them."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    try:
        done = subprocess.run(  # noqa: S603 - it is the user's own job that names it
            command,
            input=json.dumps(document).encode(),
            stdout=subprocess.DEVNULL,
            timeout=COMMAND_S,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise NotTold(f"the command {command[0]} took longer than {COMMAND_S:g} s.") from None
    except OSError as problem:
        raise NotTold(f"the command {command[0]} cannot be run: {problem.strerror}.") from None
    if done.returncode:
        raise NotTold(f"the command {command[0]} ended with {done.returncode}.")
