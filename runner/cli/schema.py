"""`schema`: the JSON Schema of a job file, for editors."""

from __future__ import annotations

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.files.job_json_schema import job_json_schema_text


@command("schema", examples=("runner schema job > .runner/job.schema.json",))
@click.argument("what", type=click.Choice(["job"]), default="job")
def schema(context: Context, what: str) -> None:
    """Print the JSON Schema (draft-07) of a job file.

    An editor with a YAML language server completes and checks job files that begin with
    `# yaml-language-server: $schema=.runner/job.schema.json`; `runner init` writes both.
    """
    del context, what
    click.echo(job_json_schema_text(), nl=False)
