"""The sections of a job file that say where rows come from, how variants differ, where results go, and what later
versions do: keys and kinds of values, nothing of what they mean together."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from runner.files.environment import holds_password
from runner.files.job_values import Count, Section, Size, Usd, name_of_thing

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, AfterValidator(name_of_thing)]
FORMATS = Literal["jsonl", "json", "csv", "tsv", "parquet"]

# The schema's word for a text that may stand in a file of its own.
TEXT_OR_FILE = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "required": ["$file"],
            "properties": {"$file": {"type": "string"}},
            "additionalProperties": False,
        },
    ]
}
TextOrFile = Annotated[str, Field(min_length=1), WithJsonSchema(TEXT_OR_FILE)]


def _database(url: str) -> str:
    if holds_password(url):
        raise ValueError("holds a password; a job file is no place for it: use ${NAME}, and export NAME=...")
    return url


def _folder(path: str) -> str:
    if "://" in path:
        raise ValueError("must be a folder on this disk; files are fetched one by one, and go no further")
    return path


def _statement(sql: str) -> str:
    if not sql.strip():
        raise ValueError("is empty")
    return sql


def _run(value: Any) -> Any:
    """`run: r_7f3k2m` is short for that run; `{ job: NAME, select: latest }` names the latest of a job."""
    return {"id": value} if isinstance(value, str) else value


def _dataset(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _sample(value: Any) -> int | float:
    """A number of rows, or a share of them as a float."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip())):
        share = float(found[1]) / 100
        if 0 < share <= 1:
            return share
    raise ValueError("must be a number of rows or a percentage such as 5%")


def _delimiter(value: str) -> str:
    if len(value) != 1 or value in '"\r\n':
        raise ValueError("must be one character, such as ;")
    return value


Status = Literal["succeeded", "truncated", "refused", "invalid_output", "errored", "expired", "canceled"]


class RunSection(Section):
    """An earlier run whose rows are the input."""

    id: str | None = None
    job: str | None = None
    select: Literal["latest"] = "latest"


class RowsSection(Section):
    """Which rows of that run; without it those that did not succeed."""

    status: list[Status] = []


class DatasetSection(Section):
    """A Hugging Face dataset."""

    name: Text
    config: str | None = None
    split: str = "train"
    revision: str | None = None


class InputSection(Section):
    """Where rows come from: exactly one of path, sql, dataset and run."""

    path: str | None = None
    sql: Annotated[str, AfterValidator(_statement)] | None = None
    database: Annotated[str, AfterValidator(_database)] | None = None
    dataset: Annotated[
        DatasetSection | None,
        BeforeValidator(_dataset, json_schema_input_type=DatasetSection | str | None),
    ] = None
    run: Annotated[RunSection | None, BeforeValidator(_run, json_schema_input_type=RunSection | str | None)] = None
    rows: RowsSection | None = None
    format: FORMATS | None = None
    encoding: str | None = None
    delimiter: Annotated[str, AfterValidator(_delimiter)] | None = None
    where: Text | None = None
    sample: Annotated[
        int | float | None,
        BeforeValidator(_sample),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "%\\s*$"}]}),
    ] = None
    seed: int | None = None
    unanswered: bool = False
    id: str | None = None
    cluster: str | None = None
    on_bad_row: Literal["fail", "skip"] = "fail"
    limit: Count | None = None


class OutputSection(Section):
    """Where results go: a path, or a statement done for every row."""

    path: str | None = None
    format: FORMATS | None = None
    columns: list[Text] = []
    parse: Literal["json", "text"] = "text"
    keep: list[Literal["response", "usage", "citations"]] = []
    part_rows: Count | None = None
    sql: Annotated[str, AfterValidator(_statement)] | None = None
    database: Annotated[str, AfterValidator(_database)] | None = None
    merge_into: Literal["source"] | None = None
    raw_csv: bool = False
    reask: Annotated[int, Field(ge=0, le=10)] | None = None
    files: Annotated[Text, AfterValidator(_folder)] | None = None


class VariantSection(Section):
    """One way to ask; what it does not say is as in the job."""

    name: Name
    model: Text | None = None
    prompt: TextOrFile | None = None
    system: TextOrFile | None = None
    request: dict[str, Any] = {}
    when: Text | None = None


class GraderSection(Section):
    """One judge of answers."""

    name: Name
    type: Literal["exact", "contains", "regex", "number", "json", "python", "model"]
    normalize: list[Literal["case", "whitespace", "punctuation"]] = []
    pattern: str | None = None
    python: str | None = None
    tolerance: float | None = None
    weight: Annotated[int | float, Field(ge=0)] = 1
    model: Text | None = None
    rubric: TextOrFile | None = None
    scale: list[int | float] = []
    blind: bool = True
    budget: BudgetOfGrader | None = None


class BudgetOfGrader(Section):
    usd: Usd


class GateSection(Section):
    """What an evaluation must reach."""

    min: dict[str, int | float] = {}
    max_drop_vs_baseline: Annotated[int | float, Field(ge=0)] | None = None


class EvalSection(Section):
    """How answers are judged."""

    expected: Text | None = None
    graders: Annotated[list[GraderSection], Field(min_length=1)]
    primary: str | None = None
    baseline: str | None = None
    gate: GateSection | None = None


class FilesSection(Section):
    """How files of rows are sent along."""

    dedupe: Literal["sha256"] = "sha256"
    max_bytes: Size | None = None
    delete_after: Literal["run", "never"] = "run"
