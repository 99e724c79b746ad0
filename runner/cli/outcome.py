"""How a run ended, said in words, in an export and in an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runner.cli.context import SCHEMA, Context
from runner.cli.messages import message, say
from runner.domain.estimates import Estimator
from runner.domain.run import Run
from runner.domain.states import PauseReason, RunState
from runner.engine.export import export
from runner.engine.run import RunEnd
from runner.engine.stop import Pause
from runner.errors import BudgetReached, CredentialsRefused, JobInvalid, RowsFailed, Stalled
from runner.files.sink import STDOUT
from runner.store.store import Store
from runner.views.estimate_words import estimate_json
from runner.views.failure_advice import pause_advice
from runner.views.run_facts import run_facts
from runner.views.summary import summary_lines

EXIT_OF_PAUSE = {
    PauseReason.REQUESTED: Stalled.exit_code,
    PauseReason.BUDGET: BudgetReached.exit_code,
    PauseReason.BILLING: BudgetReached.exit_code,
    PauseReason.SPEND_CAP: BudgetReached.exit_code,
    PauseReason.CREDENTIALS: CredentialsRefused.exit_code,
    PauseReason.MODEL: JobInvalid.exit_code,
    PauseReason.BAD_ROW: JobInvalid.exit_code,
    PauseReason.STALLED: Stalled.exit_code,
    PauseReason.MAX_FAILURES: RowsFailed.exit_code,
}


def conclude(context: Context, store: Store, end: RunEnd, output: str | None, *, elapsed_s: float | None) -> int:
    """Export to `output`, say how it went, and give the exit code of the run's state.

    `elapsed_s` is None if nothing was sent.
    """
    exported = _exported(context, store, end.run, output, elapsed_s) if end.pause is None else None
    code = exit_code(end)
    if end.pause is not None:
        _say_paused(end, end.pause, code)
    elif not context.quiet:
        for line in summary_lines(run_facts(store, end.run), elapsed_s=elapsed_s, output=exported):
            say(line)
    if context.json:
        money = store.money(end.run.id)
        estimates = Estimator.from_json(store.run_by_id(end.run.id).estimates).told()
        print_event(
            "done",
            run=end.run.label,
            state=end.run.state,
            reason=end.pause.reason if end.pause else None,
            done=end.tally.done,
            failed=end.tally.failed,
            waiting=None if end.run.total_rows is None else end.run.total_rows - end.tally.ended,
            spent_usd=money.spent_pico / 1e12,
            unknown_calls=money.unknown_calls,
            unknown_usd_at_most=money.unknown_bound_pico / 1e12,
            estimates=estimate_json(estimates),
            output=exported,
            exit=code,
        )
    return code


def print_event(event: str, **told: object) -> None:
    """One line of JSON on stdout, for machines."""
    click.echo(json.dumps({"event": event, "schema": SCHEMA, **told}))


def exit_code(end: RunEnd) -> int:
    """0 means: every row succeeded."""
    if end.pause is not None:
        number = end.pause.signal_number
        return 128 + number if number is not None else EXIT_OF_PAUSE[end.pause.reason]
    return 0 if end.run.state is RunState.DONE else RowsFailed.exit_code


def _exported(context: Context, store: Store, run: Run, output: str | None, elapsed_s: float | None) -> str | None:
    """Write the output file; a run found done writes it only if it is not there as it was written."""
    path = output or run.output
    if path is None:
        return None
    stands = run.exported_us is not None and path == run.output and path != STDOUT and Path(path).exists()
    if elapsed_s is not None or not stands:
        export(store, run, path)
        store.note_exported(run.id, path, context.clock.now_us())
    return path


def _say_paused(end: RunEnd, pause: Pause, code: int) -> None:
    total = end.run.total_rows
    waiting = "" if total is None else f", {total - end.tally.ended:,} wait"
    message(
        "paused",
        pause.reason.replace("_", "-"),
        f"{pause.message}.",
        (
            f"{end.tally.ended:,} rows are saved{waiting}. Nothing that was answered is asked again.",
            pause_advice(pause.reason, end.run.label),
        ),
        exit_code=code,
    )
