"""`status`: recent runs."""

from __future__ import annotations

import click

from runner.cli.batch_news import warn_of_results
from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.holders import seen_holder
from runner.cli.options import json_option, limited_to, of_simulated_option, plain_option
from runner.domain.budget import Level
from runner.domain.run import Run
from runner.domain.states import RunState
from runner.store.store import Store
from runner.views.budget_words import standing_json, standing_words
from runner.views.numbers import byte_size
from runner.views.run_tables import StatusRow, status_table

SHOWN_RUNS = 20


@command("status", examples=("runner status", "runner status -n 100 --json"))
@limited_to("How many runs.", default=SHOWN_RUNS, show_default=True)
@of_simulated_option
@json_option
@plain_option
def status(context: Context, limit: int) -> None:
    """Recent runs, newest first: how far they are, what they cost, and whether somebody has to do something.

    With --simulate only simulated runs.
    """
    rows = _newest(context, limit)
    if context.json:
        caps = [standing_json(cap) for cap in _caps(context)]
        size = _size_bytes(context)
        context.print_json({"runs": [row.as_json() for row in rows], "caps": caps, "database_bytes": size})
        return
    if not rows:
        context.note("there are no runs yet.   runner init   writes a first job")
        return
    console = context.stdout_console()
    width = console.width if console.is_terminal else None
    for line in status_table(rows, width, plain=context.plain):
        click.echo(line)
    for cap in _caps(context):
        context.note(f"budget    {standing_words(cap)}")
    context.note(f"database  {byte_size(_size_bytes(context))}")
    for row in rows:
        warn_of_results(row.submissions, row.run, context.clock.now_us())


def _caps(context: Context) -> list[Level]:
    """The standing budgets, of days and months, of what is really paid; with --simulate of what is not."""
    if context.simulate not in context.existing_stores():
        return []
    with context.store() as store:
        return store.standing_budgets(context.clock.now_us())


def _size_bytes(context: Context) -> int:
    """Of all stores that were looked at."""
    total = 0
    for simulated in context.existing_stores():
        with context.store(simulated=simulated) as store:
            total += store.purge.size_bytes()
    return total


def _newest(context: Context, limit: int) -> list[StatusRow]:
    rows: list[StatusRow] = []
    for simulated in context.existing_stores():
        with context.store(simulated=simulated) as store:
            rows += [_row(context, store, run) for run in store.recent_runs(limit)]
    return sorted(rows, key=lambda row: -row.run.created_us)[:limit]


def _row(context: Context, store: Store, run: Run) -> StatusRow:
    left_alone = run.state in (RunState.RUNNING, RunState.CANCELING) and (
        seen_holder(store, run, context.clock.now_us()) is None
    )
    riding = store.submissions_of(run.id) if store.has_riding(run.id) else []
    return StatusRow(
        run=run, tally=store.tally(run.id), money=store.money(run.id), left_alone=left_alone, submissions=riding
    )
