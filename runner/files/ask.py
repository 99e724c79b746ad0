"""One way to ask: templates and fixed request fields, of a job or of one of its variants, compiled once.

The rules of precedence: the row's own request fields win over the job's, key by key; what the row says about
`stream` does not count, because how an answer travels is the program's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner.domain.attachment import MAX_FILE_BYTES, Attachment
from runner.domain.job import CURRENT_API_VERSION, DEFAULT_MAX_TOKENS, Job, Mode
from runner.domain.marking import brings_marks
from runner.domain.prefix import DECISIVE
from runner.domain.request import STREAM_ABOVE_TOKENS, refused_in_batch
from runner.domain.trap import anyway
from runner.domain.traps import traps
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow, BatchRefuses
from runner.files.request_tree import Tree, compiled_tree, constant
from runner.files.sandbox import TemplateEnvironment
from runner.files.shapes import checked_messages, fields_of
from runner.files.shared_head import shared_head

# Fields that no rule is about while their values are plain, and what every model writes at least.
HARMLESS = frozenset({"betas", "max_tokens", "messages", "metadata", "model", "stop_sequences", "system"})
EVERY_MODEL_WRITES = 64_000
SAMPLING = frozenset({"temperature", "top_p", "top_k"})


class Ask:
    """What `job` asks of a row. A field that a row brings and that has no counterpart is told to `drop`.

    `batch_refuses` is the first of the job's own fields that a batch refuses, None where a batch takes them all.
    `head` is what its requests all begin with, as far as it could be marked for the prompt cache.
    """

    def __init__(self, job: Job, environment: TemplateEnvironment, drop: Callable[[str], None]) -> None:
        self._drop = drop
        self._api_version = job.api_version
        self._allow = frozenset(job.allow)
        self._sampling_allowed = job.api_version != CURRENT_API_VERSION or "sampling" in self._allow
        self._messages = _messages_tree(environment, job)
        for file in self._messages.files if self._messages else ():
            file.max_bytes = min(job.files.max_bytes or MAX_FILE_BYTES, MAX_FILE_BYTES)
        self._system = _system_tree(environment, job)
        self._templates = (*(self._messages.templates if self._messages else ()), *self._system.templates)
        for template in self._templates:
            template.check_params(job.params)
        self._fixed = self._fixed_fields(job)
        self.batch_refuses = self._refused_in_batch(job.request)
        if job.mode is Mode.BATCH and self.batch_refuses is not None:
            raise not_in_batches(self.batch_refuses)
        self.model = job.model or job.request.get("model")
        self.head = shared_head(job, environment)
        self._own_system = self._system.build({}, {}) if self._system.constant else None
        self._may_bring_marks = self._messages is None or not self._messages.looks_sure
        if self._messages is not None and not self.model:
            raise no_model()

    @property
    def has_template(self) -> bool:
        """Does the job say what to ask? Else each row brings its own request."""
        return self._messages is not None

    def attachment(self, mark: str) -> Attachment | None:
        """What a mark in the body stands for, while it is fresh."""
        files = self._messages.files if self._messages else ()
        return next((file.marked[mark] for file in files if mark in file.marked), None)

    @property
    def brings_files(self) -> bool:
        return self._messages is not None and bool(self._messages.files)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that its templates name."""
        return frozenset(column for template in self._templates for column in template.columns)

    def body(
        self, row: Mapping[str, Any], names: Mapping[str, Any], *, batch: bool = False, least_tokens: int = 0
    ) -> dict[str, Any]:
        """The request of a row as a value; `betas`, if the row brings any, are still in it. Raises BadRow.

        `least_tokens`: no fewer `max_tokens` than these, because answers were cut off before.
        """
        if batch and self.batch_refuses is not None:
            raise BatchRefuses(self.batch_refuses)
        known = {**row, "row": row, **names} if self._templates else {}
        body = {"model": self.model, "max_tokens": DEFAULT_MAX_TOKENS, **self._fixed}
        body["system"] = self._system.build(row, known)
        if self._messages is None:
            body |= self._fields_of_row(row, batch=batch)
        else:
            body["messages"] = _not_blank(self._messages.build(row, known))
        if _is_blank(body["system"]):
            del body["system"]
        body.pop("stream", None)
        if body["max_tokens"] < least_tokens:
            body["max_tokens"] = least_tokens
        if not batch and body["max_tokens"] > STREAM_ABOVE_TOKENS:
            body["stream"] = True
        return body

    def marked(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with a mark at the end of what all begin with; as it is, where the row brings marks of its own or
        begins otherwise."""
        if self.head is None or body["model"] != self.model:
            return body
        if self._messages is None and not self._begins_alike(body):
            return body
        return body if self._may_bring_marks and brings_marks(body) else self.head.marked(body)

    def _begins_alike(self, body: Mapping[str, Any]) -> bool:
        """Whether the row's own fields leave alone what a kept beginning depends on."""
        others = (name for name in DECISIVE if name not in ("model", "system"))
        return body.get("system") == self._own_system and all(
            body.get(name) == self._fixed.get(name) for name in others
        )

    def check(self, row: Mapping[str, Any], *, batch: bool) -> bool:
        """Can it be told without rendering that there is a request? Raises BadRow where a look shows that not."""
        if self._messages is None:
            self._check_traps(self._fields_of_row(row, batch=batch), batch=batch)
        elif not self._messages.looks_sure or not all(one.surely_has_text(row) for one in self._messages.templates):
            return False
        columns = row.keys()
        return all(template.plain and template.columns <= columns for template in self._system.templates)

    def _fields_of_row(self, row: Mapping[str, Any], *, batch: bool) -> dict[str, Any]:
        fields = fields_of(row, sampling_allowed=self._sampling_allowed, drop=self._drop)
        if len(fields) > 1:
            self._check_fields(fields, batch=batch)
        if not self.model and "model" not in fields:
            raise BadRow("names no model, and the job names none either: set one with -m MODEL")
        return fields

    def _check_fields(self, fields: Mapping[str, Any], *, batch: bool) -> None:
        problem = _problem_with(fields, sampling_allowed=self._sampling_allowed)
        if problem:
            raise BadRow(f"has {problem}")
        refused = self._refused_in_batch(fields) if batch else None
        if refused is not None:
            raise BatchRefuses(refused)

    def _check_traps(self, fields: Mapping[str, Any], *, batch: bool) -> None:
        """What the API would refuse of a row that brings its own request. Of the job's own fields it was told with
        their lines in the job file."""
        if self._looks_harmless(fields):
            return
        body = {**self._fixed, **fields}
        model = body.get("model", self.model)
        found = traps(body, model=model, api_version=self._api_version, batch=batch)
        trap = next((one for one in found if one.rule not in self._allow), None)
        if trap is not None:
            raise BadRow(f"would be refused: {trap.place}: {trap.told}")

    def _refused_in_batch(self, fields: Mapping[str, Any]) -> str | None:
        return None if "batch" in self._allow else refused_in_batch(fields)

    def _looks_harmless(self, fields: Mapping[str, Any]) -> bool:
        """Most rows hold nothing that any rule is about; a look at their names tells."""
        return (
            fields.keys() <= HARMLESS
            and self._fixed.keys() <= HARMLESS
            and fields.get("max_tokens", self._fixed.get("max_tokens", 0)) <= EVERY_MODEL_WRITES
            and type(fields.get("system", "")) is str
            and _is_plain(fields["messages"])
        )

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
            files=content.files,
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
        f'remove it, or set api_version: "2023-06-01" ({anyway("sampling")})'
    )


def _is_plain(messages: list[dict[str, Any]]) -> bool:
    """Texts of a user's turn at the end: nothing in it could be a trap."""
    return messages[-1].get("role") == "user" and all(
        type(turn.get("content")) is str and turn.get("role") != "system" for turn in messages
    )


def _not_blank(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any(_is_blank(turn["content"]) for turn in messages):
        raise BadRow("renders to an empty prompt")
    return messages


def _is_blank(text: Any) -> bool:
    return not text or (type(text) is str and text.isspace())
