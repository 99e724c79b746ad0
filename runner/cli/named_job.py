"""The job that a command line names, and the flags that change it: the same for every command that takes a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click
from msgspec import Struct, field

from runner.cli.options import (
    allow_option,
    base_url_option,
    header_options,
    input_option,
    limit_option,
    mode_option,
    pace_options,
    param_option,
    set_option,
)
from runner.domain.job import Job, OnBadRow

# Flags by the values of a job that they go before.
_OVERRIDES = {
    "input_path": "input.path",
    "mode": "mode",
    "model": "model",
    "limit": "input.limit",
    "on_bad_row": "input.on_bad_row",
    "allow": "allow",
}
_argument = click.argument("job_file", metavar="JOB.yaml|ROWS.jsonl")
_model_option = click.option("-m", "--model", metavar="ID", help="The model, instead of the job's.")
_bad_row_option = click.option(
    "--on-bad-row", type=click.Choice([choice.value for choice in OnBadRow]), help="Stop at them, or skip."
)
_any_model_option = click.option(
    "--any-model", is_flag=True, help="Take a model id that this runner does not know, or that has retired."
)


class NamedJob(Struct, frozen=True, kw_only=True):
    """What was typed. `overrides` are values by the dotted keys of a job file, None where a flag was not given."""

    job_file: str
    overrides: Mapping[str, Any]
    params: Mapping[str, str] = field(default_factory=dict)
    set_values: Mapping[str, Any] = field(default_factory=dict)
    betas: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    any_model: bool = False

    def job(self, **more: Any) -> Job:
        """The job with all of it but the betas, which are joined with those of the settings. `more` are overrides of
        the command's own, with `__` for the dots. Raises JobInvalid, UsageInvalid."""
        from runner.cli.headers import parsed_headers, with_headers
        from runner.cli.job_argument import job_of

        own = {name.replace("__", "."): value for name, value in more.items()}
        job = job_of(self.job_file, self.params, {**self.overrides, **own}, self.set_values)
        return with_headers(job, parsed_headers(self.headers))


def names_a_job(*, limit: bool = True, runs: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command its job as a NamedJob, behind the Context. With `limit` it takes `-n`; with `runs` the flags of
    commands that ask, or say what asking would be."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def with_job(context: Any, **told: Any) -> Any:
            overrides = {key: told.pop(flag, None) for flag, key in _OVERRIDES.items() if limit or flag != "limit"}
            named = {name: told.pop(name) for name in _FIELDS if name in told}
            return function(context, NamedJob(overrides=overrides, **named), **told)

        decorated: Callable[..., Any] = with_job
        for option in reversed(_options(limit=limit, runs=runs)):
            decorated = option(decorated)
        return decorated

    return decorate


_FIELDS = ("job_file", "params", "set_values", "betas", "headers", "any_model")


def _options(*, limit: bool, runs: bool) -> list[Callable[[Any], Any]]:
    return [
        _argument,
        input_option,
        mode_option,
        _model_option,
        *([limit_option] if limit else []),
        param_option,
        set_option,
        allow_option,
        *([pace_options, _bad_row_option, _any_model_option] if runs else []),
        header_options,
        base_url_option,
    ]
