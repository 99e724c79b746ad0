"""`run`, `resume`, `retry`: the commands that send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.job_argument import absolute_output, job_of
from runner.cli.keys import keys_can_be_read
from runner.cli.launch import Launch, Wish, check_mode, check_model, launch, opened_input, relaunch, settled
from runner.cli.messages import say
from runner.cli.options import (
    base_url_option,
    input_option,
    json_option,
    limit_option,
    output_option,
    pace_options,
    param_option,
    progress_option,
    simulate_option,
)
from runner.cli.outcome import conclude, print_event
from runner.cli.sending import Sending, check_credential, send
from runner.domain.job import API_VERSIONS, Job, Mode, OnBadRow, OutputSpec
from runner.domain.pricing import shipped_prices
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN
from runner.engine.run import RunEnd
from runner.errors import UsageInvalid
from runner.store.store import Store
from runner.views.progress_view import ProgressView, progress_view


@command(
    "run",
    examples=(
        "runner run job.yaml --simulate",
        "runner run job.yaml -i tickets.jsonl -o answers.jsonl --max-usd 5",
        "runner run rows.jsonl -m claude-haiku-5-5 -o answers.jsonl",
    ),
)
@click.argument("job_file", metavar="JOB.yaml|ROWS.jsonl")
@input_option
@output_option
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), help="How to send; only live for now.")
@click.option("-m", "--model", metavar="ID", help="The model, instead of the job's.")
@limit_option
@param_option
@pace_options
@base_url_option
@click.option("--beta", "betas", multiple=True, metavar="NAME", help="Send this anthropic-beta too; may be repeated.")
@click.option(
    "--api-version", type=click.Choice(API_VERSIONS), envvar="RUNNER_API_VERSION", help="Instead of the job's."
)
@click.option("--key", metavar="TEXT", help="Same key, same run; a new key is a new run.")
@click.option("--new", is_flag=True, help="Start afresh, though the same was asked before.")
@click.option("--on-bad-row", type=click.Choice([choice.value for choice in OnBadRow]), help="Stop at them, or skip.")
@click.option("--any-model", is_flag=True, help="Take a model id that this runner does not know.")
@simulate_option
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@json_option
@progress_option
def run(
    context: Context,
    job_file: str,
    input_path: str | None,
    output_path: str | None,
    mode: str | None,
    model: str | None,
    limit: int | None,
    params: Mapping[str, str],
    betas: tuple[str, ...],
    api_version: str | None,
    key: str | None,
    new: bool,
    on_bad_row: str | None,
    any_model: bool,
    yes: bool,
) -> int:
    """Ask the model for every row of the input and write one line a row.

    The same command goes on with a run that was stopped or killed, and sends nothing when all is done.
    """
    del yes  # nothing is asked yet; scripts may say so already
    if key is not None and new:
        raise UsageInvalid("--key and --new contradict each other.", hints=("a new key is a new run by itself",))
    overrides = {
        "input.path": input_path,
        "output.path": output_path,
        "mode": mode,
        "model": model,
        "api_version": api_version,
        "input.limit": limit,
        "input.on_bad_row": on_bad_row,
    }
    job = job_of(job_file, params, overrides)
    job = settled(job, context.settings, simulated=context.simulate, betas=betas)
    prices = shipped_prices()
    check_mode(job)
    check_model(job, prices, any_model=any_model)
    check_credential(job, context.settings)
    with ExitStack() as open_:
        job, source = open_.enter_context(opened_input(job, context.settings.home))
        store = open_.enter_context(context.store())
        launched = launch(job, Wish(key=key, new=new), source, store, context.clock)
        return _work(context, store, launched)


@command("resume", examples=("runner resume r_7f3k2m", "runner resume latest --max-usd 49 --concurrency 64"))
@click.argument("label", metavar="RUN")
@pace_options
@output_option
@json_option
@progress_option
def resume(context: Context, label: str, output_path: str | None) -> int:
    """Go on with a run that paused or was killed. What is answered is not asked again."""
    with _found(context, label, output_path) as (store, found, job):
        if found.state in FINISHED_RUN:
            say(f"run {found.label} is {found.state}: nothing is left to send.")
        with ExitStack() as open_:
            return _work(context, store, relaunch(found, job, store, open_))


@command("retry", examples=("runner retry latest", "runner retry r_7f3k2m --max-usd 60"))
@click.argument("label", metavar="RUN")
@pace_options
@output_option
@json_option
@progress_option
def retry(context: Context, label: str, output_path: str | None) -> int:
    """Ask the rows of a finished run again that did not succeed. What succeeded stays as it is."""
    with _found(context, label, output_path) as (store, found, job):
        if found.state not in FINISHED_RUN:
            raise UsageInvalid(
                f"run {found.label} is {found.state}; a retry is for runs that have ended.",
                name="run-state",
                hints=(f"runner resume {found.label}",),
            )
        with ExitStack() as open_:
            return _work(context, store, relaunch(found, job, store, open_), retry=True)


@contextmanager
def _found(context: Context, label: str, output_path: str | None) -> Iterator[tuple[Store, Run, Job]]:
    """The run, its store, and its job with what the command line changes."""
    with context.found_run(label) as (store, found):
        job = settled(found.job, context.settings, simulated=found.job.simulated)
        if output_path is not None:
            job = replace(job, output=OutputSpec(path=absolute_output(output_path)))
        check_credential(job, context.settings)
        yield store, found, job


def _work(context: Context, store: Store, launched: Launch, *, retry: bool = False) -> int:
    """Send what is left of the run, show how it goes, and say how it ended."""
    prices = shipped_prices()
    found = launched.run
    if context.json:
        print_event("launch", run=found.label, job=found.job.name, simulated=found.job.simulated)
    if launched.finished and not retry:
        end = RunEnd(run=found, tally=store.tally(found.id), pause=None)
        return conclude(context, store, end, launched.job.output.path, elapsed_s=None)
    began_s = context.clock.monotonic()
    with _progress(context) as view:
        sending = Sending(
            settings=context.settings,
            store=store,
            prices=prices,
            clock=context.clock,
            on_progress=view,
            retry=retry,
            keys=view.takes_keys,
        )
        end = send(launched, sending)
    return conclude(context, store, end, launched.job.output.path, elapsed_s=context.clock.monotonic() - began_s)


@contextmanager
def _progress(context: Context) -> Iterator[ProgressView]:
    view = progress_view(
        "none" if context.quiet else context.progress, context.stderr_console(), keys=keys_can_be_read()
    )
    view.start()
    try:
        yield view
    finally:
        view.stop()
