"""The keys of a job file and the kinds of their values. What they mean together stands in `job_file`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from runner.domain.budget import DEFAULT_WARN_SHARE
from runner.domain.job import API_VERSIONS, DEFAULT_AUTO_THRESHOLD, DEFAULT_CONCURRENCY, BatchSpec, Limits
from runner.domain.pace import MOST_CALLS
from runner.domain.packing import API_MAX_REQUESTS
from runner.files.job_automation import NotifySection, ScheduleSection
from runner.files.job_sections import (
    EvalSection,
    FilesSection,
    InputSection,
    Name,
    OutputSection,
    TextOrFile,
    VariantSection,
)
from runner.files.job_values import (
    NUMBER_OR_TEXT,
    PYTHON_NAME,
    BatchSize,
    Count,
    Duration,
    Section,
    Share,
    Usd,
    amount_alone,
    beta_name,
    cache_age,
    failures,
    header_name,
    header_value,
    known_api_version,
    module_and_name,
    trap_name,
    when_to_finish,
)

MAX_REPEAT = 1_000


class PerSection(Section):
    """Caps of all runs of the job together, by UTC days and months. Held in pico-dollars."""

    day: Usd | None = None
    month: Usd | None = None


class BudgetSection(Section):
    """`usd` is held in pico-dollars, `warn_at` as a share."""

    usd: Usd | None = None
    per: PerSection = PerSection()
    warn_at: Share = DEFAULT_WARN_SHARE
    reserve: Literal["worst", "likely"] = "worst"
    on_reach: Literal["pause"] = "pause"


class LimitsSection(Section):
    concurrency: Annotated[int, Field(ge=1, le=MOST_CALLS)] = DEFAULT_CONCURRENCY
    rpm: Count | None = None
    itpm: Count | None = None
    otpm: Count | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Limits().max_attempts
    max_turns: Annotated[int, Field(ge=1, le=100)] = Limits().max_turns
    row_timeout: Duration = Limits().row_timeout_s
    row_usd: Usd | None = None
    max_failures: Annotated[int | float | None, BeforeValidator(failures), WithJsonSchema(NUMBER_OR_TEXT)] = None
    truncated_max_tokens: Count | None = None


class BatchSection(Section):
    max_requests: Annotated[int, Field(ge=1, le=API_MAX_REQUESTS)] | None = None
    max_bytes: BatchSize = BatchSpec().max_bytes
    max_queued: Count | None = None
    on_unknown: Literal["wait", "cancel", "resubmit"] = "wait"
    workspace_exclusive: bool = False
    delete_after: Literal["never", "ingest"] = "never"
    probe: bool = True
    warm_cache: Literal["auto", "never"] = "auto"


class AutoSection(Section):
    threshold: Count = DEFAULT_AUTO_THRESHOLD
    finish_by: Annotated[str | None, BeforeValidator(when_to_finish), WithJsonSchema({"type": "string"})] = None


class ToolSection(Section):
    """A tool of our own, named as in `request.tools`."""

    python: Annotated[str, AfterValidator(module_and_name), Field(json_schema_extra={"pattern": PYTHON_NAME})]
    timeout: Duration = 30.0
    idempotent: bool = True


# `max_turns` stands among the tools, as a number.
Tool = Annotated[
    Annotated[ToolSection, Tag("tool")] | Annotated[int, Tag("number")],
    Discriminator(lambda value: "number" if isinstance(value, int) else "tool"),
]


class JobSection(Section):
    """A whole job file."""

    version: Literal[1] = 1
    extends: str | None = None
    name: Name | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    prompt: TextOrFile | None = None
    system: TextOrFile | None = None
    request: dict[str, Any] = {}
    input: InputSection = InputSection()
    output: OutputSection = OutputSection()
    mode: Literal["live", "batch", "auto"] = "live"
    batch: BatchSection = BatchSection()
    auto: AutoSection = AutoSection()
    limits: LimitsSection = LimitsSection()
    budget: Annotated[
        BudgetSection | None,
        BeforeValidator(amount_alone, json_schema_input_type=BudgetSection | int | float | str | None),
    ] = None
    api_version: Annotated[str, AfterValidator(known_api_version)] = API_VERSIONS[0]
    allow: list[Annotated[str, AfterValidator(trap_name)]] = []
    betas: list[Annotated[str, AfterValidator(beta_name)]] = []
    headers: dict[Annotated[str, AfterValidator(header_name)], Annotated[str, AfterValidator(header_value)]] = {}
    params: dict[str, Any] = {}
    repeat: Annotated[int, Field(ge=1, le=MAX_REPEAT)] = 1
    variants: list[VariantSection] = []
    match: Literal["all", "first"] = "all"
    seed: int = 0
    ask_once: bool = False
    answer_cache: Annotated[
        bool | float,
        BeforeValidator(cache_age),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]}),
    ] = False
    prompt_cache: Literal["auto", "never"] = "auto"
    tags: dict[str, str] = {}
    notify: list[NotifySection] = []
    files: FilesSection | None = None
    schedule: ScheduleSection | None = None
    eval: EvalSection | None = None
    tools: dict[str, Tool] = {}


# Keys that mean something elsewhere, with what to do instead.
REFUSED_KEYS = {
    "base_url": "base_url may not stand in a job file: whoever wrote the file would receive your key. "
    "Use --base-url or ANTHROPIC_BASE_URL",
    "api_key": "keys do not belong in a job file: use ANTHROPIC_API_KEY",
    "budget.per.week": "budget.per.week is not kept: a budget is for a UTC day or month; use day or month",
}
# Blocks that are checked and cannot be carried out yet.
LATER_BLOCKS = ("eval", "tools")
