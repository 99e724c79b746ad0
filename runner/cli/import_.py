"""`import`: rows and a job from another program's file, and what could not come along. Nothing is sent."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import say, warning
from runner.cli.options import delimiter_option, encoding_option, json_option
from runner.domain.importing import Imported
from runner.domain.job import InputSpec, Job
from runner.domain.model_rules import model_problem
from runner.domain.pricing import shipped_prices
from runner.domain.quantity import of_rows
from runner.errors import InputInvalid, UsageInvalid
from runner.files.importing import imported_rows
from runner.files.input_door import opened_door
from runner.files.job_text import SCHEMA_LINE, yaml_text
from runner.files.sink import AtomicFile
from runner.views.safe_text import safe_line

DEFAULT_MODEL = "claude-haiku-5-5"


@command(
    "import",
    examples=(
        "runner import openai-batch.jsonl",
        "runner import chats.parquet -o data/chats.jsonl --job chats.yaml",
        "runner import faq.csv --prompt question --id nr -m claude-sonnet-5-5",
    ),
)
@click.argument("input_path", metavar="FILE")
@click.option(
    "-o", "--output", "output_path", metavar="ROWS.jsonl", help="The rows. Without it: FILE's name + .rows.jsonl"
)
@click.option("--job", "job_path", metavar="JOB.yaml", help="The job. Without it: FILE's name + .yaml")
@click.option("--prompt", metavar="COLUMN", help="The column that holds the prompt.")
@click.option("--id", "id_column", metavar="COLUMN", help="The column with each row's own key.")
@delimiter_option
@encoding_option
@click.option(
    "-m",
    "--model",
    metavar="ID",
    help=f"The model of all rows. Without it: {DEFAULT_MODEL} where rows name none of ours.",
)
@json_option
def import_(
    context: Context,
    input_path: str,
    output_path: str | None,
    job_path: str | None,
    prompt: str | None,
    id_column: str | None,
    delimiter: str | None,
    encoding: str | None,
    model: str | None,
) -> int:
    """Turn a batch file of OpenAI or Anthropic, a chat set, or a table with a prompt column into rows and a job.

    What has no counterpart is dropped and listed. Nothing is overwritten and nothing is sent.
    """
    stem = Path(input_path).name.split(".")[0] if input_path != "-" else "rows"
    rows_path = Path(output_path or f"{stem}.rows.jsonl")
    target = Path(job_path or f"{stem}.yaml")
    for path in (rows_path, target):
        if path.exists():
            raise UsageInvalid(f"{path} is there already.", hints=("fix: take it away, or name another",))
    found = Imported()
    job = Job(name=stem, input=InputSpec(path=input_path, delimiter=delimiter, encoding=encoding))
    with opened_door(job, context.settings.home / "spool") as source, AtomicFile(str(rows_path)) as file:
        keeps = _keeps_model if model is None else (lambda _name: False)
        for line in imported_rows(source, found, prompt=prompt, id_column=id_column, keeps_model=keeps):
            file.write(line + b"\n")
        if not found.rows:
            raise _nothing(input_path, found)
    chosen = model or _our_model(found)
    target.write_text(_job_text(stem, rows_path, target, chosen), encoding="utf-8")
    if context.json:
        context.print_json(
            {
                "rows": found.rows,
                "rows_file": str(rows_path),
                "job_file": str(target),
                "model": chosen,
                "expected_answers": found.answers,
                "dropped": dict(found.dropped),
                "refused": [{"where": where, "reason": reason} for where, reason in found.refused],
                "refused_count": found.refused_count,
            }
        )
        return 0
    _tell(context, found, rows_path, target, chosen)
    return 0


def _our_model(found: Imported) -> str | None:
    """None where every row names a model that is known here."""
    return DEFAULT_MODEL if found.without_model else None


def _keeps_model(name: str) -> bool:
    return model_problem(name, shipped_prices()) is None


def _nothing(path: str, found: Imported) -> InputInvalid:
    reasons = tuple(f"{where} {reason}" for where, reason in found.refused[:5])
    return InputInvalid(f"{path} holds no row that could be imported.", hints=reasons)


def _job_text(name: str, rows: Path, target: Path, model: str | None) -> str:
    try:
        place = str(rows.absolute().relative_to(target.absolute().parent))
    except ValueError:
        place = str(rows.absolute())
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:64].lstrip("._-")
    told = {
        "version": 1,
        "name": plain or "rows",
        "input": {"path": place, "id": "custom_id"},
        **({} if model is None else {"model": model}),
        "limits": {"concurrency": 32},
        "output": {"path": f"{plain or 'rows'}.answers.jsonl"},
    }
    return SCHEMA_LINE + yaml_text(told)


def _tell(context: Context, found: Imported, rows: Path, target: Path, model: str | None) -> None:
    say(f"wrote {safe_line(str(rows))}   {of_rows(found.rows)}")
    say(f"wrote {safe_line(str(target))}   model {safe_line(model or 'named by each row')}")
    if found.answers:
        say(f"{of_rows(found.answers)} brought an expected answer: it is kept in `expected` and not sent.")
    for name, times in found.dropped.most_common():
        warning("dropped", f"{safe_line(name)} has no counterpart and was dropped from {of_rows(times)}.")
    if found.refused_count:
        shown = [f"{safe_line(where)} {safe_line(reason)}" for where, reason in found.refused]
        warning("left-out", f"{of_rows(found.refused_count)} could not be imported.", shown)
    context.note(f"next: runner check {safe_line(str(target))}")
