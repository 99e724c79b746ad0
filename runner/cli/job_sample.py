"""What the first rows and the job itself tell of a run: size, worst cost, columns used, what is worth a warning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import asdict

from runner.domain.betas import warnings
from runner.domain.job import DEFAULT_MAX_TOKENS, Job, Mode
from runner.domain.lifecycle import lifecycle_warnings
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest, refused_in_batch
from runner.domain.trap import Trap
from runner.domain.traps import doubts, traps
from runner.files.bad_row import BadRow
from runner.files.render import Renderer, ways_to_ask
from runner.files.request_tree import ROW
from runner.files.source import Input, records
from runner.files.template import MARKS

SAMPLE_ROWS = 200
# Thinking is on by default in current models and counts against max_tokens; below this little is left to say.
LEAST_WITH_THINKING = 1_000
_ONE_BRACE = re.compile(r"\{\s*(\w+)\s*\}")
SENT_ALL_THE_SAME = "Sent all the same: allow says so."


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Means over the first rows."""

    rows: int
    mean_bytes: float
    requests: list[MessagesRequest] = field(repr=False)


def sample_of(source: Input, renderer: Renderer, *, batch: bool = False) -> Sample:
    """Renders the first good rows, with `batch` as they would ride in one."""
    requests = list(islice(_requests(source, renderer, batch=batch), SAMPLE_ROWS))
    return Sample(
        rows=len(requests),
        requests=requests,
        mean_bytes=sum(len(request.body) for request in requests) / max(len(requests), 1),
    )


def _requests(source: Input, renderer: Renderer, *, batch: bool) -> Iterator[MessagesRequest]:
    for block in source.blocks():
        for _number, payload in records(block):
            try:
                row = renderer.parse(payload)
                yield from [renderer.request(row, variant=n, batch=batch) for n in renderer.variants_of(row)]
            except BadRow:
                continue


def used_columns(job: Job) -> list[str]:
    """The columns that the job's templates name; none where each row brings its request."""
    return sorted(Renderer(job).columns)


def job_warnings(job: Job, prices: PriceBook, now_us: int) -> list[tuple[str, str]]:
    """What is allowed but probably not meant: a name and a sentence each."""
    found = []
    max_tokens = job.request.get("max_tokens", DEFAULT_MAX_TOKENS)
    facts = prices.find(job.model) if job.model else None
    if facts is not None:
        today = datetime.fromtimestamp(now_us / 1e6, UTC).date()
        found += [("lifecycle", sentence) for sentence in lifecycle_warnings(facts, today, fast=_is_fast(job))]
    found += [(doubt.rule, f"{doubt.words}.") for doubt in doubts(job.request, model=job.model)]
    if (sentence := _asks_all_the_same(job)) is not None:
        found.append(("no-column", sentence))
    found += _allowed_of_job(job)
    if _thinks(job) and isinstance(max_tokens, int) and max_tokens < LEAST_WITH_THINKING:
        sentence = (
            f"max_tokens {max_tokens:,} is little: thinking counts against it, and answers may be cut off before "
            "they begin."
        )
        found.append(("little-room", sentence))
    return found


def _asks_all_the_same(job: Job) -> str | None:
    """Somebody who means `{{ text }}` and writes `{text}` would pay for the same question a thousand times."""
    ways = [{"prompt": job.prompt, "system": job.system, **job.request}, *(asdict(one) for one in job.variants)]
    asked = json.dumps(ways, default=str)
    of_the_job = job.prompt is not None or "messages" in job.request
    if not of_the_job or any(mark in asked for mark in (*MARKS, ROW)):
        return None
    found = _ONE_BRACE.search(job.prompt or "")
    meant = f"; did you mean {{{{ {found[1]} }}}} ?" if found else "; {{ column }} fills one in."
    return f"no {{{{ column }}}} is in the prompt, so every row asks the same{meant}"


def _allowed_of_job(job: Job) -> list[tuple[str, str]]:
    """What the API is said to refuse of the job's own request, and is sent because the job says so."""
    found = {}
    for one in ways_to_ask(job) if job.allow else ():
        for trap in _allowed(job, one.request, one.model):
            found[trap.rule, trap.place] = f"request.{trap.place}: {trap.words}. {SENT_ALL_THE_SAME}"
        refused = refused_in_batch(one.request) if "batch" in job.allow and job.mode is Mode.BATCH else None
        if refused is not None:
            found["batch", refused] = f"request.{refused}: a batch refuses it. {SENT_ALL_THE_SAME}"
    return [(rule, sentence) for (rule, _), sentence in found.items()]


def _allowed(job: Job, fields: Mapping[str, Any], model: str | None) -> Iterator[Trap]:
    batch = None if job.mode is Mode.AUTO else job.mode is Mode.BATCH
    found = traps(fields, model=model, api_version=job.api_version, batch=batch)
    return (trap for trap in found if trap.rule in job.allow)


def row_warnings(job: Job, sample: Sample) -> list[tuple[str, str]]:
    """About betas and thinking blocks that single rows bring, and rules that are not heeded; each is told once."""
    brought = dict.fromkeys(name for request in sample.requests for name in request.betas)
    found = [(told.kind, f"of a row: {told.sentence}") for told in warnings(brought)]
    doubted = {
        doubt.rule: f"of a row: {doubt.words}."
        for request in sample.requests
        if b'"thinking"' in request.body
        for doubt in doubts(msgspec.json.decode(request.body), model=request.model)
        if doubt.path == ("messages",)
    }
    return found + list(doubted.items()) + _allowed_of_rows(job, sample)


def _allowed_of_rows(job: Job, sample: Sample) -> list[tuple[str, str]]:
    of_job = {rule for rule, _ in _allowed_of_job(job)}
    found = {
        trap.rule: f"of a row: {trap.place}: {trap.words}. {SENT_ALL_THE_SAME}"
        for request in (sample.requests if job.allow else ())
        for trap in _allowed(job, msgspec.json.decode(request.body), request.model)
        if trap.rule not in of_job
    }
    return list(found.items())


def _is_fast(job: Job) -> bool:
    return job.request.get("speed") == "fast"


def _thinks(job: Job) -> bool:
    """On, unless the job turns it off."""
    thinking = job.request.get("thinking")
    return not (isinstance(thinking, dict) and thinking.get("type") == "disabled")
