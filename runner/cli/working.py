"""Working on a launched run: shown while it goes, concluded when it ends. For every command that sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runner.cli.batch_news import teller
from runner.cli.caps import write_caps
from runner.cli.context import Context
from runner.cli.job_argument import absolute_output
from runner.cli.keys import keys_can_be_read
from runner.cli.launch import Launch, settled
from runner.cli.outcome import conclude, print_event
from runner.cli.sending import Sending, check_credential, send
from runner.domain.job import Job
from runner.domain.run import Run
from runner.engine.run import RunEnd
from runner.store.store import Store
from runner.views.progress_view import ProgressView, progress_view


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
        end = RunEnd(run=run, tally=store.tally(run.id), pause=None)
        return conclude(context, store, end, output, elapsed_s=None)
    began_s = context.clock.monotonic()
    end = worked(context, store, launched, retry=retry, waits=waits)
    elapsed_s = context.clock.monotonic() - began_s
    return conclude(context, store, end, output, elapsed_s=elapsed_s, submit_only=submit_only)


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
    with _progress(context, shown=shown) as view:
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
