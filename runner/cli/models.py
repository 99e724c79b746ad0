"""`models`: what there is to ask, what it costs and how long it stays; and what the service says of it today."""

from __future__ import annotations

from datetime import UTC, date, datetime

import click

from runner.cli.command import command, group
from runner.cli.context import Context
from runner.cli.messages import warning
from runner.cli.options import json_option, plain_option
from runner.domain.lifecycle import lifecycle_warnings
from runner.domain.model_list import Difference, ListedModel, differences
from runner.domain.model_rules import model_problem
from runner.errors import UsageInvalid
from runner.views.models_page import book_json, difference_lines, each_model, model_json, model_lines, models_table

refresh_option = click.option(
    "--refresh", is_flag=True, help="Ask the service too (free, needs a key), and say what differs."
)


@group(
    "models",
    examples=("runner models", "runner models show claude-haiku-5-5", "runner models --refresh"),
)
@refresh_option
@json_option
@plain_option
def models(context: Context, refresh: bool) -> None:
    """Models: prices in dollars per million tokens, context, longest answer, retirement."""
    _list(context, refresh)


@command("ls", examples=("runner models ls", "runner models ls --refresh --json"))
@refresh_option
@json_option
@plain_option
def ls(context: Context, refresh: bool) -> None:
    """All models of the table of prices, newest first; what retires soon is said below."""
    _list(context, refresh)


@command("show", examples=("runner models show claude-haiku-5-5",))
@click.argument("name", metavar="MODEL")
@json_option
def show(context: Context, name: str) -> None:
    """One model in full: every price, limits, fast mode, caching, lifecycle."""
    facts = context.prices.find(name)
    if facts is None:
        problem = model_problem(name, context.prices)
        near = problem.nearest if problem else None
        sentence = problem.sentence if problem else f"there is no model {name!r}."
        raise UsageInvalid(sentence, name="no-model", hints=(f"did you mean {near} ?",) if near else ())
    if context.json:
        context.print_json({"prices": context.prices.version, **model_json(facts, _today(context))})
        return
    for line in model_lines(facts, context.prices, _today(context)):
        click.echo(line)


def _list(context: Context, refresh: bool) -> None:
    found = differences(context.prices, _listed(context)) if refresh else None
    known = each_model(context.prices)
    if context.json:
        told = book_json(context.prices, known, _today(context))
        if found is not None:
            told["differences"] = [{"model": one.model, "difference": one.sentence} for one in found]
        context.print_json(told)
        return
    console = context.stdout_console()
    width = console.width if console.is_terminal else None
    for line in models_table(known, width, plain=context.plain):
        click.echo(line)
    context.note(f"dollars per million tokens, prices of {context.prices.version}; half of them in a batch")
    for facts in known:
        for sentence in lifecycle_warnings(facts, _today(context)):
            warning("lifecycle", sentence)
    if found is not None:
        _tell_differences(context, found)


def _tell_differences(context: Context, found: list[Difference]) -> None:
    if not found:
        context.note("the service says the same of all of them.")
        return
    click.echo("\nthe service says otherwise:\n" + "\n".join(f"  {line}" for line in difference_lines(found)))
    context.note("prices of a model that is not known here:   [model_prices] in runner.toml   (docs/cost.md)")


def _today(context: Context) -> date:
    return datetime.fromtimestamp(context.clock.now_us() / 1e6, UTC).date()


def _listed(context: Context) -> list[ListedModel]:
    import anyio

    from runner.api.client import Client, Connection
    from runner.api.credentials import find_credential
    from runner.api.models import list_models
    from runner.domain.job import DEFAULT_BASE_URL

    service = context.settings.service
    connection = Connection(
        credential=find_credential(service),
        base_url=service.base_url or DEFAULT_BASE_URL,
        headers=service.custom_headers,
    )

    async def ask() -> list[ListedModel]:
        async with Client(connection, clock=context.clock) as client:
            return await list_models(client)

    return anyio.run(ask)


models.add_command(ls)
models.add_command(show)
