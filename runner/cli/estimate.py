"""`estimate`: what a job will cost and how long it will take, live, in batches and as auto would have it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import click

from runner.cli.command import command
from runner.cli.confirm import mode_of
from runner.cli.context import Context
from runner.cli.estimating import Desk, Estimated
from runner.cli.launch import (
    Wish,
    check_model,
    launch,
    looked_at_input,
    opened_input,
    refuse_later_blocks,
    settled,
)
from runner.cli.messages import warning
from runner.cli.named_job import NamedJob, names_a_job
from runner.cli.options import (
    json_option,
    simulate_option,
)
from runner.cli.row_sample import SAMPLE_ROWS, DrawnRow, spread
from runner.cli.sending import check_credential
from runner.cli.working import worked
from runner.domain.result import RowResult
from runner.domain.states import FINISHED_RUN, PauseReason
from runner.files.check import accepted_input
from runner.files.render import Renderer
from runner.files.source import Input
from runner.store.store import Store
from runner.views.estimate_page import estimate_json, estimate_lines

MOST_ANSWERS = 1_000


@command(
    "estimate",
    examples=(
        "runner estimate job.yaml",
        "runner estimate job.yaml -i tonight.jsonl --answer 50",
        "runner estimate job.yaml --simulate --json",
    ),
)
@names_a_job()
@click.option(
    "--answer",
    "answers",
    type=click.IntRange(1, MOST_ANSWERS),
    metavar="N",
    help="Have N drawn rows answered, for money; the run that follows keeps their answers.",
)
@click.option("--no-count", is_flag=True, help="Ask nobody: tokens are guessed from bytes.")
@click.option("--key", metavar="TEXT", help="The run's key, where it will have one.")
@simulate_option
@json_option
def estimate(context: Context, named: NamedJob, answers: int | None, no_count: bool, key: str | None) -> None:
    """What a job will cost, live, in batches and in auto mode: tokens by kind, dollars with a 90% interval and the
    worst case, batches, time.

    200 rows are drawn from the whole input and counted by the service, which is free. How long answers are only
    answers tell: those of earlier runs of the job, or of N drawn rows with --answer N. They are kept, and
    `runner run` does not ask these rows again.
    """
    job = settled(named.job(), context.settings, simulated=context.simulate, betas=named.betas)
    prices = context.prices
    check_model(job, prices, any_model=named.any_model)
    if answers is not None:
        refuse_later_blocks(job)
        check_credential(job, context.settings)
    with ExitStack() as open_:
        looked_at = answers is not None or context.simulate in context.existing_stores()
        store = open_.enter_context(context.store()) if looked_at else None
        job, source = open_.enter_context(
            looked_at_input(context, job) if store is None else opened_input(job, context.settings.home, store)
        )
        renderer = Renderer(job)
        size = max(SAMPLE_ROWS, answers or 0)
        report = accepted_input(source, renderer, job.input, draw=size)
        desk = Desk(context=context, job=job, report=report, renderer=renderer, prices=prices, store=store)
        rows, why = desk.draw(size), "--no-count"
        if not no_count:
            rows, not_counted = desk.counted(rows)
        else:
            not_counted = why
        if answers is None or store is None:
            told, kept_in, spent = desk.estimated(rows, not_counted), None, None
        else:
            told, kept_in, spent = _answered(desk, source, store, rows, not_counted, answers, key)
        page = desk.page(told, sample_pico=spent, kept_in=kept_in)
    if context.json:
        context.print_json(estimate_json(page))
        return
    for line in estimate_lines(page):
        click.echo(line)
    if answers is None:
        context.note("nothing was sent." if not_counted else "nothing was sent but to be counted.")


def _answered(
    desk: Desk,
    source: Input,
    store: Store,
    rows: list[DrawnRow],
    not_counted: str | None,
    answers: int,
    key: str | None,
) -> tuple[Estimated, str, int]:
    """Have some of the drawn rows answered within the run that will go on; the estimate, the run, what it spent."""
    context = desk.context
    launched = launch(desk.job, Wish(key=key), source, store, context.clock)
    run = launched.run
    idxs = [row.row.idx for row in spread(rows, answers, desk.job.fan // desk.job.repeat)]
    if run.state not in FINISHED_RUN:
        end = worked(context, store, launched, only=frozenset(idxs))
        if end.pause is not None and end.pause.reason is not PauseReason.SAMPLED:
            warning(end.pause.reason, f"{end.pause.message}.")
    found = {idx: exported.result for idx in idxs if (exported := store.exported_row(run, idx)) is not None}
    told = desk.estimated(rows, not_counted, found)
    store.note_forecast(run.id, mode_of(desk.job, told).forecast)
    return told, run.label, _spent(found)


def _spent(found: Mapping[int, RowResult]) -> int:
    return sum(result.cost_pico or 0 for result in found.values())
