"""The job that a command line names: a job file, or a file of rows that bring their own requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.domain.job import CURRENT_API_VERSION, AutoSpec, InputSpec, Job, Mode, OnBadRow, OutputSpec
from runner.errors import MissingColumn, UsageInvalid
from runner.files.sink import STDOUT
from runner.files.source import STDIN

JOB_FILES = frozenset({".yaml", ".yml"})


def job_of(
    job_file: str,
    params: Mapping[str, str],
    overrides: Mapping[str, Any],
    set_values: Mapping[str, Any] | None = None,
) -> Job:
    """`overrides` are values by the dotted keys of a job file; those that are None were not given.

    `set_values` go before them; there None takes a value away.
    """
    given = {name: value for name, value in overrides.items() if value is not None} | dict(set_values or {})
    if Path(job_file).suffix in JOB_FILES:
        from runner.files.job_file import load_job  # what reads a job file is an eighth of a start

        return load_job(job_file, params, given)
    if "input.path" in given:
        hints = ("a job file ends in .yaml",)
        raise UsageInvalid(f"{job_file} is read as rows, and -i names another input.", hints=hints)
    if set_values:
        raise UsageInvalid("--set needs a job file.")
    if params:
        raise UsageInvalid("-p needs a job file: there is no template to give parameters to.")
    return Job(
        name="rows" if job_file == STDIN else Path(job_file).name.split(".")[0],
        model=given.get("model"),
        mode=Mode(given.get("mode", Mode.LIVE)),
        input=InputSpec(
            path=job_file,
            limit=given.get("input.limit"),
            on_bad_row=OnBadRow(given.get("input.on_bad_row", OnBadRow.FAIL)),
        ),
        api_version=given.get("api_version", CURRENT_API_VERSION),
        auto=AutoSpec(finish_by=given.get("auto.finish_by")),
        output=OutputSpec(path=absolute_output(given.get("output.path"))),
        allow=tuple(given.get("allow", ())),
    )


def placed(error: MissingColumn, job_file: object) -> MissingColumn:
    """With the place where the job file names the column."""
    if not isinstance(job_file, str) or Path(job_file).suffix not in JOB_FILES:
        return error
    from runner.files.job_file import place_of_column

    place = place_of_column(job_file, error.column)
    sentence = error.message if place is None else f"{place}: {error.message}"
    return MissingColumn(sentence, column=error.column, hints=error.hints)


def absolute_output(path: str | None) -> str | None:
    """A run may be resumed from another folder; its output stays where it was asked for."""
    return path if path is None or path == STDOUT or "://" in path else str(Path(path).absolute())
