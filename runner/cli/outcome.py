"""How a run ended, said in words, in an export and in an exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from runner.cli.context import SCHEMA, Context
from runner.cli.messages import message, say, warning
from runner.domain.budget import tightest
from runner.domain.estimates import Estimator
from runner.domain.job import RUN_NAME
from runner.domain.quantity import quantity
from runner.domain.reservation import DECLARE_BOUND, UNBOUNDED
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN, RIDING_BATCH, BatchState, PauseReason, RunState
from runner.engine.export import export
from runner.engine.parts import RunEnd
from runner.engine.stop import Pause
from runner.errors import (
    BudgetReached,
    CredentialsRefused,
    DuplicateBatch,
    JobInvalid,
    RowsFailed,
    Stalled,
    UnknownBatches,
)
from runner.files.sink import STDOUT
from runner.files.sinks.targets import PART, PART_DIGITS
from runner.files.sources.remote import is_address
from runner.store.duplicates import Duplicate
from runner.store.store import Store
from runner.store.submissions import Submission
from runner.views.batch_words import duplicate_words, out_words
from runner.views.budget_words import raise_advice, rest_pico, rest_words
from runner.views.estimate_words import estimate_json
from runner.views.failure_advice import pause_advice
from runner.views.money import usd
from runner.views.run_facts import run_facts
from runner.views.summary import summary_lines

EXIT_OF_PAUSE = {
    PauseReason.REQUESTED: Stalled.exit_code,
    PauseReason.BUDGET: BudgetReached.exit_code,
    PauseReason.BILLING: BudgetReached.exit_code,
    PauseReason.SPEND_CAP: BudgetReached.exit_code,
    PauseReason.CREDENTIALS: CredentialsRefused.exit_code,
    PauseReason.ADDRESS: JobInvalid.exit_code,
    PauseReason.MODEL: JobInvalid.exit_code,
    PauseReason.BAD_ROW: JobInvalid.exit_code,
    PauseReason.STALLED: Stalled.exit_code,
    PauseReason.MAX_FAILURES: RowsFailed.exit_code,
    PauseReason.SUBMITTED: Stalled.exit_code,
    PauseReason.UNKNOWN_BATCH: UnknownBatches.exit_code,
    PauseReason.SAMPLED: Stalled.exit_code,
    PauseReason.REFUSED: JobInvalid.exit_code,
}
# What rows and held submissions say; a duplicate that was paid for goes before it. A run that is merely not there
# yet keeps its code, so that whoever calls again goes on calling.
BELOW_DUPLICATES = frozenset({0, RowsFailed.exit_code, UnknownBatches.exit_code})
SIMULATED_ENDED = "simulated, so they end with this command."
# Beyond every time at which a row may be due.
WHENEVER_US = 2**62


def conclude(
    context: Context,
    store: Store,
    end: RunEnd,
    output: str | None,
    *,
    elapsed_s: float | None,
    submit_only: bool = False,
) -> int:
    """Export to `output`, say how it went, and give the exit code of the run's state.

    `elapsed_s` is None if nothing was sent. With `submit_only` a run that is wholly with the service went well.
    """
    run = end.run
    finished = end.pause is None and run.state in FINISHED_RUN
    exported = _exported(context, store, run, output, elapsed_s) if finished else None
    duplicates = store.duplicates_of(run.id)
    out = [one for one in store.submissions_of(run.id) if one.state in RIDING_BATCH]
    code = exit_code(end, duplicates=bool(duplicates))
    if submit_only and _is(end, PauseReason.SUBMITTED):
        code = _exit_of_submitting(store, run, out)
    if finished or (submit_only and code == 0):
        if not context.quiet:
            for line in summary_lines(run_facts(store, run), elapsed_s=elapsed_s, output=exported):
                say(line)
    elif (
        context.quiet and code == Stalled.exit_code and out and (end.pause is None or _is(end, PauseReason.SUBMITTED))
    ):
        pass  # with -q, as by cron: that the service still works on it is no error
    elif end.pause is None:
        _say_canceling(run, out, code)
    else:
        _say_paused(context, store, end, end.pause, out, code)
    if duplicates and (context.quiet or not finished):
        for one in duplicates:
            warning("duplicate-batch", f"batch {duplicate_words(one)}.")
    if context.json:
        _print_done(store, end, out, duplicates, exported, code)
    return code


def print_event(event: str, **told: object) -> None:
    """One line of JSON on stdout, for machines."""
    click.echo(json.dumps({"event": event, "schema": SCHEMA, **told}))


def exit_code(end: RunEnd, *, duplicates: bool = False) -> int:
    """0 means: every row succeeded, and no batch was made twice."""
    code = _exit_of_rows(end)
    return DuplicateBatch.exit_code if duplicates and code in BELOW_DUPLICATES else code


def _exit_of_rows(end: RunEnd) -> int:
    if end.pause is not None:
        number = end.pause.signal_number
        return 128 + number if number is not None else EXIT_OF_PAUSE[end.pause.reason]
    if end.run.state is RunState.DONE:
        return 0
    return RowsFailed.exit_code if end.run.state in FINISHED_RUN else Stalled.exit_code


def _is(end: RunEnd, reason: PauseReason) -> bool:
    return end.pause is not None and end.pause.reason is reason


def _exit_of_submitting(store: Store, run: Run, out: Sequence[Submission]) -> int:
    """All that had to be sent is with the service, or what is missing for that."""
    if any(one.state is BatchState.UNKNOWN for one in out):
        return UnknownBatches.exit_code
    waits = not run.ingest_done or store.fresh_rows(run.id, WHENEVER_US) > 0
    return Stalled.exit_code if waits else 0


def _exported(context: Context, store: Store, run: Run, output: str | None, elapsed_s: float | None) -> str | None:
    """Write the output file; a run found done writes it only if it is not there as it was written."""
    path = output or run.job.output.path or run.output
    if run.job.output.sql is not None and output is None:
        path = None
    elif path is None:
        return None
    if elapsed_s is None and run.exported_us is not None and _stands(run, path):
        return path
    written = export(store, run, path)
    store.note_exported(run.id, path, context.clock.now_us())
    for note in written.notes:
        warning("output", f"{note}.")
    return written.paths[0] if len(written.paths) == 1 else path


def _stands(run: Run, path: str | None) -> bool:
    """Is the output still there as it was written? Of what is not on this disk that is taken for granted."""
    if path is None or is_address(path):
        return True
    first = path.replace(RUN_NAME, run.label).replace(PART, f"{1:0{PART_DIGITS}}")
    return path == run.output and path != STDOUT and Path(first).exists()


# --- in words


def _say_paused(
    context: Context, store: Store, end: RunEnd, pause: Pause, out: Sequence[Submission], code: int
) -> None:
    label = end.run.label
    rest = _rest(store, end) if pause.reason is PauseReason.BUDGET else None
    hints = [f"{_saved(end, out)}{rest_words(rest)}." + ("" if out else " Nothing that was answered is asked again.")]
    unknown = any(one.state is BatchState.UNKNOWN for one in out)
    if out and (unknown or pause.reason is not PauseReason.SUBMITTED):
        simulated = end.run.job.simulated
        hints.append(f"{out_words(out)}: " + (SIMULATED_ENDED if simulated else "they go on without this command."))
    if pause.reason is PauseReason.BUDGET and UNBOUNDED in pause.message:
        hints.append(f"{DECLARE_BOUND} (a budget needs it)")
    elif pause.reason is PauseReason.BUDGET:
        full = tightest(store.budget_levels(end.run.id, context.clock.now_us()))
        hints.append(raise_advice(full, end.run.id, label, rest))
    else:
        hints.append(pause_advice(pause.reason, label, pause.message))
    if out and pause.signal_number is not None and not end.run.job.simulated:
        hints.append(f"runner cancel {label}   ends them; only finished rows are billed and kept")
    message("paused", pause.reason.replace("_", "-"), f"{pause.message}.", hints, exit_code=code)


def _rest(store: Store, end: RunEnd) -> int | None:
    """What the rows that wait will probably cost."""
    waiting = None if end.run.total_rows is None else end.run.total_rows - end.tally.ended
    return rest_pico(store.money(end.run.id).spent_pico, end.tally.ended, waiting)


def _saved(end: RunEnd, out: Sequence[Submission]) -> str:
    """`12 rows are saved, 30 are in batches, 8 wait`."""
    words = quantity(end.tally.ended, "row is saved", "rows are saved")
    riding = sum(one.n for one in out)
    if riding:
        words += f", {riding:,} are in batches"
    waiting = None if end.run.total_rows is None else max(0, end.run.total_rows - end.tally.ended - riding)
    return words if waiting is None or (riding and not waiting) else f"{words}, {waiting:,} wait"


def _say_canceling(run: Run, out: Sequence[Submission], code: int) -> None:
    message(
        "paused",
        "canceling",
        f"run {run.label} is being canceled: {out_words(out)}.",
        canceling_hints(run),
        exit_code=code,
    )


def canceling_hints(run: Run) -> tuple[str, ...]:
    """What becomes of rows and money of a run whose batches were asked to end."""
    return (
        "they were asked to end. Rows finished by then are billed and kept, the others are neither.",
        f"runner collect {run.label}   fetches what is finished, and ends the run",
    )


# --- for machines


def _print_done(
    store: Store,
    end: RunEnd,
    out: Sequence[Submission],
    duplicates: Sequence[Duplicate],
    exported: str | None,
    code: int,
) -> None:
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
        batches_out=len(out),
        rows_in_batches=sum(one.n for one in out),
        batches_unknown=sum(one.state is BatchState.UNKNOWN for one in out),
        duplicates=[{"id": one.provider_id, "rows": one.n, "cost_usd": usd(one.cost_pico)} for one in duplicates],
        output=exported,
        exit=code,
    )
