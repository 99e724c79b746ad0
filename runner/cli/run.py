"""`run`, `resume`, `retry`: the commands that send."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import click
from msgspec import Struct, field
from msgspec.structs import replace

from runner.cli.command import command
from runner.cli.confirm import Agreement
from runner.cli.context import Context
from runner.cli.cut_off import say_cut_off, with_room
from runner.cli.headers import header_warnings, parsed_headers
from runner.cli.job_sample import job_warnings
from runner.cli.launch import (
    Wish,
    check_model,
    check_output,
    launch,
    opened_input,
    refuse_later_blocks,
    relaunch,
    settled,
)
from runner.cli.messages import say, warning
from runner.cli.named_job import NamedJob, names_a_job
from runner.cli.options import (
    json_option,
    output_option,
    pace_options,
    progress_option,
    set_option,
    simulate_option,
)
from runner.cli.outcome import print_event
from runner.cli.sending import check_credential
from runner.cli.working import detached, found, work
from runner.domain.deadline import check_deadline
from runner.domain.job import API_VERSIONS, Job, Mode, Variant
from runner.domain.states import FINISHED_RUN
from runner.errors import NothingToDo, UsageInvalid

_SENT = {Mode.LIVE: "live", Mode.BATCH: "in batches"}


def _finish_by(_context: click.Context, _parameter: click.Parameter, told: str | None) -> str | None:
    if told is not None:
        try:
            check_deadline(told)
        except ValueError as problem:
            raise click.BadParameter(f"{told!r} {problem}") from None
    return told


detach_option = click.option(
    "--detach", is_flag=True, help="Stage the input and leave the work to the fleet's workers."
)


@command(
    "run",
    examples=(
        "runner run job.yaml --simulate",
        "runner run job.yaml -i tickets.jsonl -o answers.jsonl --max-usd 5",
        "runner run rows.jsonl -m claude-haiku-5-5 -o answers.jsonl",
        "runner run job.yaml --mode batch --submit-only",
    ),
)
@names_a_job()
@output_option
@click.option(
    "--finish-by",
    metavar="TEXT",
    callback=_finish_by,
    help="In auto mode: when to be done, as 6h, 08:00 or 2026-11-22T08:00.",
)
@click.option(
    "--api-version", type=click.Choice(API_VERSIONS), envvar="RUNNER_API_VERSION", help="Instead of the job's."
)
@click.option("--key", metavar="TEXT", help="Same key, same run; a new key is a new run.")
@click.option("--new", is_flag=True, help="Start afresh, though the same was asked before.")
@click.option("--submit-only", is_flag=True, help="In batch mode: send all, wait for nothing; collect fetches it.")
@detach_option
@click.option(
    "--priority", type=click.IntRange(-100, 100), default=0, metavar="N", help="With --detach: higher goes first."
)
@simulate_option
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, whatever it costs.")
@json_option
@progress_option
def run(
    context: Context,
    named: NamedJob,
    output_path: str | None,
    finish_by: str | None,
    api_version: str | None,
    key: str | None,
    new: bool,
    submit_only: bool,
    detach: bool,
    priority: int,
    yes: bool,
) -> int:
    """Ask the model for every row of the input and write one line a row.

    The same command goes on with a run that was stopped or killed, and sends nothing when all is done.

    With --submit-only: exit 0 when every row is with the API or has ended, 75 when some could not be sent yet, 10
    when nobody knows whether they were. The same command, or `runner collect`, goes on.
    """
    if key is not None and new:
        raise UsageInvalid("--key and --new contradict each other.", hints=("a new key is a new run by itself",))
    job = named.job(output__path=output_path, auto__finish_by=finish_by, api_version=api_version)
    if finish_by is not None and job.mode is not Mode.AUTO:
        hints = ("--mode auto chooses by the time that is left",)
        raise UsageInvalid(f"--finish-by is for auto mode, and this job is sent {_SENT[job.mode]}.", hints=hints)
    if submit_only:
        _check_submit_only(job.mode, simulated=context.simulate)
    asked = Asked(
        key=key,
        new=new,
        any_model=named.any_model,
        betas=named.betas,
        headers=parsed_headers(named.headers),
        submit_only=submit_only,
        detach=detach,
        priority=priority,
        yes=yes,
    )
    return asked_for(context, job, asked)


class Asked(Struct, frozen=True, kw_only=True):
    """What a command line wishes beside the job."""

    key: str | None = None
    new: bool = False
    any_model: bool = False
    betas: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    submit_only: bool = False
    detach: bool = False
    priority: int = 0
    yes: bool = False


def asked_for(context: Context, job: Job, asked: Asked) -> int:
    """Begin the run of a job, or go on with it, to its end; the exit code."""
    refuse_later_blocks(job)
    job = settled(job, context.settings, simulated=context.simulate, betas=asked.betas)
    prices = context.prices
    told = job_warnings(job, prices, context.clock.now_us())
    for name, sentence in [*told, *header_warnings(job, context.settings, asked.headers)]:
        warning(name, sentence)
    check_model(job, prices, any_model=asked.any_model)
    check_output(job.output)
    check_credential(job, context.settings)
    with ExitStack() as open_:
        store = open_.enter_context(context.store())
        job, source = open_.enter_context(opened_input(job, context.settings.home, store))
        agreement = Agreement(context=context, store=store, prices=prices, yes=asked.yes)
        wish = Wish(key=asked.key, new=asked.new, agree=agreement)
        try:
            launched = launch(job, wish, source, store, context.clock)
        except NothingToDo:
            if context.json:
                print_event("done", run=None, state=NothingToDo.name, done=0, failed=0, exit=NothingToDo.exit_code)
            raise
        if agreement.forecast is not None and launched.run.forecast is None:
            store.note_forecast(launched.run.id, agreement.forecast)
        if asked.detach:
            return detached(context, store, launched, asked.priority)
        return work(context, store, launched, waits=not asked.submit_only, submit_only=asked.submit_only)


def _check_submit_only(mode: Mode, *, simulated: bool) -> None:
    """Only batches go on when nobody waits for them, and only with a service that outlives this command."""
    if simulated:
        raise UsageInvalid(
            "--submit-only and --simulate contradict each other: the built-in simulator ends with the command.",
            hints=("runner simulator   serves it on a port, for as long as you like",),
        )
    if mode is not Mode.BATCH:
        how = "may be sent live" if mode is Mode.AUTO else "is sent live"
        raise UsageInvalid(f"--submit-only is for batches, and this job {how}.", hints=("--mode batch",))


@command("resume", examples=("runner resume r_7f3k2m", "runner resume latest --max-usd 49 --concurrency 64"))
@click.argument("label", metavar="RUN")
@pace_options
@output_option
@detach_option
@json_option
@progress_option
def resume(context: Context, label: str, output_path: str | None, detach: bool) -> int:
    """Go on with a run that paused or was killed. What is answered is not asked again."""
    with found(context, label, output_path) as (store, was, job):
        if was.state in FINISHED_RUN:
            say(f"run {was.label} is {was.state}: nothing is left to send.")
        with ExitStack() as open_:
            launched = relaunch(was, job, store, open_, context.settings.home)
            return detached(context, store, launched) if detach else work(context, store, launched)


@command(
    "retry",
    examples=(
        "runner retry latest",
        "runner retry r_7f3k2m --max-usd 60 --max-tokens 4000",
        "runner retry latest -m claude-sonnet-5-5 --set request.thinking.type=adaptive",
    ),
)
@click.argument("label", metavar="RUN")
@click.option("-m", "--model", metavar="ID", help="Ask these rows of another model.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Ask answers that were cut off again too, with this many tokens.",
)
@set_option
@click.option("--any-model", is_flag=True, help="Take a model id that this runner does not know.")
@pace_options
@output_option
@detach_option
@json_option
@progress_option
def retry(
    context: Context,
    label: str,
    output_path: str | None,
    model: str | None,
    max_tokens: int | None,
    set_values: Mapping[str, Any],
    any_model: bool,
    detach: bool,
) -> int:
    """Ask the rows of a finished run again that did not succeed. What succeeded stays as it is.

    They are asked as before, or otherwise with -m and --set, which takes prompt, system and request.*: the run, its
    results and its costs stay one.

    Answers that were cut off would be cut off again: they are asked only with more room (--max-tokens, or
    limits.truncated_max_tokens of the job), and what that may cost is said first.
    """
    with found(context, label, output_path) as (store, was, job):
        if was.state not in FINISHED_RUN:
            raise UsageInvalid(
                f"run {was.label} is {was.state}; a retry is for runs that have ended.",
                name="run-state",
                hints=(f"runner resume {was.label}",),
            )
        instead = _asked_otherwise(model, set_values)
        asked = with_room(replace(job, instead=instead), max_tokens or _room_in(instead))
        check_model(asked, context.prices, any_model=any_model)
        say_cut_off(context, store, was, asked)
        with ExitStack() as open_:
            launched = relaunch(was, asked, store, open_, context.settings.home)
            if detach:
                return detached(context, store, launched, retry=True)
            return work(context, store, launched, retry=True)


def _room_in(instead: Variant | None) -> int | None:
    """How long answers may be that are asked for otherwise, where that is said."""
    told = instead.request.get("max_tokens") if instead is not None else None
    return told if isinstance(told, int) else None


def _asked_otherwise(model: str | None, set_values: Mapping[str, Any]) -> Variant | None:
    """What a retry asks otherwise than the run did; None where that is nothing."""
    texts: dict[str, str] = {}
    request: dict[str, Any] = {}
    for path, value in set_values.items():
        section, *keys = path.split(".")
        if section in ("prompt", "system") and not keys and isinstance(value, str):
            texts[section] = value
        elif section == "request" and keys:
            here = request
            for key in keys[:-1]:
                here = here.setdefault(key, {})
            here[keys[-1]] = value
        else:
            raise UsageInvalid(
                f"--set {path}: a retry may ask otherwise by prompt, system and request.*.",
                hints=("everything else of the run stays as it was",),
            )
    if model is None and not set_values:
        return None
    return Variant(name="retry", model=model, request=request, **texts)
