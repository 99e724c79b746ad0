"""`failures`: what failed, by reason; one row in full."""

from __future__ import annotations

import json
from typing import Any

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.options import json_option, plain_option
from runner.domain.explanations import code_in, explained
from runner.domain.result import ExportedRow
from runner.domain.run import Run
from runner.errors import UsageInvalid
from runner.files.message_parts import message_parts, raw_text
from runner.store.reports import FailureGroup
from runner.store.store import Store
from runner.views.failure_advice import advice
from runner.views.row_page import row_json, row_lines
from runner.views.run_tables import failure_json, failure_table
from runner.views.safe_text import safe_line, safe_text

MESSAGE_LENGTH = 300


@command("failures", examples=("runner failures latest", "runner failures r_7f3k2m --row invoice-0017"))
@click.argument("label", metavar="RUN")
@click.option("--row", "row", metavar="KEY|INDEX", help="One row in full: what was asked, what came back, each try.")
@json_option
@plain_option
def failures(context: Context, label: str, row: str | None) -> None:
    """Rows that did not succeed, grouped by reason, each with an example and what to do about it."""
    with context.found_run(label) as (store, run):
        if row is not None:
            _show_row(context, store, run, row)
            return
        groups = store.failures(run.id)
        if context.json:
            context.print_json({"run": run.label, "failures": [failure_json(group, run.label) for group in groups]})
        elif not groups:
            context.note(f"no row of run {run.label} has failed.")
        else:
            _print_groups(context, run, groups)


def _print_groups(context: Context, run: Run, groups: list[FailureGroup]) -> None:
    console = context.stdout_console()
    for line in failure_table(groups, console.width if console.is_terminal else None, plain=context.plain):
        click.echo(line)
    if context.plain:
        return
    for group in groups:
        click.echo(f"\n{safe_line(group.error_type or group.status)}")
        if group.example.error_message:
            click.echo(f"  said: {safe_line(group.example.error_message, MESSAGE_LENGTH)}")
            if group.example.request_id:
                click.echo(f"        request id {safe_line(group.example.request_id)}")
        found = code_in(group.example.error_message) or explained(group.error_type or "")
        if found is not None:
            click.echo(f"  rows: {found.rows.replace('RUN', run.label)}")
        fix = advice(group.status, group.error_type, run.label, group.example.error_message)
        click.echo(f"  fix:  {fix}")
        click.echo(f"  one:  runner failures {run.label} --row {group.example.idx}")


def _show_row(context: Context, store: Store, run: Run, told: str) -> None:
    idx = _index(store, run, told)
    ended = store.exported_row(run, idx)
    line = ended.row if ended else store.record_line(run, idx)
    if line is None:
        raise no_such_row(run, told)
    attempts = store.attempts(run.id, idx)
    text = _answer_text(ended)
    if context.json:
        context.print_json({"run": run.label, **row_json(idx, line, ended, text, attempts)})
        return
    for shown in row_lines(run.label, idx, line, ended, text, attempts):
        click.echo(safe_text(shown))


def _index(store: Store, run: Run, told: str) -> int:
    """A key goes first: keys may be numbers too."""
    idx = store.row_of_key(run.id, told)
    if idx is not None:
        return idx
    if not (told.isascii() and told.isdigit()):
        raise no_such_row(run, told)
    return int(told)


def no_such_row(run: Run, told: str) -> UsageInvalid:
    total = run.total_rows
    known = "" if total is None else f"; they are numbered 0 to {total - 1}"
    return UsageInvalid(
        f"run {run.label} has no row {told!r}{known}.",
        name="no-row",
        hints=("rows that have not ended are found by their number only",),
    )


def _answer_text(ended: ExportedRow | None) -> str | None:
    if ended is None or ended.message is None:
        return None
    text: Any = json.loads(raw_text(message_parts(ended.message)))
    return str(text)
