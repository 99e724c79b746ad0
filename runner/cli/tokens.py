"""`tokens`: how many input tokens the service counts in the rows of a job or a file. Free, with own limits."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import click
from msgspec import Struct

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.counted import counted
from runner.cli.launch import looked_at_input, settled
from runner.cli.messages import warning
from runner.cli.named_job import NamedJob, names_a_job
from runner.cli.options import (
    json_option,
    simulate_option,
)
from runner.cli.sending import check_credential
from runner.domain.job import Mode
from runner.domain.quantity import of_rows
from runner.domain.request import MessagesRequest
from runner.errors import InputInvalid
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.files.source import Input, records
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line
from runner.views.tables import facts_lines

SAMPLE = 200
SEED = 20261121


@command("tokens", examples=("runner tokens job.yaml", "runner tokens rows.jsonl -m claude-haiku-5-5 --sample 1000"))
@names_a_job(runs=False)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=SAMPLE,
    show_default=True,
    metavar="N",
    help="Of a larger input, count so many rows taken by chance.",
)
@simulate_option
@json_option
def tokens(context: Context, named: NamedJob, sample: int) -> None:
    """Have the service count input tokens. A large input is sampled, evenly and always alike.

    Files that would be uploaded are not counted, nor is what server tools and later turns add.
    """
    job = settled(named.job(), context.settings, simulated=context.simulate, betas=named.betas)
    check_credential(job, context.settings)
    with looked_at_input(context, job) as (job, source):
        renderer = Renderer(job)
        drawn = Drawn(sample)
        left = LeftOut()
        drawn.take(_requests(source, renderer, left, batch=job.mode is Mode.BATCH, most=job.input.limit))
    if not drawn.kept:
        hints = (left.words,) if left.rows else ()
        raise InputInvalid(f"{source.place} holds no rows that can be counted.", name="empty-input", hints=hints)
    if left.rows:
        warning("rows-not-counted", f"{left.words}.")
    found = counted(drawn.kept, job, context.settings, context.clock)
    rows = drawn.seen * job.repeat
    told = _told(found.each, rows)
    if any(request.attachments for request in drawn.kept):
        warning("files-not-counted", "files that would be uploaded are left out of the count.")
    if context.json:
        context.print_json(told)
        return
    for line in facts_lines(_facts(told, drawn, rows)):
        click.echo(line)


class LeftOut(Struct):
    """Rows that make no request, and what is wrong with the first of them."""

    rows: int = 0
    first: str = ""

    def add(self, number: int, bad: BadRow) -> None:
        self.rows += 1
        self.first = self.first or f"line {number} {bad.reason}"

    @property
    def words(self) -> str:
        return f"{of_rows(self.rows)} cannot be asked: {safe_line(self.first, 200)}"


class Drawn:
    """So many requests of a stream, each as likely as the others; memory does not grow with the rest."""

    def __init__(self, most: int) -> None:
        self.kept: list[MessagesRequest] = []
        self.seen = 0
        self._most = most
        self._chance = random.Random(SEED)  # the same rows each time

    def take(self, requests: Iterable[MessagesRequest]) -> None:
        for request in requests:
            self.seen += 1
            if len(self.kept) < self._most:
                self.kept.append(request)
            elif (place := self._chance.randrange(self.seen)) < self._most:
                self.kept[place] = request


def _requests(
    source: Input, renderer: Renderer, left: LeftOut, *, batch: bool, most: int | None
) -> Iterable[MessagesRequest]:
    made = 0
    for block in source.blocks():
        for number, payload in records(block):
            if made == most:
                return
            try:
                row = renderer.parse(payload)
                yield renderer.request(row, variant=renderer.variant_at(row, 0), batch=batch)
                made += 1
            except BadRow as bad:
                left.add(number, bad)


def _told(each: tuple[int, ...], rows: int) -> dict[str, Any]:
    """Sum, or an estimate of it with its 95% interval where rows were sampled."""
    many = len(each)
    mean = sum(each) / many
    told: dict[str, Any] = {
        "rows": rows,
        "counted": many,
        "mean": round(mean, 1),
        "least": min(each),
        "most": max(each),
    }
    if many >= rows:
        return {**told, "input_tokens": sum(each)}
    spread = (sum((one - mean) ** 2 for one in each) / max(many - 1, 1)) ** 0.5
    off = 1.96 * spread / many**0.5 * (1 - many / rows) ** 0.5
    low, high = max(0, round((mean - off) * rows)), round((mean + off) * rows)
    return {**told, "input_tokens": round(mean * rows), "input_tokens_low": low, "input_tokens_high": high}


def _facts(told: Mapping[str, Any], drawn: Drawn, rows: int) -> list[tuple[str, str]]:
    total = f"{count(told['input_tokens'])} input tokens"
    if "input_tokens_low" in told:
        total = f"about {brief(told['input_tokens'])} input tokens"
        total += f"   95% between {brief(told['input_tokens_low'])} and {brief(told['input_tokens_high'])}"
    facts = [
        ("rows", of_rows(rows)),
        ("counted", f"{of_rows(told['counted'])}" + ("" if told["counted"] >= rows else ", taken by chance")),
        ("each", f"{told['mean']:,} on average, {count(told['least'])} to {count(told['most'])}"),
        ("all", total),
    ]
    if drawn.seen != rows:
        facts[0] = ("rows", f"{of_rows(drawn.seen)} asked {rows // max(drawn.seen, 1)} times")
    return facts
