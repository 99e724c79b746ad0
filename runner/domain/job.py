"""The job: what to ask, of which model, within which limits. Frozen values, checked when the file is read.

`files/job_file.py` makes a Job from YAML, `cli` from flags; a run keeps the job as it was when it began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, field, to_builtins
from msgspec.structs import fields, replace

from runner.domain.budget import DEFAULT_WARN_SHARE, Reserve
from runner.domain.decide import RetryPolicy
from runner.domain.notify import NotifyRule, rules_from
from runner.domain.packing import DEFAULT_MAX_BYTES
from runner.domain.schedule import ScheduleSpec, spec_from
from runner.domain.submission import OnUnknown

T = TypeVar("T")

CURRENT_API_VERSION = "2026-10-21"
API_VERSIONS = (CURRENT_API_VERSION, "2023-06-01")
DEFAULT_BASE_URL = "https://api.anthropic.com"
# Enough for thinking, which is on by default in current models and counts against it, and a page of answer.
DEFAULT_MAX_TOKENS = 4096
# About 100 answers a minute at a few seconds each: inside the smallest tier's 1,000 requests a minute.
DEFAULT_CONCURRENCY = 32
# In auto mode: fewer rows than this are answered sooner than a batch is worth waiting for.
DEFAULT_AUTO_THRESHOLD = 2_000

# Rows of one part of an output in parts.
DEFAULT_PART_ROWS = 100_000
# In the path of an output: the name of the run, which is known only when there is one.
RUN_NAME = "{run}"
# How often an answer that breaks its schema is asked for again.
DEFAULT_REASKS = 2


class Mode(StrEnum):
    LIVE = "live"
    BATCH = "batch"
    AUTO = "auto"


class OnBadRow(StrEnum):
    FAIL = "fail"
    SKIP = "skip"


class Limits(Struct, frozen=True, kw_only=True):
    """How fast, how long and how wrong a run may go. Minutes-based limits as the API states them.

    `truncated_max_tokens`: in later rounds answers may be so long, and those that were cut off are asked again.
    `row_pico` is what the job's author says that a call can cost at most, where nothing else bounds it.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    max_attempts: int = 5
    max_turns: int = 10
    row_timeout_s: float = 600.0
    max_failures: int | None = None
    max_failures_share: float | None = None
    stall_s: float = 900.0
    truncated_max_tokens: int | None = None
    row_pico: int | None = None

    def policy(self) -> RetryPolicy:
        return RetryPolicy(max_attempts=self.max_attempts, max_turns=self.max_turns)


class WarmCache(StrEnum):
    """Whether one row goes ahead to fill the prompt cache where rows share a prefix."""

    AUTO = "auto"  # where it pays
    NEVER = "never"


class PromptCache(StrEnum):
    """Whether a mark for the prompt cache is put where all requests begin alike and none was placed."""

    AUTO = "auto"  # where it pays
    NEVER = "never"


class DeleteAfter(StrEnum):
    """When a batch is deleted at the provider, who otherwise keeps its results for 29 days."""

    NEVER = "never"
    INGEST = "ingest"  # as soon as its results are stored here


class BatchSpec(Struct, frozen=True, kw_only=True):
    """How batches are made and looked after.

    `max_requests` None: as many as the API takes, or the environment says. `max_bytes` is of a create's body.
    `max_queued` counts requests with the API at once, over all batches of the run; None: until the API refuses.
    `workspace_exclusive` states that nobody else makes batches in this workspace. With `probe` one row of each
    parameter shape goes ahead of a large batch.
    """

    max_requests: int | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    max_queued: int | None = None
    on_unknown: OnUnknown = OnUnknown.WAIT
    workspace_exclusive: bool = False
    delete_after: DeleteAfter = DeleteAfter.NEVER
    probe: bool = True
    warm_cache: WarmCache = WarmCache.AUTO


class AutoSpec(Struct, frozen=True, kw_only=True):
    """What decides between live and batch in auto mode: the number of rows, and when they have to be there.

    `finish_by` as it was written; `deadline.deadline_us` says which moment it means. None: no hurry.
    """

    threshold: int = DEFAULT_AUTO_THRESHOLD
    finish_by: str | None = None


class BudgetSpec(Struct, frozen=True, kw_only=True):
    """What the job says of money beside its run's cap. Caps are of all its runs together, by UTC days and months.

    From `warn_share` of any cap on a warning is said.
    """

    per_day_pico: int | None = None
    per_month_pico: int | None = None
    warn_share: float = DEFAULT_WARN_SHARE
    reserve: Reserve = Reserve.WORST

    @property
    def has_cap(self) -> bool:
        return self.per_day_pico is not None or self.per_month_pico is not None


class InputSpec(Struct, frozen=True, kw_only=True):
    """Where rows come from, and which of them are asked.

    One of the doors: `path` (a file, a pattern, `-` for stdin, an address), `sql` on `database`, a Hugging Face
    `dataset`, or the rows of another `run` that ended in one of `statuses` (a run's label, or a job's name for its
    latest run). `format`, `encoding` and `delimiter` go before what a file's name says.

    `where` keeps rows for which it is true, `sample` keeps so many by chance, `sample_share` such a share, both by
    `seed`; with `unanswered` rows are left out that an earlier run of this job has answered. `id` names the field
    that holds a row's own key, `cluster` the one that says which rows belong together.
    """

    path: str | None = None
    sql: str | None = None
    database: str | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    split: str | None = None
    revision: str | None = None
    run: str | None = None
    statuses: tuple[str, ...] = ()
    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    where: str | None = None
    sample: int | None = None
    sample_share: float | None = None
    seed: int = 0
    unanswered: bool = False
    id: str | None = None
    cluster: str | None = None
    on_bad_row: OnBadRow = OnBadRow.FAIL
    limit: int | None = None

    @property
    def doors(self) -> list[str]:
        """Which doors are named; a run has exactly one."""
        return [name for name in ("path", "sql", "dataset", "run") if getattr(self, name) is not None]


class OutputSpec(Struct, frozen=True, kw_only=True):
    """Where results go and what is in them.

    `path` is a file, `-` for stdout, an address, or holds `{n}` for parts of `part_rows` rows; or `sql` is done on
    `database` with the values of each succeeded row. `format` goes before what the name says. `columns` are taken of
    the row, the answer and the result; without them a table has all. With `parse_json` the answer is read as JSON
    though no schema was asked for. `keep` names parts of the service's reply that lines hold too. With
    `merge_into_source` the rows of the run that the input is are written, with what was answered here put in.
    With `raw_csv` nothing is done about cells that spreadsheets take for formulas. Into the folder `files`, a
    template over a row's columns, files are fetched that code execution and skills have written for it.
    """

    path: str | None = None
    format: str | None = None
    columns: tuple[str, ...] = ()
    parse_json: bool = False
    keep: tuple[str, ...] = ()
    part_rows: int = DEFAULT_PART_ROWS
    sql: str | None = None
    database: str | None = None
    merge_into_source: bool = False
    raw_csv: bool = False
    files: str | None = None


class Match(StrEnum):
    """Whether every variant answers every row, or the first that fits."""

    ALL = "all"
    FIRST = "first"


class Variant(Struct, frozen=True, kw_only=True):
    """One way to ask. What is None or empty is as in the job; `request` goes over the job's, key by key.

    `when`, with `match: first`, is an expression over the row; one that names `result` is looked at when an earlier
    variant has answered, and asks again with this one where it is true.
    """

    name: str
    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    when: str | None = None


class FilesStay(StrEnum):
    """Until when files that were uploaded for a run stay at the service."""

    NEVER = "never"  # they are never deleted by the run
    RUN = "run"  # until it has ended


class FilesSpec(Struct, frozen=True, kw_only=True):
    """Files of rows: the largest that is sent, and when they are deleted at the service."""

    max_bytes: int | None = None
    delete_after: FilesStay = FilesStay.NEVER


class AnswerSpec(Struct, frozen=True, kw_only=True):
    """What is done with answers that are to follow a schema: how often one that does not is asked for again."""

    reask: int = DEFAULT_REASKS


class Job(Struct, frozen=True, kw_only=True):
    """Everything a run needs to know but its rows, its key and its store.

    `request` is the Messages API body, names untouched; `prompt` and `system` are the short forms. The last group
    of fields may change when a run is resumed; everything above it is the run's identity. With `ask_once` rows whose
    requests are the same are asked once, and all have the answer; repeats of a row are asked each. With
    `answer_cache` answers of earlier runs that had one of the two are taken too, no older than `answer_max_age_s`.
    """

    name: str
    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    match: Match = Match.ALL
    repeat: int = 1
    answer: AnswerSpec = AnswerSpec()
    ask_once: bool = False
    answer_cache: bool = False
    answer_max_age_s: float | None = None
    input: InputSpec = InputSpec()
    api_version: str = CURRENT_API_VERSION
    betas: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    base_url: str = DEFAULT_BASE_URL
    simulated: bool = False

    mode: Mode = Mode.LIVE
    output: OutputSpec = OutputSpec()
    limits: Limits = Limits()
    budget_pico: int | None = None
    budget: BudgetSpec = BudgetSpec()
    tags: Mapping[str, str] = field(default_factory=dict)
    prompt_cache: PromptCache = PromptCache.AUTO
    batch: BatchSpec = BatchSpec()
    auto: AutoSpec = AutoSpec()
    schedule: ScheduleSpec | None = None
    notify: tuple[NotifyRule, ...] = ()
    files: FilesSpec = FilesSpec()
    # Rules by which the API is said to refuse something, and which are not heeded (`traps.TRAP_NAMES`).
    allow: tuple[str, ...] = ()
    # What a retry asks otherwise: it goes over the job and its variants for the rows that are asked from now on.
    instead: Variant | None = None
    # Blocks of the file that this version checks and cannot yet carry out.
    later: tuple[str, ...] = ()

    @property
    def fan(self) -> int:
        """Rows that each record makes: variants times repeats."""
        return self.repeat * (len(self.variants) if self.variants and self.match is Match.ALL else 1)

    def place_in_fan(self, place: int) -> tuple[int, int]:
        """Variant and repeat of a record's row at this place."""
        return divmod(place, self.repeat)

    @property
    def collapses(self) -> bool:
        """Whether rows that ask the same are looked for."""
        return self.ask_once or self.answer_cache

    def identity(self) -> str:
        """A hash that two jobs share exactly when they ask the same thing: hex, 32 characters.

        What a job does not use is left out, so that a release that adds a field finds older runs again.
        """
        told = {name: getattr(self, name) for name in IDENTITY_FIELDS if getattr(self, name)}
        for name, default in (("match", Match.ALL), ("answer", AnswerSpec())):
            if told.get(name) == default:
                del told[name]
        always = ("path", "id", "limit", "on_bad_row")
        told["input"] = {
            f.name: getattr(self.input, f.name)
            for f in fields(InputSpec)
            if f.name in always or getattr(self.input, f.name)
        }
        text = json.dumps(told, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def prompt_hash(self) -> str:
        """A hash of what is asked, without of what: hex, 64 characters."""
        told = [self.prompt, self.system, self.request, to_builtins(self.variants), self.params]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def to_json(self) -> str:
        """The snapshot that a run keeps."""
        return json.dumps(to_builtins(self))

    @staticmethod
    def from_json(text: str) -> Job:
        """The job of a snapshot made by `to_json`, of this release or an older one."""
        told = json.loads(text)
        told["input"] = _input_of(told["input"])
        told["output"] = _with_tuples(OutputSpec, told["output"])
        told["variants"] = tuple(Variant(**variant) for variant in told.get("variants", ()))
        told["match"] = Match(told.get("match", Match.ALL))
        told["answer"] = AnswerSpec(**told.get("answer", {}))
        told["files"] = _files_of(told.get("files", {}))
        told["instead"] = Variant(**told["instead"]) if told.get("instead") else None
        told["allow"] = tuple(told.get("allow", ()))
        told["later"] = tuple(told.get("later", ()))
        told["limits"] = Limits(**told["limits"])
        told["mode"] = Mode(told["mode"])
        told["prompt_cache"] = PromptCache(told.get("prompt_cache", PromptCache.AUTO))
        told["betas"] = tuple(told["betas"])
        told["batch"] = _batch_of(told.get("batch", {}))
        told["auto"] = AutoSpec(**told.get("auto", {}))
        told["schedule"] = spec_from(told.get("schedule"))
        told["notify"] = rules_from(told.get("notify", ()))
        budget = told.get("budget", {})
        told["budget"] = BudgetSpec(**budget | {"reserve": Reserve(budget.get("reserve", Reserve.WORST))})
        return Job(**told)

    def with_changes_of(self, other: Job) -> Job:
        """This job, with what may change on resume taken from `other`."""
        return replace(self, **{name: getattr(other, name) for name in CHANGEABLE_FIELDS})


def _with_tuples(kind: type[T], told: Mapping[str, Any]) -> T:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def _input_of(told: Mapping[str, Any]) -> InputSpec:
    return replace(_with_tuples(InputSpec, told), on_bad_row=OnBadRow(told["on_bad_row"]))


def _files_of(told: Mapping[str, Any]) -> FilesSpec:
    stay = FilesStay(told.get("delete_after", FilesStay.NEVER))
    return FilesSpec(max_bytes=told.get("max_bytes"), delete_after=stay)


def _batch_of(told: Mapping[str, Any]) -> BatchSpec:
    words: dict[str, Callable[[str], Any]] = {
        "on_unknown": OnUnknown,
        "delete_after": DeleteAfter,
        "warm_cache": WarmCache,
    }
    return BatchSpec(**{name: words[name](value) if name in words else value for name, value in told.items()})


CHANGEABLE_FIELDS = (
    "mode", "output", "limits", "budget_pico", "budget", "tags", "prompt_cache", "batch", "auto", "schedule",
    "notify", "files", "allow", "instead", "later",
)  # fmt: skip
IDENTITY_FIELDS = tuple(f.name for f in fields(Job) if f.name not in (*CHANGEABLE_FIELDS, "input"))
