"""`export`: a run's results to a file, whole or not at all."""

from __future__ import annotations

import click
from msgspec.structs import replace

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import warning
from runner.cli.options import json_option
from runner.domain.quantity import of_rows
from runner.domain.run import Run, Tally
from runner.domain.states import RunState
from runner.engine.export import export as write_export
from runner.errors import RowsFailed, UsageInvalid
from runner.files.sink import STDOUT
from runner.views.safe_text import safe_line


def _columns(_context: click.Context, _parameter: click.Parameter, told: str | None) -> tuple[str, ...] | None:
    return None if told is None else tuple(name.strip() for name in told.split(",") if name.strip())


FORMS = ("runner", "anthropic", "openai")


@command(
    "export",
    examples=("runner export latest -o answers.jsonl", "runner export r_7f3k2m -o - --as anthropic | head -1"),
)
@click.argument("label", metavar="RUN")
@click.option("-o", "--output", "output_path", required=True, metavar="FILE", help="Where to; - is stdout.")
@click.option("--as", "form", type=click.Choice(FORMS), default=FORMS[0], show_default=True, help="The lines' shape.")
@click.option(
    "--columns", callback=_columns, metavar="A,B", help="These columns alone, such as id,label,_status,_cost_usd."
)
@click.option("--raw-csv", is_flag=True, help="Leave cells as they are that spreadsheets take for formulas.")
@json_option
def export(
    context: Context, label: str, output_path: str, form: str, columns: tuple[str, ...] | None, raw_csv: bool
) -> int:
    """Write every row that has ended, in input order. Exit 0 when all rows are in the file, 3 when some still wait.

    Rows that failed are in it too, with their status. The format is that of the name: .jsonl, .json, .csv, .tsv,
    .parquet, also with .gz or .zst; a name with {n} makes parts; s3:// and the like are written to.
    """
    if context.json and output_path == STDOUT:
        raise UsageInvalid("--json and -o - both want stdout.", hints=("name a file: -o FILE",))
    with context.found_run(label) as (store, run):
        spec = run.job.output if columns is None else replace(run.job.output, columns=columns)
        written = write_export(
            store, run, output_path, form=form, spec=replace(spec, raw_csv=raw_csv or spec.raw_csv)
        )
        rows = written.rows
        tally = store.tally(run.id)
    for note in written.notes:
        warning("output", f"{note}.")
    missing = _missing(run, tally, rows)
    if context.json:
        context.print_json(
            {"run": run.label, "output": output_path, "rows": rows, "failed": tally.failed, "missing": missing}
        )
    _tell(context, run, output_path, rows, missing)
    return 0 if missing == 0 else RowsFailed.exit_code


def _missing(run: Run, tally: Tally, rows: int) -> int | None:
    """Rows that have not ended; None when nobody knows yet how many there are."""
    total = run.total_rows
    return max(total - rows, 0) if total is not None else None if tally.staged == rows else tally.staged - rows


def _tell(context: Context, run: Run, output_path: str, rows: int, missing: int | None) -> None:
    place = "stdout" if output_path == STDOUT else safe_line(output_path)
    context.note(f"{of_rows(rows)} of run {run.label} written to {place}.")
    if missing != 0:
        following = "runner retry" if run.state is RunState.CANCELED else "runner resume"
        number = "more rows are" if missing is None else f"{of_rows(missing)} {'is' if missing == 1 else 'are'}"
        warning("incomplete", f"{number} not in it: they have not ended.", (f"{following} {run.label}",))
