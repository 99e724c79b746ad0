"""`ask`: one question over a table, without a job file. A run like any other: gone on with and found again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from msgspec.structs import replace

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.job_argument import absolute_output
from runner.cli.messages import say
from runner.cli.options import (
    base_url_option,
    delimiter_option,
    encoding_option,
    json_option,
    limit_option,
    mode_option,
    output_option,
    pace_options,
    param_option,
    progress_option,
    simulate_option,
)
from runner.cli.run import Asked, asked_for
from runner.domain.job import InputSpec, Job, Mode, OutputSpec
from runner.domain.pricing import PICO_PER_USD
from runner.errors import UsageInvalid
from runner.files.job_text import job_text
from runner.files.render import Renderer
from runner.files.sources.remote import is_address
from runner.settings import FLAG, Settings
from runner.views.safe_text import safe_line

DEFAULT_MODEL = "claude-haiku-5-5"
PACE = ("concurrency", "rpm", "itpm", "otpm")


@command(
    "ask",
    examples=(
        'runner ask reviews.csv "Is this review positive? {{ text }}" -o answers.csv',
        'runner ask in.csv "Translate into French: {{ text }}" -o out.csv --save translate.yaml',
        'runner ask in.csv "{{ text }}" -n 5 --simulate',
    ),
)
@click.argument("input_path", metavar="INPUT")
@click.argument("prompt", metavar="PROMPT")
@output_option
@click.option("-m", "--model", metavar="ID", default=DEFAULT_MODEL, show_default=True, help="The model.")
@click.option("--system", metavar="TEXT", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="The longest that an answer may be.")
@delimiter_option
@encoding_option
@click.option("--id", "id_column", metavar="COLUMN", help="The column with each row's own key.")
@mode_option
@limit_option
@param_option
@pace_options
@base_url_option
@click.option("--save", "save_path", metavar="JOB.yaml", help="Write this question as a job file, and ask nothing.")
@click.option("--new", is_flag=True, help="Start afresh, though the same was asked before.")
@click.option("--any-model", is_flag=True, help="Take a model id that this runner does not know.")
@simulate_option
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, whatever it costs.")
@json_option
@progress_option
def ask(
    context: Context,
    input_path: str,
    prompt: str,
    output_path: str | None,
    model: str,
    system: str | None,
    max_tokens: int | None,
    delimiter: str | None,
    encoding: str | None,
    id_column: str | None,
    mode: str | None,
    limit: int | None,
    params: Mapping[str, str],
    save_path: str | None,
    new: bool,
    any_model: bool,
    yes: bool,
) -> int:
    """Ask PROMPT of every row of INPUT; {{ column }} in it is filled in from the row.

    INPUT is CSV, TSV, JSON, JSON lines or parquet, - for stdin, or an address. The answers go to -o FILE in the
    format of its name. --save makes a job file of it, to be kept, changed and reviewed.
    """
    job = Job(
        name=_name_of(save_path or input_path),
        model=model,
        prompt=prompt,
        system=system,
        request={} if max_tokens is None else {"max_tokens": max_tokens},
        params=dict(params),
        mode=Mode(mode or Mode.LIVE),
        input=InputSpec(path=input_path, delimiter=delimiter, encoding=encoding, id=id_column, limit=limit),
        output=OutputSpec(path=absolute_output(output_path)),
    )
    if save_path is not None:
        return _saved(_with_flags(job, context.settings), save_path, output_path)
    return asked_for(context, job, Asked(new=new, any_model=any_model, yes=yes))


def _with_flags(job: Job, settings: Settings) -> Job:
    """With the pace and the budget that were given as flags: who saves a question with a budget means to keep it."""
    told = {name: getattr(settings, name) for name, layer in settings.layer.items() if layer == FLAG}
    limits = {name: value for name, value in told.items() if name in PACE}
    budget = told.get("max_usd")
    return replace(
        job,
        limits=replace(job.limits, **limits),
        budget_pico=None if budget is None else int(budget * PICO_PER_USD),
    )


def _name_of(path: str) -> str:
    stem = Path(path).name.split(".")[0] if path != "-" else "rows"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)[:64].lstrip("._-")
    return plain or "rows"


def _saved(job: Job, path: str, output_path: str | None) -> int:
    """The question as a job file. What is there already stays as it is."""
    target = Path(path)
    if target.suffix not in (".yaml", ".yml"):
        raise UsageInvalid(f"{path}: a job file ends in .yaml.")
    Renderer(job)  # what could not be asked is not saved
    text = job_text(job, _from(target.parent, str(job.input.path)), output_path)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageInvalid(f"{path} is there already.", hints=("fix: take it away, or name another",)) from None
    except OSError as problem:
        raise UsageInvalid(f"{path} cannot be written: {problem.strerror}.") from None
    say(f"wrote {safe_line(path)}")
    say(f"next: runner check {safe_line(path)}   then: runner run {safe_line(path)}")
    return 0


def _from(folder: Path, path: str) -> str:
    """The input's place as the file in `folder` names it."""
    if path == "-" or is_address(path) or Path(path).is_absolute() or folder == Path():
        return path
    return str(Path(path).absolute())
