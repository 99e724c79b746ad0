"""From a row to the body of its Messages request. Everything about the job is compiled once, when a run begins.

The rules of precedence: the row's own request fields win over the job's, key by key; what the row says about
`stream` does not count, because how an answer travels is the program's business.

A request is made for a call of its own or, with `batch`, to ride in a batch, which takes no stream and refuses some
fields. Where a job may only be sent in batches, such fields are found when it is compiled and its rows are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.domain.job import CURRENT_API_VERSION, DEFAULT_MAX_TOKENS, Job, Mode
from runner.domain.request import MAX_BODY_BYTES, STREAM_ABOVE_TOKENS, MessagesRequest, refused_in_batch
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow, BatchRefuses
from runner.files.request_tree import Tree, compiled_tree, constant
from runner.files.sandbox import TemplateEnvironment
from runner.files.shapes import checked_messages, fields_of
from runner.files.strict_json import parse_object
from runner.files.template import missing_column
from runner.files.token_bound import prompt_tokens_bound

SAMPLING = frozenset({"temperature", "top_p", "top_k"})
MAX_KEY_CHARS = 1_000
# Rows of this size may become too large for a request; they are rendered when they are checked.
RENDER_CHECK_ABOVE_BYTES = 1_000_000

_encode = msgspec.json.Encoder().encode


class Renderer:
    """A job's templates and fixed request fields, ready for rows.

    `dropped_fields` gathers what rows brought that has no counterpart in a Messages request. `batch_refuses` is the
    first of the job's own fields that a batch refuses, None where a batch takes them all.
    """

    def __init__(self, job: Job) -> None:
        self.dropped_fields: set[str] = set()
        self._id = job.input.id
        self._sampling_allowed = job.api_version != CURRENT_API_VERSION
        self._about_job = {
            "params": dict(job.params),
            "job": {"name": job.name, "model": job.model, "tags": dict(job.tags)},
        }
        environment = TemplateEnvironment()
        self._messages = _messages_tree(environment, job)
        self._system = _system_tree(environment, job)
        self._templates = (*(self._messages.templates if self._messages else ()), *self._system.templates)
        for template in self._templates:
            template.check_params(job.params)
        # The first row is rendered in any case: what fails for all rows alike is seen there.
        self._rendered_once = False
        self._fixed = self._fixed_fields(job)
        self.batch_refuses = refused_in_batch(job.request)
        self._only_batches = job.mode is Mode.BATCH
        if self._only_batches and self.batch_refuses is not None:
            raise not_in_batches(self.batch_refuses)
        self._least_tokens = 0
        self._model = job.model or job.request.get("model")
        if self._messages is not None and not self._model:
            raise no_model()

    def leave_room(self, max_tokens: int) -> None:
        """From now on no request has fewer `max_tokens`: its answer was cut off before."""
        self._least_tokens = max_tokens

    @property
    def one_model(self) -> bool:
        """Do all rows ask the same model? Else each may name its own."""
        return self._messages is not None

    def parse(self, line: bytes) -> dict[str, Any]:
        """The row of a line's bytes. Raises BadRow."""
        return parse_object(line)

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The row's own key: the column that `input.id` names, else `custom_id`; None when it has neither."""
        if self._id is None:
            return _key(row["custom_id"], "custom_id") if "custom_id" in row else None
        if self._id not in row:
            raise missing_column(self._id, row, "which input.id names")
        return _key(row[self._id], self._id)

    def check(self, row: Mapping[str, Any], size: int = 0) -> None:
        """Raises BadRow if no request can be made of the row; renders only where a look does not tell.

        `size` is the row's length in bytes.
        """
        if size > RENDER_CHECK_ABOVE_BYTES or not self._rendered_once or not self._surely_renders(row):
            self.request(row, batch=self._only_batches)
            self._rendered_once = True
        elif self._messages is None:
            self._fields_of_row(row, batch=self._only_batches)

    def request(self, row: Mapping[str, Any], *, batch: bool = False) -> MessagesRequest:
        """The request of a row. Raises BadRow; with `batch`, BatchRefuses for one that may only be asked live.

        A batch has one set of betas, told when it is created: rows whose `betas` differ cannot ride together.
        """
        return self.request_of(self.body(row, batch=batch))

    def request_of(self, body: dict[str, Any]) -> MessagesRequest:
        """The request that a body of `body` makes; `betas` are taken out of it. Raises BadRow."""
        betas = body.pop("betas", ())
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
            betas=tuple(betas),
        )

    def body(self, row: Mapping[str, Any], *, batch: bool = False) -> dict[str, Any]:
        """The request of a row as a value; `betas`, if the row brings any, are still in it."""
        if batch and self.batch_refuses is not None:
            raise BatchRefuses(self.batch_refuses)
        names = {**row, "row": row, **self._about_job} if self._templates else {}
        body = {"model": self._model, "max_tokens": DEFAULT_MAX_TOKENS, **self._fixed}
        body["system"] = self._system.build(row, names)
        if self._messages is None:
            body |= self._fields_of_row(row, batch=batch)
        else:
            body["messages"] = _not_blank(self._messages.build(row, names))
        if _is_blank(body["system"]):
            del body["system"]
        body.pop("stream", None)
        if body["max_tokens"] < self._least_tokens:
            body["max_tokens"] = self._least_tokens
        if not batch and body["max_tokens"] > STREAM_ABOVE_TOKENS:
            body["stream"] = True
        return body

    def _surely_renders(self, row: Mapping[str, Any]) -> bool:
        columns = row.keys()
        if self._messages is not None and not all(
            template.surely_has_text(row) for template in self._messages.templates
        ):
            return False
        return all(template.plain and template.columns <= columns for template in self._system.templates)

    def _fields_of_row(self, row: Mapping[str, Any], *, batch: bool) -> dict[str, Any]:
        fields = fields_of(row, sampling_allowed=self._sampling_allowed, drop=self.dropped_fields.add)
        if len(fields) > 1:
            self._check_fields(fields, batch=batch)
        if not self._model and "model" not in fields:
            raise BadRow("names no model, and the job names none either: set one with -m MODEL")
        return fields

    def _check_fields(self, fields: Mapping[str, Any], *, batch: bool) -> None:
        problem = _problem_with(fields, sampling_allowed=self._sampling_allowed)
        if problem:
            raise BadRow(f"has {problem}")
        refused = refused_in_batch(fields) if batch else None
        if refused is not None:
            raise BatchRefuses(refused)

    def _fixed_fields(self, job: Job) -> dict[str, Any]:
        problem = _problem_with(job.request, sampling_allowed=self._sampling_allowed)
        if problem:
            raise JobInvalid(f"request has {problem}", name="request")
        elsewhere = ("messages", "system", "model", "stream")
        return {name: value for name, value in job.request.items() if name not in elsewhere}


def no_model() -> JobInvalid:
    return JobInvalid(
        "no model is named.",
        name="no-model",
        hints=("fix: -m MODEL, or model: in the job file; runner models lists them",),
    )


def not_in_batches(field: str) -> JobInvalid:
    return JobInvalid(f"request {BatchRefuses(field)}.", name="batch-refuses")


def _messages_tree(environment: TemplateEnvironment, job: Job) -> Tree | None:
    """None when the job has no template of its own and each row brings its messages."""
    if job.prompt is not None:
        content = compiled_tree(environment, job.prompt, "the prompt")
        return Tree(
            build=lambda row, names: [{"role": "user", "content": content.build(row, names)}],
            templates=content.templates,
        )
    if "messages" not in job.request:
        return None
    try:
        checked_messages(job.request["messages"], '"request.messages"')
    except BadRow as problem:
        raise JobInvalid(f"the job {problem.reason}", name="request") from None
    return compiled_tree(environment, job.request["messages"], "request.messages")


def _system_tree(environment: TemplateEnvironment, job: Job) -> Tree:
    if job.system is not None:
        return compiled_tree(environment, job.system, "the system prompt")
    if "system" in job.request:
        return compiled_tree(environment, job.request["system"], "request.system")
    return constant(None)


def _problem_with(fields: Mapping[str, Any], *, sampling_allowed: bool) -> str | None:
    """What the API would certainly refuse, in words; None when nothing is seen."""
    if not sampling_allowed and not SAMPLING.isdisjoint(fields):
        return refused_sampling(min(SAMPLING & fields.keys()))
    max_tokens = fields.get("max_tokens", DEFAULT_MAX_TOKENS)
    if type(max_tokens) is not int or max_tokens < 0:
        return 'a "max_tokens" that is not a whole number'
    model = fields.get("model", "?")
    if type(model) is not str or not model:
        return 'a "model" that is not a name'
    betas = fields.get("betas", [])
    if type(betas) is not list or not all(type(beta) is str for beta in betas):
        return '"betas" that are not a list of names'
    return None


def refused_sampling(name: str) -> str:
    """What is wrong with a sampling field, and the two ways out."""
    return (
        f'"{name}", which API version {CURRENT_API_VERSION} no longer knows: '
        'remove it, or set api_version: "2023-06-01"'
    )


def _key(value: Any, column: str) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is not str:
        raise BadRow(f'has a "{column}" that is neither text nor a whole number')
    if not value or value.isspace():
        raise BadRow(f'has an empty "{column}"')
    if len(value) > MAX_KEY_CHARS:
        raise BadRow(f'has a "{column}" of more than {MAX_KEY_CHARS:,} characters')
    return value


def _not_blank(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any(_is_blank(turn["content"]) for turn in messages):
        raise BadRow("renders to an empty prompt")
    return messages


def _is_blank(text: Any) -> bool:
    return not text or (type(text) is str and text.isspace())
