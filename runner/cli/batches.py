"""`batches`: what was sent in batches, and what a person may have to decide about it."""

from __future__ import annotations

import click

from runner.cli.batch_desk import (
    FoundBatch,
    adopted,
    all_rows,
    batch_row,
    found_batch,
    let_go,
    refuse_settled,
    sweep_runs,
)
from runner.cli.batch_news import warn_of_results
from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context
from runner.cli.launch import timing_of
from runner.cli.messages import say
from runner.cli.options import json_option, limited_to, of_simulated_option, plain_option
from runner.domain.quantity import of_rows
from runner.errors import DuplicateBatch, UsageInvalid
from runner.views.batch_page import batch_lines, batch_table, row_json
from runner.views.money import dollars
from runner.views.sweep_words import sweep_json, sweep_lines

SHOWN_BATCHES = 50


@click.group(
    "batches",
    cls=ExampleGroup,
    examples=("runner batches list", "runner batches show kq3xw7", "runner batches sweep"),
)
def batches() -> None:
    """Message Batches: what was sent, what became of it, and what nobody but you can decide.

    A batch is named by the runner's own id of the submission (ten letters, the beginning is enough) or by the
    service's (msgbatch_...).
    """


@command("list", examples=("runner batches list", "runner batches list r_9q2mxa --json"))
@click.argument("label", metavar="[RUN]", required=False)
@limited_to("How many batches.", default=SHOWN_BATCHES, show_default=True)
@of_simulated_option
@json_option
@plain_option
def list_(context: Context, label: str | None, limit: int) -> None:
    """Batches, newest first: of all runs, or of one."""
    rows = all_rows(context, label, limit)
    timing, now_us = timing_of(context.settings), context.clock.now_us()
    if context.json:
        context.print_json({"batches": [row_json(row, timing, now_us) for row in rows]})
        return
    if not rows:
        context.note("no batches were sent yet.   runner run JOB.yaml --mode batch   sends some")
        return
    console = context.stdout_console()
    width = console.width if console.is_terminal else None
    for line in batch_table(rows, timing, now_us, width, plain=context.plain):
        click.echo(line)
    for row in rows:
        warn_of_results([row.submission], row.run, now_us)


@command("show", examples=("runner batches show kq3xw7", "runner batches show msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d"))
@click.argument("name", metavar="ID")
@json_option
def show(context: Context, name: str) -> None:
    """One batch in full.

    Its state and times, what it cost, whose key and workspace, and until when its results are kept.
    """
    with found_batch(context, name) as found:
        row = batch_row(found.store, found.submission)
    timing, now_us = timing_of(context.settings), context.clock.now_us()
    if context.json:
        context.print_json(row_json(row, timing, now_us))
        return
    for line in batch_lines(row, timing, now_us):
        click.echo(line)


@command("adopt", examples=("runner batches adopt kq3xw7 msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d",))
@click.argument("name", metavar="ID")
@click.argument("provider_id", metavar="MSGBATCH")
@click.option("-y", "--yes", is_flag=True, help="Take my word for it where no results can be read any more.")
@json_option
def adopt(context: Context, name: str, provider_id: str, yes: bool) -> int:
    """Say which batch an unknown one is.

    The service is asked. A batch that has ended proves by its first result whose it is, and somebody else's is
    refused. One that is in progress is waited for and proves itself when it ends.
    """
    with found_batch(context, name) as found:
        refuse_settled(found, "adopt")
        told = adopted(context, found, provider_id, takes_word=yes)
    if context.json:
        context.print_json(
            {"id": found.submission.id, "batch": provider_id, "run": found.run.label, "adopted": told.word}
        )
        return 0
    say(f"{told.sentence}.")
    context.note(f"  runner collect {found.run.label}   {told.following}")
    return 0


@command(
    "abandon",
    examples=(
        "runner batches abandon kq3xw7",
        "runner batches abandon kq3xw7 --yes",
    ),
)
@click.argument("name", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do it.")
@json_option
def abandon(context: Context, name: str, yes: bool) -> int:
    """Send the rows of an unknown one again, or of one that the service no longer shows.

    A batch of them may exist all the same; without --yes this only says what it would cost. That amount stays
    reserved in the budget. If the batch turns up later, `runner batches sweep` and the end of the run find it, price
    it, and keep its results apart.
    """
    with found_batch(context, name) as found:
        refuse_settled(found, "abandon", also_asked=True)
        words = _worst(found)
        if not yes:
            raise UsageInvalid(
                f"nothing was changed: {words}.",
                name="not-confirmed",
                hints=(f"runner batches abandon {found.submission.id} --yes   does it",),
            )
        say(f"{words}.")
        let_go(context, found)
    if context.json:
        context.print_json(
            {"id": found.submission.id, "run": found.run.label, "abandoned": True, "rows": found.submission.n}
        )
        return 0
    say(f"submission {found.submission.id} is let go: {of_rows(found.submission.n)} wait to be sent again.")
    context.note(f"  runner resume {found.run.label}   sends them")
    return 0


def _worst(found: FoundBatch) -> str:
    """What letting go may cost."""
    one = found.submission
    price = "an amount that nothing bounds" if one.worst_pico is None else f"at most {dollars(one.worst_pico)}"
    return f"if a batch of submission {one.id} exists, its {of_rows(one.n)} are paid twice: {price}"


@command("sweep", examples=("runner batches sweep", "runner batches sweep r_9q2mxa --json"))
@click.argument("label", metavar="[RUN]", required=False)
@json_option
def sweep(context: Context, label: str | None) -> int:
    """Find batches that were made twice.

    Looks through the service's list for batches that no submission of ours owns; each that has ended is known by its
    first result. One that holds rows a second time is put in the books, its results are kept apart, and the exit code
    is 12. Without RUN: for every run that sent batches in the last 29 days.
    """
    told = sweep_runs(context, label)
    if context.json:
        context.print_json({"runs": [sweep_json(one.run.label, one.swept) for one in told]})
    elif not told:
        context.note("no batches were sent in the last 29 days: there is nothing to sweep.")
    else:
        for one in told:
            for line in sweep_lines(one.run.label, one.swept, one.known, one.collect):
                click.echo(line)
    return DuplicateBatch.exit_code if any(one.swept.duplicates for one in told) else 0


for one in (list_, show, adopt, abandon, sweep):
    batches.add_command(one)
