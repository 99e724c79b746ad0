"""`check`: a job file and its whole input, before a cent is spent. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runner.cli.command import command
from runner.cli.confirm import budgeted, mode_of
from runner.cli.context import Context
from runner.cli.counted import Counted, counted
from runner.cli.estimating import Estimated
from runner.cli.headers import RULE, all_headers, header_warnings, parsed_headers
from runner.cli.job_sample import SAMPLE_ROWS, Sample, job_warnings, row_warnings, sample_of, used_columns
from runner.cli.launch import check_model, check_output, looked_at_input, settled
from runner.cli.messages import warning
from runner.cli.named_job import NamedJob, names_a_job
from runner.cli.options import (
    json_option,
    simulate_option,
)
from runner.cli.prompt_cache import cache_json, cache_words, lead_warning
from runner.cli.row_sample import LOOKED_AT_ROWS
from runner.cli.sending import check_credential
from runner.domain.budget import tightest
from runner.domain.forecast import Forecast
from runner.domain.job import Job, Match, Mode
from runner.domain.quantity import of_rows
from runner.files.check import InputReport, accepted_input
from runner.files.input_door import place_of
from runner.files.render import Renderer
from runner.files.sinks.columns import column_doubts
from runner.views.beta_words import beta_lines, sent_betas
from runner.views.estimate_page import budget_words
from runner.views.money import dollars, usd
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line, safe_text
from runner.views.tables import facts_lines


@command("check", examples=("runner check job.yaml", "runner check job.yaml -i tonight.jsonl --json"))
@names_a_job()
@click.option(
    "--count",
    "count_rows",
    type=click.IntRange(1, SAMPLE_ROWS),
    metavar="N",
    help="Have the service count the input tokens of the first N rows; that is free.",
)
@simulate_option
@json_option
def check(context: Context, named: NamedJob, count_rows: int | None) -> None:
    """Read the job file and every row of its input as a run would, and say all that is wrong.

    Nothing is sent, unless --count asks for it. Exit 6 when a run could not begin.
    """
    job = settled(named.job(), context.settings, simulated=context.simulate, betas=named.betas)
    prices = context.prices
    check_model(job, prices, any_model=named.any_model)
    check_output(job.output)
    with looked_at_input(context, job) as (job, source):
        renderer = Renderer(job)
        report = accepted_input(source, renderer, job.input, draw=LOOKED_AT_ROWS)
        sample = sample_of(source, renderer, batch=job.mode is Mode.BATCH)
        told = budgeted(context, job, report, renderer, prices)
    tokens = None
    if count_rows is not None:
        check_credential(job, context.settings)
        tokens = counted(sample.requests[:count_rows], job, context.settings, context.clock)
    warned = [
        *job_warnings(job, prices, context.clock.now_us()),
        *header_warnings(job, context.settings, parsed_headers(named.headers)),
        *row_warnings(job, sample),
        *(("column", doubt) for doubt in column_doubts(_output_names(job), _columns_of(report, renderer))),
    ]
    could = lead_warning(job, prices, report.records * job.fan, batch=_in_batches(job, told))
    warned += [] if could is None else [could]
    if context.json:
        cached = cache_json(renderer, prices, report.records * job.fan, batch=_in_batches(job, told))
        more = {"prompt_cache": cached, "warnings": _told(warned)}
        context.print_json({**_as_json(job, report, sample, tokens, told), **more})
        return
    headers_sent = all_headers(job, context.settings)
    cache = cache_words(renderer, prices, report.records * job.fan, batch=_in_batches(job, told))
    for line in facts_lines(_facts(named.job_file, job, report, sample, tokens, told, headers_sent, cache)):
        click.echo(safe_text(line))
    for name, sentence in warned:
        warning(name, sentence)
    context.note("nothing was sent." if tokens is None else "nothing was sent but to be counted.")


def _output_names(job: Job) -> list[str]:
    """The columns that the output names, in its list or in its statement."""
    if job.output.sql is None:
        return list(job.output.columns)
    from runner.files.foreign_database import bind_names

    return bind_names(job.output.sql)


def _columns_of(report: InputReport, renderer: Renderer) -> set[str]:
    """Of the rows that were drawn."""
    return {name for record in report.drawn for name in renderer.parse(record.payload)}


def _facts(
    job_file: str,
    job: Job,
    report: InputReport,
    sample: Sample,
    tokens: Counted | None,
    money: Estimated,
    headers: Mapping[str, str],
    cache: str,
) -> list[tuple[str, str]]:
    rows = report.records * job.fan
    told = [
        ("job", f"{safe_line(job.name)}   {safe_line(job_file)} is valid"),
        ("model", safe_line(job.model or "named by each row")),
        ("input", f"{safe_line(place_of(job))}   {of_rows(report.records)}, {brief(report.size)}B"),
    ]
    if job.variants:
        how = "the first that fits" if job.match is Match.FIRST else f"each, {count(rows)} answers"
        told.append(("variants", safe_line(", ".join(variant.name for variant in job.variants)) + f"   {how}"))
    if job.repeat > 1:
        told.append(("repeat", f"{job.repeat} times: {count(rows)} answers"))
    if job.later:
        told.append(("not yet", f"{', '.join(job.later)}: checked; this version cannot carry it out"))
    if report.bad_count:
        shown = [bad.sentence() for bad in report.bad_rows]
        told.append(("skipped", "\n".join([f"{of_rows(report.bad_count)} that cannot be sent", *shown])))
    told.append(("keys", "all different" if report.has_keys else "none: results are known by their line"))
    if columns := used_columns(job):
        told.append(("columns", safe_line(", ".join(columns))))
    if report.dropped_fields:
        told.append(("not sent", safe_line(", ".join(report.dropped_fields)) + "   (no counterpart in this API)"))
    if betas := _betas(job, sample):
        told.append(("betas", betas))
    if headers:
        told.append(("headers", safe_line(", ".join(headers)) + f"\n{RULE}"))
    told.append(("requests", _requests(sample, rows)))
    if tokens is not None:
        told.append(("tokens", tokens.words(rows)))
    if cache:
        told.append(("cache", cache))
    told.append(("cost", _cost(mode_of(job, money).forecast)))
    if (full := tightest(money.levels)) is not None:
        told.append(("budget", budget_words(full, mode_of(job, money))))
    return told


def _in_batches(job: Job, told: Estimated) -> bool:
    return (told.choice.mode if job.mode is Mode.AUTO else job.mode) is Mode.BATCH


def _betas(job: Job, sample: Sample) -> str:
    """What every request goes with and why, and what single rows add to that."""
    of_job = {beta.name for beta in sent_betas(job)}
    of_rows = sorted({name for request in sample.requests for name in request.betas}.difference(of_job))
    lines = [beta_lines(job)] if of_job else []
    return "\n".join([*lines, *(f"{safe_line(name)}   of some rows" for name in of_rows)])


def _told(warned: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "message": sentence} for name, sentence in warned]


def _requests(sample: Sample, rows: int) -> str:
    size = sample.mean_bytes
    return f"about {brief(size)}B each, {brief(size * rows)}B in all (from the first {count(sample.rows)})"


def _cost(forecast: Forecast) -> str:
    """A bound, not an estimate: every answer at its longest, every prompt token at its dearest."""
    if forecast.worst_pico is None:
        return "not known"
    return f"at most about {dollars(forecast.worst_pico)}, were every answer as long as max_tokens allows"


def _as_json(
    job: Job, report: InputReport, sample: Sample, tokens: Counted | None, told: Estimated
) -> dict[str, Any]:
    rows = report.records * job.fan
    mode = mode_of(job, told)
    return {
        "job": job.name,
        "identity": job.identity(),
        "model": job.model,
        "input": {"path": job.input.path, "records": report.records, "bytes": report.size, "sha256": report.digest},
        "rows": rows,
        "bad_rows": [{"line": bad.line, "reason": bad.reason} for bad in report.bad_rows],
        "bad_count": report.bad_count,
        "has_keys": report.has_keys,
        "columns": used_columns(job),
        "not_sent": list(report.dropped_fields),
        "request_bytes_mean": round(sample.mean_bytes),
        "counted": None if tokens is None else tokens.as_json(),
        "usd_at_most": usd(mode.forecast.worst_pico),
        "budget_usd": usd(job.budget_pico),
        "rows_at_once": mode.at_once,
        "batches_in_sequence": mode.in_sequence,
        "betas": [{"name": beta.name, "added": beta.added, "for": beta.why} for beta in sent_betas(job)],
    }
