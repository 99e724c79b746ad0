"""`collect`: fetch what has ended, send what must go again, leave."""

from __future__ import annotations

from contextlib import ExitStack

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.launch import relaunch
from runner.cli.options import json_option, output_option, pace_options, progress_option
from runner.cli.working import found, work
from runner.domain.job import Mode
from runner.domain.run import Run
from runner.domain.states import FINISHED_RUN
from runner.errors import UsageInvalid
from runner.store.store import Store


@command(
    "collect",
    examples=(
        "runner collect latest",
        "runner collect r_9q2mxa -o answers.jsonl",
        "*/15 * * * *  cd /srv/reviews && runner collect latest -q",
    ),
)
@click.argument("label", metavar="RUN")
@pace_options
@output_option
@json_option
@progress_option
def collect(context: Context, label: str, output_path: str | None) -> int:
    """Fetch the results of all batches that have ended, send again what must go again, and leave.

    The last time, when nothing is out any more, it writes the output like `runner run`. It may be called as often as
    one likes, by hand or by cron: nothing is fetched or sent twice.

    Exit 0 when every row succeeded; 75 while batches are out: call it again later; 10 when only submissions of
    unknown end are left; 3 when the run has ended and rows failed; 7 while another process works on the run.
    """
    with found(context, label, output_path) as (store, run, job):
        _refuse(store, run)
        with ExitStack() as open_:
            return work(context, store, relaunch(run, job, store, open_, context.settings.home), waits=False)


def _refuse(store: Store, run: Run) -> None:
    """What has no batches, or none that could be waited for."""
    if run.state in FINISHED_RUN:
        return
    going_on = (f"runner resume {run.label}",)
    if run.job.simulated:
        raise UsageInvalid(
            f"run {run.label} is simulated: its batches ended with the command that sent them.",
            name="simulated-batches",
            hints=going_on,
        )
    if run.job.mode is Mode.LIVE and not store.has_riding(run.id):
        raise UsageInvalid(
            f"run {run.label} is sent live and has no batches to collect.", name="no-batches", hints=going_on
        )
