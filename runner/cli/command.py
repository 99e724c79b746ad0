"""The shape that all commands share: examples first in their help, a few common options, a Context first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from runner.cli.context import Context
from runner.cli.options import CommonOption, common_options
from runner.errors import MissingColumn


class ExampleCommand(click.Command):
    """A command whose help begins with what to type."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **told: Any) -> None:
        super().__init__(*args, **told)
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)


class ExampleGroup(click.Group):
    """A group of commands whose help begins with what to type."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **told: Any) -> None:
        super().__init__(*args, **told)
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """A command's own options, then those that every command has."""
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for parameter in command.get_params(ctx):
        shown = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if shown is not None:
            is_common = isinstance(parameter, CommonOption) or "--help" in parameter.opts
            (common if is_common else own).append(shown)
    for title, records in (("Options", own), ("Everywhere", common)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"  {example}\n")
        formatter.write_paragraph()


def command(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], ExampleCommand]:
    """Makes a command of a function. It gets a Context first; an int that it returns is the exit code."""

    def made(function: Callable[..., Any]) -> ExampleCommand:
        @wraps(function)
        def with_context(*args: Any, **told: Any) -> Any:
            context = click.get_current_context().ensure_object(Context)
            context.start_logging()
            try:
                return function(context, *args, **told)
            except MissingColumn as error:
                from runner.cli.job_argument import placed

                raise placed(error, told.get("job_file")) from None

        decorate = click.command(name, cls=ExampleCommand, examples=examples)
        return decorate(common_options(with_context))

    return made


def group(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], ExampleGroup]:
    """Makes a group of a function that is called when no subcommand is named, like a command's."""

    def made(function: Callable[..., Any]) -> ExampleGroup:
        @wraps(function)
        def unless_more_is_named(*args: Any, **told: Any) -> Any:
            click_context = click.get_current_context()
            if click_context.invoked_subcommand is not None:
                return None
            context = click_context.ensure_object(Context)
            context.start_logging()
            return function(context, *args, **told)

        decorate = click.group(name, cls=ExampleGroup, examples=examples, invoke_without_command=True)
        return decorate(common_options(unless_more_is_named))

    return made
