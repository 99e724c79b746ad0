"""`purge`: the contents of old runs taken out of the database."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import say
from runner.cli.options import duration, json_option, of_simulated_option
from runner.domain.run import Run
from runner.engine.export import export
from runner.errors import UsageInvalid
from runner.store.store import Store
from runner.views.durations import moment
from runner.views.numbers import byte_size


@command(
    "purge",
    examples=(
        "runner purge --older-than 90d --dry-run",
        "runner purge --older-than 90d --export archive/ -y",
        "runner purge --older-than 30d --job nightly -y",
    ),
)
@click.option(
    "--older-than", "age_s", required=True, metavar="TIME", callback=duration, help="Ended so long ago, as 90d."
)
@click.option("--job", metavar="NAME", help="Only runs of this job.")
@click.option("--export", "folder", metavar="FOLDER", help="Write each run's rows there first.")
@click.option("--no-vacuum", is_flag=True, help="Leave the room that becomes free in the file.")
@click.option("--dry-run", is_flag=True, help="Only say which runs these are.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@of_simulated_option
@json_option
def purge(
    context: Context,
    age_s: int,
    job: str | None,
    folder: str | None,
    no_vacuum: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Take the prompts, answers and results of old runs out of the database.

    Runs that have not ended, or have batches with the service, are left alone. What a run cost stays in the books.
    The same question asked again is a new run.
    """
    with context.store() as store:
        now_us = context.clock.now_us()
        found = store.purge.candidates(now_us - age_s * 1_000_000, job)
        before = store.purge.size_bytes()
        if dry_run or not found:
            _tell(context, found, before, before, done=False)
            return
        if not yes and not _confirmed(context, found):
            raise UsageInvalid("nothing was taken out.", name="not-confirmed", hints=("-y   asks nothing",))
        for run in found:
            if folder is not None:
                _export(store, run, Path(folder))
            store.purge.take_out(run.id, now_us)
        for begun in store.purge.unfinished():
            store.purge.take_out(begun, now_us)
        if not no_vacuum:
            store.purge.vacuum()
        _tell(context, found, before, store.purge.size_bytes(), done=True)


def _confirmed(context: Context, found: list[Run]) -> bool:
    if context.settings.no_input or not sys.stdin.isatty():
        return False
    return click.confirm(f"take the contents of {len(found):,} runs out for good?", default=False, err=True)


def _export(store: Store, run: Run, folder: Path) -> None:
    """Whole and on the disk before anything is taken out."""
    folder.mkdir(parents=True, exist_ok=True)
    export(store, run, str(folder / f"{run.job.name}-{run.label}.jsonl"))


def _tell(context: Context, found: list[Run], before: int, after: int, *, done: bool) -> None:
    if context.json:
        context.print_json(
            {"runs": [run.label for run in found], "purged": done, "bytes_before": before, "bytes_after": after}
        )
        return
    for run in found:
        click.echo(f"{run.label}  {run.job.name}  ended {moment(run.ended_us or run.created_us)}")
    if not done:
        words = "would be taken out" if found else "nothing is that old"
        say(f"{len(found):,} runs {words}; the database has {byte_size(before)}.")
        return
    say(f"{len(found):,} runs were taken out: {byte_size(before)} before, {byte_size(after)} now.")
