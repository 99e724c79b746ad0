"""`init`: a first job to start from. What is there already stays as it is."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.messages import say
from runner.cli.options import json_option
from runner.errors import UsageInvalid
from runner.files.job_json_schema import job_json_schema_text
from runner.views.safe_text import safe_line

SETTINGS = """\
# Settings of this folder: where, how fast. What to ask stands in job files. Keys do not belong here:
#   export ANTHROPIC_API_KEY=...
# State is kept in .runner/ beside this file; leave that out of version control.

# concurrency = 32        # requests at once
# tier = "start"          # the organisation's limits, until the first reply says them
# rpm = 1000              # requests a minute of one run
# max_usd = 5             # no run spends more, unless --max-usd says so
"""

JOB = """\
# yaml-language-server: $schema=.runner/job.schema.json
# What to ask, of which model, within which limits. Try it without key and cost:
#   runner run job.yaml --simulate
version: 1
name: first-job

# One JSON object a line. `id` names the field by which a row is known in the results.
input: { path: rows.jsonl, id: id }

model: claude-haiku-5-5

# {{ ... }} is filled from the row's fields.
prompt: |
  Is this message about billing, a bug or something else? Answer in one word.
  <message>{{ message }}</message>

# Everything the Messages API takes may stand here, under its own name.
request:
  max_tokens: 2000        # thinking counts against it

limits: { concurrency: 8 }
budget: { usd: 1 }        # the run pauses before it would spend more
output: { path: answers.jsonl }
"""

ROWS = """\
{"id": "m1", "message": "I was charged twice in March."}
{"id": "m2", "message": "The export button does nothing since yesterday."}
{"id": "m3", "message": "Do you have an office in Lisbon?"}
"""

FILES = {"runner.toml": SETTINGS, "job.yaml": JOB, "rows.jsonl": ROWS}


@command("init", examples=("runner init", "runner init invoices && cd invoices && runner run job.yaml --simulate"))
@click.argument("folder", metavar="[DIR]", default=".")
@json_option
def init(context: Context, folder: str) -> None:
    """Write runner.toml, a job with comments, and three rows. Nothing is overwritten."""
    target = Path(folder)
    made: list[str] = []
    kept: list[str] = []
    for name, text in FILES.items():
        (made if _write_new(target / name, text) else kept).append(str(target / name))
    schema = target / ".runner" / "job.schema.json"
    if _is_old(schema):
        schema.unlink()
    if _write_new(schema, job_json_schema_text()):
        made.append(str(schema))
    if context.json:
        context.print_json({"written": made, "kept": kept})
        return
    for path in made:
        say(f"wrote {safe_line(path)}")
    for path in kept:
        say(f"kept  {safe_line(path)}   it was there already")
    there = "" if folder == "." else f"cd {safe_line(folder)} && "
    context.note(f"next: {there}runner run job.yaml --simulate")


def _is_old(schema: Path) -> bool:
    """The schema is nobody's work: it follows the program."""
    return schema.is_file() and schema.read_text(encoding="utf-8") != job_json_schema_text()


def _write_new(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if not path.parent.is_dir():
            raise UsageInvalid(f"{path.parent} is not a folder.") from None
        return False
    except OSError as problem:
        raise UsageInvalid(f"{path} cannot be written: {problem.strerror}.") from None
    return True
