"""From a row to the body of its Messages request. Everything about the job is compiled once, when a run begins.

A record makes one row for each variant that answers it, times the repeats. With `match: first` it is one variant, the
first whose `when` is true; those whose `when` looks at a result come after an answer, and only if that says so.

A request is made for a call of its own or, with `batch`, to ride in a batch, which takes no stream and refuses some
fields. Where a job may only be sent in batches, such fields are found when it is compiled and its rows are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from runner.domain.attachment import MARKED, Attachment
from runner.domain.betas import needs
from runner.domain.job import Job, Match, Mode, Variant, WarmCache
from runner.domain.marking import Head, Kept, kept_in_batch, kept_live
from runner.domain.pricing import PriceBook
from runner.domain.request import MAX_BODY_BYTES, MessagesRequest
from runner.files.ask import Ask
from runner.files.bad_row import BadRow
from runner.files.expressions import RESULT, Condition
from runner.files.row_key import key_of, key_reader
from runner.files.sandbox import TemplateEnvironment
from runner.files.strict_json import parse_object
from runner.files.token_bound import prompt_tokens_bound

# Rows of this size may become too large for a request; they are rendered when they are checked.
RENDER_CHECK_ABOVE_BYTES = 1_000_000

_encode = msgspec.json.Encoder().encode


class Renderer:
    """A job's ways to ask, ready for rows.

    `dropped_fields` gathers what rows brought that has no counterpart in a Messages request. `batch_refuses` is the
    first of the job's own fields that a batch refuses, None where a batch takes them all. `betas_of_all` are those
    that every row goes with. With `brings_files` rows may bring files that are uploaded.
    """

    def __init__(self, job: Job) -> None:
        self.dropped_fields: set[str] = set()
        self._job = job
        self._id = job.input.id
        self._betas = frozenset(job.betas)
        self.betas_of_all = self._betas | _needed_by_all(ways_to_ask(job))
        self._read_key = key_reader(job.input.id)
        self._about_job = {
            "params": dict(job.params),
            "job": {"name": job.name, "model": job.model, "tags": dict(job.tags)},
        }
        environment = TemplateEnvironment()
        jobs = ways_to_ask(job)
        self._asks = [Ask(one, environment, self.dropped_fields.add) for one in jobs]
        self._conditions = [
            Condition(environment, variant.when, f"variants[{n}].when") if variant.when else None
            for n, variant in enumerate(job.variants)
        ]
        self._first = bool(job.variants) and job.match is Match.FIRST
        # The first row is rendered in any case: what fails for all rows alike is seen there.
        self._rendered_once = False
        self._only_batches = job.mode is Mode.BATCH
        self._least_tokens = 0
        self._marks: frozenset[int] = frozenset()
        self.brings_files = any(ask.brings_files for ask in self._asks)

    @property
    def chooses(self) -> bool:
        """Is it a row's own business which variant asks it?"""
        return self._first

    def leave_room(self, max_tokens: int) -> None:
        """From now on no request has fewer `max_tokens`: its answer was cut off before."""
        self._least_tokens = max_tokens

    @property
    def has_heads(self) -> bool:
        """Whether there is a variant whose requests all begin alike."""
        return any(ask.head is not None for ask in self._asks)

    def head_of(self, variant: int) -> Head | None:
        """What all requests of a variant begin with, where it could be marked for the prompt cache."""
        return self._asks[variant].head

    def heads_worth(self, prices: PriceBook, rows: int, *, batch: bool) -> dict[int, Kept]:
        """What it would save to keep what requests begin with, where so many `rows` make that pay; by variant. In
        batches a row has to go ahead for it."""
        if batch and self._job.batch.warm_cache is WarmCache.NEVER:
            return {}
        # One in so many rows is asked by any one variant. Where the rows choose, one variant may have them all.
        rows = rows if self._first else rows // len(self._asks)
        worth = kept_in_batch if batch else kept_live
        heads = [(n, ask.model, ask.head) for n, ask in enumerate(self._asks)]
        told = {n: worth(prices, model, head.tokens, rows) for n, model, head in heads if model and head}
        return {n: kept for n, kept in told.items() if kept is not None}

    def keep_heads(self, prices: PriceBook, rows: int) -> None:
        """From now on live requests carry a mark for the prompt cache where so many rows make that pay."""
        self._marks = frozenset(self.heads_worth(prices, rows, batch=False))

    @property
    def one_model(self) -> bool:
        """Do all rows ask the same model? Else each may name its own."""
        return all(ask.has_template for ask in self._asks) and len({ask.model for ask in self._asks}) == 1

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the job's templates name; none where each row brings its request."""
        return frozenset().union(*(ask.columns for ask in self._asks))

    @property
    def batch_refuses(self) -> str | None:
        return next((ask.batch_refuses for ask in self._asks if ask.batch_refuses is not None), None)

    def parse(self, line: bytes) -> dict[str, Any]:
        """The row of a line's bytes. Raises BadRow."""
        return parse_object(line)

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The row's own key: the column that `input.id` names, else `custom_id`; None when it has neither."""
        return key_of(row, self._id)

    def variant_at(self, row: Mapping[str, Any], idx: int) -> int:
        """Which variant the row of this number is asked by. Raises BadRow where `match: first` has none for it."""
        if not self._first:
            return self._job.place_in_fan(idx % self._job.fan)[0]
        for number, condition in enumerate(self._conditions):
            if condition is None or (not condition.asks_result and condition.holds(self._names(row))):
                return number
        raise BadRow("fits no variant: no when is true for it")

    def variants_of(self, row: Mapping[str, Any]) -> list[int]:
        """The variants that a record is asked by at first: all, or the one that fits. Raises BadRow."""
        return [self.variant_at(row, 0)] if self._first else list(range(len(self._asks)))

    def variant_after(self, row: Mapping[str, Any], variant: int, result: Mapping[str, Any]) -> int | None:
        """The variant that this result of `variant` calls for; None where the result stands."""
        if not self._first:
            return None
        names = {**self._names(row), RESULT: result}
        for number, condition in enumerate(self._conditions):
            if number > variant and condition is not None and condition.asks_result and condition.holds(names):
                return number
        return None

    def _names(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, "row": row, **self._about_job}

    def key_of(self, line: bytes) -> str | None:
        """The key of a line that has been checked before: nothing else of it is read where that is enough."""
        found = self._read_key(line)
        return self.key(self.parse(line)) if found is None else found

    def check(self, row: Mapping[str, Any], size: int = 0) -> None:
        """Raises BadRow if no request can be made of the row; renders only where a look does not tell.

        `size` is the row's length in bytes.
        """
        render = size > RENDER_CHECK_ABOVE_BYTES or not self._rendered_once
        for variant in self.variants_of(row):
            if not self._asks[variant].check(row, batch=self._only_batches) or render:
                self.request(row, variant=variant, batch=self._only_batches)
        self._rendered_once = True

    def request(self, row: Mapping[str, Any], *, variant: int = 0, batch: bool = False) -> MessagesRequest:
        """The request of a row. Raises BadRow; with `batch`, BatchRefuses for one that may only be asked live.

        A batch has one set of betas, told when it is created: rows whose `betas` differ cannot ride together.
        """
        body = self.body(row, variant=variant, batch=batch)
        if variant in self._marks and not batch:
            body = self.marked(body, variant)
        betas = self.betas_of(body, batch=batch)
        return self.request_of(body, betas)

    def betas_of(self, body: dict[str, Any], *, batch: bool = False) -> tuple[str, ...]:
        """The betas that this body goes with beside the job's: those it brings, which are taken out of it, and those
        that its content needs."""
        own = body.pop("betas", ())
        needed = needs(body, batch=batch, named=(*self._betas, *own))
        if not own and not needed:
            return ()
        return tuple(dict.fromkeys(name for name in (*own, *(n.beta for n in needed)) if name not in self._betas))

    def request_of(self, body: dict[str, Any], betas: tuple[str, ...] = ()) -> MessagesRequest:
        """The request that a body makes, sent with `betas`. Raises BadRow."""
        try:
            encoded = _encode(body)
        except (RecursionError, UnicodeEncodeError) as problem:
            raise BadRow(f"cannot be sent: {problem}") from None
        if len(encoded) > MAX_BODY_BYTES:
            raise BadRow(f"makes a request of {len(encoded):,} bytes; the API takes {MAX_BODY_BYTES:,}")
        return MessagesRequest(
            body=encoded,
            model=body["model"],
            max_tokens=body["max_tokens"],
            stream="stream" in body,
            prompt_tokens_bound=prompt_tokens_bound(body, len(encoded)),
            inference_geo=body.get("inference_geo"),
            speed=body.get("speed"),
            betas=betas,
            attachments=self._attachments(encoded) if self.brings_files else (),
        )

    def _attachments(self, body: bytes) -> tuple[Attachment, ...]:
        """The files whose marks stand in a body that was made a moment ago, each once."""
        marks = dict.fromkeys(mark.decode() for mark in MARKED.findall(body))
        found = (ask.attachment(mark) for mark in marks for ask in self._asks)
        return tuple({one.mark: one for one in found if one is not None}.values())

    def marked(self, body: dict[str, Any], variant: int) -> dict[str, Any]:
        """The body with a mark for the prompt cache, whether or not that pays; as it is, where it is to have none."""
        return self._asks[variant].marked(body)

    def body(self, row: Mapping[str, Any], *, variant: int = 0, batch: bool = False) -> dict[str, Any]:
        """The request of a row as a value; `betas`, if the row brings any, are still in it."""
        return self._asks[variant].body(row, self._about_job, batch=batch, least_tokens=self._least_tokens)


def _needed_by_all(jobs: list[Job]) -> frozenset[str]:
    """The names that each way to ask needs, whatever the row, live or in a batch."""
    needed = []
    for job in jobs:
        body = {**job.request, "model": job.model}
        needed.append({need.beta for batch in (False, True) for need in needs(body, batch=batch)})
    return frozenset(set.intersection(*needed))


def ways_to_ask(job: Job) -> list[Job]:
    """The job as each of its variants has it, with what a retry asks otherwise."""
    jobs = [job_of_variant(job, variant) for variant in job.variants] or [job]
    return jobs if job.instead is None else [job_of_variant(one, job.instead) for one in jobs]


def job_of_variant(job: Job, variant: Variant) -> Job:
    """The job as a variant has it: its own words before the job's, request fields key by key, maps in them too."""
    request = merged_request(job.request, variant.request)
    return replace(
        job,
        model=variant.model or job.model,
        prompt=None if "messages" in variant.request else variant.prompt or job.prompt,
        system=None if "system" in variant.request else variant.system or job.system,
        request=_without_what_is_said(request, variant),
    )


def _without_what_is_said(request: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """A variant's short form stands for what the job's request says at length."""
    said = {"messages": variant.prompt, "system": variant.system}
    return {name: value for name, value in request.items() if said.get(name) is None}


def merged_request(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Maps are merged, everything else is replaced."""
    merged = dict(below)
    for name, value in over.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = merged_request(before, value) if both else value  # type: ignore[arg-type]
    return merged
