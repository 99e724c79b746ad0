"""`preview`: the exact requests of the first rows. Nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
from msgspec import Struct

from runner.api.credentials import Credential, check_base_url, find_credential
from runner.api.headers import request_headers
from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.headers import all_headers
from runner.cli.launch import looked_at_input, settled
from runner.cli.named_job import NamedJob, names_a_job
from runner.cli.options import (
    json_option,
    limited_to,
)
from runner.cli.prompt_cache import FORBID, place_words
from runner.domain.betas import Need, needs
from runner.domain.job import Job, Mode
from runner.domain.marking import Head, Kept
from runner.domain.prefix import kept_longer
from runner.domain.request import MessagesRequest
from runner.domain.reservation import worst_pico
from runner.errors import CredentialsRefused
from runner.files.bad_row import BadLine, BadRow
from runner.files.check import bad_rows_error
from runner.files.render import Renderer
from runner.files.source import Input, records
from runner.settings import Settings
from runner.views.money import dollars, usd
from runner.views.numbers import count
from runner.views.safe_text import safe_line, safe_text

SHOWN_ROWS = 3
# Beyond these it is not counted how long an input is.
ENOUGH_ROWS = 100_000
MARK_BYTES = b'"cache_control"'
NO_KEY = "(no key is set)"
# Custom headers whose value may be a secret, by parts of their names.
SECRET_PARTS = ("auth", "key", "token", "secret", "cookie", "password")


class Shown(Struct, frozen=True, kw_only=True):
    """A row's request, and where the row stands in the input. `kept` is what a mark of ours has the cache keep."""

    line: int
    key: str | None
    variant: str | None
    request: MessagesRequest
    headers: list[tuple[str, str]]
    batch: bool
    worst_pico: int | None
    added: tuple[Need, ...] = ()
    kept: Head | None = None


@command("preview", examples=("runner preview job.yaml -n 3", "runner preview job.yaml -i other.jsonl -p year=2026"))
@names_a_job(limit=False, runs=False)
@limited_to("How many rows.", default=SHOWN_ROWS, show_default=True)
@json_option
def preview(context: Context, named: NamedJob, limit: int) -> None:
    """The requests of the first rows, byte for byte what would be sent, and their headers with the key hidden."""
    job = settled(named.job(), context.settings, simulated=False, betas=named.betas)
    check_base_url(job.base_url)
    with looked_at_input(context, job) as (job, source):
        shown = list(_requests(job, source, context, limit))
    if context.json:
        told = [_as_json(one) for one in shown]
        context.print_json({"job": job.name, "url": _url(job), "requests": told})
        return
    for one in shown:
        for line in _lines(job, one):
            click.echo(safe_text(line))
    context.note("nothing was sent." if shown else "the input holds no rows.")


def _requests(job: Job, source: Input, context: Context, limit: int) -> Iterator[Shown]:
    renderer = Renderer(job)
    batch = job.mode is Mode.BATCH
    pays_at_all = renderer.heads_worth(context.prices, ENOUGH_ROWS * job.fan, batch=batch)
    rows = _rows(job, source) if pays_at_all else 0
    renderer.keep_heads(context.prices, rows)
    kept = renderer.heads_worth(context.prices, rows, batch=batch)
    auth = shown_auth(context.settings)
    custom = hidden_secrets(all_headers(job, context.settings))
    made = 0
    for block in source.blocks():
        for number, payload in records(block):
            if made == limit:
                return
            try:
                row = renderer.parse(payload)
                key = renderer.key(row)
                asked = [(n, _request(renderer, row, n, batch, kept)) for n in renderer.variants_of(row)]
            except BadRow as bad:
                where = source.where(number)
                raise bad_rows_error([BadLine.of(number, where, payload, bad)], 1, records=made) from None
            made += 1
            for variant, request in asked:
                betas = (*job.betas, *request.betas)
                needed = needs(json.loads(request.body), batch=batch, named=job.betas)
                yield Shown(
                    line=number,
                    key=key,
                    variant=job.variants[variant].name if job.variants else None,
                    request=request,
                    headers=request_headers(auth=auth, api_version=job.api_version, custom=custom, betas=betas),
                    batch=batch,
                    worst_pico=worst_pico(context.prices, request, row_pico=job.limits.row_pico, batch=batch),
                    added=tuple(need for need in needed if need.beta in request.betas),
                    kept=renderer.head_of(variant) if variant in kept and MARK_BYTES in request.body else None,
                )


def _rows(job: Job, source: Input) -> int:
    """How many rows a run would have; of a long input, that there are many."""
    found = 0
    for block in source.blocks():
        found += sum(1 for _ in records(block))
        if found >= ENOUGH_ROWS:
            break
    return min(found, job.input.limit or found) * job.fan


def _request(
    renderer: Renderer, row: dict[str, Any], variant: int, batch: bool, kept: Mapping[int, Kept]
) -> MessagesRequest:
    """As it would be sent. In a batch whose rows begin alike, as those are that do not go ahead."""
    if not batch or variant not in kept:
        return renderer.request(row, variant=variant, batch=batch)
    body = renderer.body(row, variant=variant, batch=True)
    betas = renderer.betas_of(body, batch=True)
    marked = renderer.marked(body, variant)
    return renderer.request_of(body if marked is body else kept_longer(marked, 1), betas)


def shown_auth(settings: Settings) -> tuple[str, str]:
    """The header of the key without the key. That none is set is no reason not to look at requests."""
    try:
        credential = find_credential(settings.service)
    except CredentialsRefused as error:
        return "x-api-key", NO_KEY if error.name == "no-credentials" else f"({error.name})"
    return hidden(credential)


def hidden(credential: Credential) -> tuple[str, str]:
    name, value = credential.header()
    return name, value.replace(credential.secret, credential.shown)


def hidden_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """Custom headers as they may be shown."""
    return {
        name: "..." if any(part in name.lower() for part in SECRET_PARTS) else value
        for name, value in headers.items()
    }


def _url(job: Job) -> str:
    return f"{job.base_url}/v1/messages{'/batches' if job.mode is Mode.BATCH else ''}"


def _lines(job: Job, shown: Shown) -> Iterator[str]:
    key = "" if shown.key is None else f"  key {safe_line(shown.key)}"
    size = count(len(shown.request.body))
    variant = "" if shown.variant is None else f"  variant {safe_line(shown.variant)}"
    yield f"--- line {shown.line}{key}{variant}  {size} bytes  costs at most {dollars(shown.worst_pico)}"
    yield f"POST {_url(job)}{'   (the params of one of its requests)' if shown.batch else ''}"
    for name, value in shown.headers:
        yield f"{name}: {value}"
    for file in shown.request.attachments:
        yield f"   ({safe_line(file.path)} is uploaded, unless it is there already: {count(file.size)} bytes)"
    for need in shown.added:
        yield f"   ({need.beta} was added: {need.feature} needs it)"
    if shown.kept is not None:
        yield f"   (cache_control was added: {place_words(shown.kept)}\n   {_kept_words(shown)}; {FORBID})"
    yield ""
    yield json.dumps(json.loads(shown.request.body), indent=2, ensure_ascii=False)
    yield ""


def _kept_words(shown: Shown) -> str:
    if not shown.batch:
        return "is kept in the prompt cache"
    return "is kept in the prompt cache behind one row that goes ahead; where that shows no hit, they go without"


def _as_json(shown: Shown) -> dict[str, Any]:
    return {
        "line": shown.line,
        "key": shown.key,
        "variant": shown.variant,
        "bytes": len(shown.request.body),
        "usd_at_most": usd(shown.worst_pico),
        "headers": dict(shown.headers),
        "cache_control_added": shown.kept is not None,
        "betas_added": [{"name": need.beta, "for": need.feature} for need in shown.added],
        "body": json.loads(shown.request.body),
    }
