"""`show`: one run in full."""

from __future__ import annotations

import click

from runner.cli.batch_news import warn_of_results
from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.holders import seen_holder
from runner.cli.launch import timing_of
from runner.cli.options import json_option
from runner.domain.run import Run
from runner.store.store import Store
from runner.views.batch_page import run_batches_words
from runner.views.durations import ago
from runner.views.run_facts import run_facts
from runner.views.run_page import page_json, page_lines


@command("show", examples=("runner show latest", "runner show r_7f3k2m --json"))
@click.argument("label", metavar="RUN")
@json_option
def show(context: Context, label: str) -> None:
    """One run: its job, its rows by status and reason, tokens by kind, cost, who works on it, what to do next."""
    with context.found_run(label) as (store, run):
        facts = run_facts(store, run)
        holder = holder_words(context, store, run)
        if context.json:
            context.print_json(page_json(facts, worked_on_by=holder))
            return
        now_us = context.clock.now_us()
        batches = run_batches_words(facts.submissions, timing_of(context.settings), now_us)
        for line in page_lines(facts, worked_on_by=holder, batches=batches):
            click.echo(line)
        warn_of_results(facts.submissions, run, now_us)


def holder_words(context: Context, store: Store, run: Run) -> str | None:
    """`etl-3 (pid 4121), since 5m 02s ago`."""
    now_us = context.clock.now_us()
    seen = seen_holder(store, run, now_us)
    if seen is None:
        return None
    words = f"{seen.holder.host} (pid {seen.holder.pid}), begun {ago(seen.holder.since_us, now_us)}"
    return words if seen.beat_us is None else f"{words}, last heartbeat {ago(seen.beat_us, now_us)}"
