"""Working on a launched run: shown while it goes, concluded when it ends. For every command that sends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from msgspec.structs import replace

from runner.cli.batch_news import teller
from runner.cli.caps import write_caps
from runner.cli.context import Context
from runner.cli.job_argument import absolute_output
from runner.cli.keys import keys_can_be_read
from runner.cli.launch import Launch, settled
from runner.cli.messages import say
from runner.cli.outcome import conclude, print_event
from runner.cli.sending import Sending, check_credential, send
from runner.cli.tracing import traced
from runner.domain.job import Job
from runner.domain.quantity import quantity
from runner.domain.run import Run
from runner.engine.detach import stage_for_others
from runner.engine.parts import RunEnd
from runner.errors import Stalled
from runner.store.store import Store
from runner.views.progress_view import ProgressView, progress_view

# A little more than calls in flight may take.
TAKE_BACK_S = 30.0


@contextmanager
def found(context: Context, label: str, output_path: str | None) -> Iterator[tuple[Store, Run, Job]]:
    """The run, its store, and its job with what the command line changes."""
    with context.found_run(label) as (store, run):
        job = settled(run.job, context.settings, simulated=run.job.simulated)
        if output_path is not None:
            job = replace(job, output=replace(job.output, path=absolute_output(output_path)))
        check_credential(job, context.settings)
        yield store, run, job


def work(
    context: Context,
    store: Store,
    launched: Launch,
    *,
    retry: bool = False,
    waits: bool = True,
    submit_only: bool = False,
) -> int:
    """Send what is left of the run, show how it goes, say how it ended; its exit code.

    Without `waits` batches are left to themselves; with `submit_only` that is a good end.
    """
    run = launched.run
    output = launched.job.output.path
    if context.json:
        print_event("launch", run=run.label, job=run.job.name, simulated=run.job.simulated)
    if launched.finished and not retry:
        end = RunEnd(run=_with_output_of(run, launched.job), tally=store.tally(run.id), pause=None)
        return conclude(context, store, end, output, elapsed_s=None)
    if run.detached:
        _take_back(context, store, run)
    began_s = context.clock.monotonic()
    end = worked(context, store, launched, retry=retry, waits=waits)
    elapsed_s = context.clock.monotonic() - began_s
    code = conclude(context, store, end, output, elapsed_s=elapsed_s, submit_only=submit_only)
    if end.run.job.notify:
        from runner.cli.notices import tell_of_run

        tell_of_run(context, store, end.run)
    return code


def _with_output_of(run: Run, job: Job) -> Run:
    """Where results go may have been mended since; how they were asked may not."""
    return replace(run, job=replace(run.job, output=job.output))


def _take_back(context: Context, store: Store, run: Run) -> None:
    """A run of the fleet's is worked on here from now on; workers first end the calls that they have out."""
    store.fleet.detach(run.id, detached=False)
    deadline_s = context.clock.monotonic() + TAKE_BACK_S
    while store.fleet.at_work(run.id, context.clock.now_us()) and context.clock.monotonic() < deadline_s:
        time.sleep(0.2)


def detached(context: Context, store: Store, launched: Launch, priority: int = 0, *, retry: bool = False) -> int:
    """Stage what is left of the input and give the run to the fleet; exit 0 when it is theirs."""
    from runner.store.fleet import check_queue

    run = launched.run
    check_queue(store.database)
    if context.json:
        print_event("launch", run=run.label, job=run.job.name, simulated=run.job.simulated)
    if launched.finished and not retry:
        end = RunEnd(run=_with_output_of(run, launched.job), tally=store.tally(run.id), pause=None)
        return conclude(context, store, end, launched.job.output.path, elapsed_s=None)
    if retry:
        store.open_round(run.id)
    parts = (run, store, launched.source, launched.report, launched.renderer, launched.job, context.clock)
    staged = anyio.run(stage_for_others, *parts)
    if not staged:
        say(f"run {run.label} was stopped while its input was read; the same command goes on.")
        return Stalled.exit_code
    store.fleet.detach(run.id, detached=True, priority=priority)
    rows = store.run_by_id(run.id).total_rows or 0
    context.note(
        f"run {run.label}: {quantity(rows, 'row waits', 'rows wait')} for the fleet.   runner attach {run.label}"
    )
    return 0


def worked(
    context: Context,
    store: Store,
    launched: Launch,
    *,
    retry: bool = False,
    waits: bool = True,
    shown: bool = True,
    only: frozenset[int] | None = None,
) -> RunEnd:
    """Work on the run and show how it goes, without a word about its end. With `only` on these rows alone."""
    write_caps(context.settings, store)
    with _progress(context, shown=shown) as view, traced() as spans:
        sending = Sending(
            settings=context.settings,
            store=store,
            prices=context.prices,
            clock=context.clock,
            on_progress=view,
            retry=retry,
            keys=view.takes_keys,
            waits=waits,
            only=only,
            on_batch=teller(context, launched.run, view),
            saw=spans,
        )
        return send(launched, sending)


@contextmanager
def _progress(context: Context, *, shown: bool) -> Iterator[ProgressView]:
    kind = context.progress if shown and not context.quiet else "none"
    view = progress_view(kind, context.stderr_console(), keys=keys_can_be_read())
    view.start()
    try:
        yield view
    finally:
        view.stop()
