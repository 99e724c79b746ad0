"""From a YAML file to a Job: every error at once, each with its line and column."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.domain.budget import Reserve
from runner.domain.job import (
    RUN_NAME,
    AnswerSpec,
    AutoSpec,
    BatchSpec,
    BudgetSpec,
    DeleteAfter,
    FilesSpec,
    FilesStay,
    InputSpec,
    Job,
    Limits,
    Match,
    Mode,
    OnBadRow,
    OutputSpec,
    PromptCache,
    Variant,
    WarmCache,
)
from runner.domain.submission import OnUnknown
from runner.errors import JobInvalid
from runner.files.job_layers import LayerInvalid, read_job
from runner.files.job_params import resolved_params
from runner.files.job_problems import problems_of
from runner.files.job_rules import problems_together
from runner.files.job_schema import LATER_BLOCKS, BatchSection, BudgetSection, JobSection, LimitsSection
from runner.files.job_sections import FilesSection, InputSection, OutputSection, VariantSection
from runner.files.job_templates import column_place, names_in_sql, rendered_path, template_problems, template_texts
from runner.files.job_yaml import Document, Place, Problem
from runner.files.job_yaml import Path as KeyPath

SHOWN_PROBLEMS = 20


def load_job(
    path: str,
    params: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    today: date | None = None,
) -> Job:
    """The job of a file. `params` are those of the command line; `overrides` name values by dotted keys; `today` is
    what dates such as `yesterday` are counted from, here and now when it is not told.

    Raises one JobInvalid with all that is wrong as its hints.
    """
    problems: list[Problem] = []
    try:
        document = read_job(path, problems)
    except LayerInvalid as invalid:
        raise _invalid(path, [invalid.problem]) from None
    _override(document, overrides or {})
    problems += problems_together(document)
    told = _sections(path, document, problems)
    used = [*(text for _, text in template_texts(document)), names_in_sql(document)]
    merged, wrong = resolved_params(document, told.params, params or {}, used, today or _today())
    problems += [*wrong, *template_problems(document)]
    input_path = rendered_path(document, "input", merged, problems)
    output_path = rendered_path(document, "output", merged, problems, run=RUN_NAME)
    if problems:
        raise _invalid(path, problems)
    return _job(path, told, merged, _absolute(input_path), _absolute(output_path))


def place_of_column(path: str, column: str) -> str | None:
    """`job.yaml:9:14`, where the file names this column first; None where it does not."""
    document = read_job(path, [])
    place = column_place(document, column)
    return None if place is None else f"{place.file or path}:{place.line}:{place.column}"


def _today() -> date:
    return datetime.now().astimezone().date()


def _sections(path: str, document: Document, problems: list[Problem]) -> JobSection:
    try:
        return JobSection.model_validate(document.values)
    except ValidationError as found:
        problems += [*problems_of(found, document), *template_problems(document)]
        raise _invalid(path, problems) from None


def _invalid(path: str, problems: list[Problem]) -> JobInvalid:
    ordered = sorted(set(problems), key=_order)
    lines = [_line(path, problem) for problem in ordered[:SHOWN_PROBLEMS]]
    if len(ordered) > SHOWN_PROBLEMS:
        lines.append(f"... and {len(ordered) - SHOWN_PROBLEMS} more")
    count = "1 error" if len(ordered) == 1 else f"{len(ordered)} errors"
    return JobInvalid(f"{path} has {count}.", hints=lines)


def _order(problem: Problem) -> tuple[str, int, int, str]:
    place = problem.place or Place(line=0, column=0)
    return place.file or "", place.line, place.column, problem.sentence


def _line(path: str, problem: Problem) -> str:
    place = problem.place
    return (
        problem.sentence if place is None else f"{place.file or path}:{place.line}:{place.column}: {problem.sentence}"
    )


def _override(document: Document, overrides: Mapping[str, Any]) -> None:
    """Puts values in by dotted key. They have no place in the file, and what they replace has one no more."""
    values = document.values
    if "budget" in values and not isinstance(values["budget"], dict):
        values["budget"] = {"usd": values["budget"]}
        document.value_places["budget", "usd"] = document.value_places["budget",]
    if "input.path" in overrides and isinstance(values.get("input"), dict):
        for door in ("sql", "database", "dataset", "run", "rows"):
            values["input"].pop(door, None)
    if "output.path" in overrides and isinstance(values.get("output"), dict):
        for door in ("sql", "database"):
            values["output"].pop(door, None)
    for name, value in overrides.items():
        keys: KeyPath = tuple(name.split("."))
        here: Any = values
        for key in keys[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise JobInvalid(f"{name} cannot be set: {key} is not a map in this job.")
        of_input = name == "input.path" and isinstance(value, str)
        here[keys[-1]] = _absolute(value) if of_input else copy.deepcopy(value)
        if value is None:
            del here[keys[-1]]
        document.value_places.pop(keys, None)


def _absolute(path: str | None) -> str | None:
    """A path that means the same from everywhere; `-` and addresses stay."""
    if path is None or path == "-" or "://" in path:
        return path
    return str(Path(path).absolute())


def _job(
    path: str, told: JobSection, params: Mapping[str, Any], input_path: str | None, output_path: str | None
) -> Job:
    return Job(
        name=told.name or _name_of(path),
        model=told.model,
        prompt=told.prompt,
        system=told.system,
        request=told.request,
        params=params,
        variants=tuple(_variant(one) for one in told.variants),
        match=Match(told.match),
        repeat=told.repeat,
        answer=AnswerSpec() if told.output.reask is None else AnswerSpec(reask=told.output.reask),
        ask_once=told.ask_once,
        answer_cache=told.answer_cache is not False,
        answer_max_age_s=None if isinstance(told.answer_cache, bool) else told.answer_cache,
        input=_input(told.input, input_path, told.seed),
        api_version=told.api_version,
        betas=tuple(told.betas),
        headers=told.headers,
        mode=Mode(told.mode),
        output=_output(told.output, output_path),
        limits=_limits(told.limits),
        budget_pico=told.budget.usd if told.budget else None,
        budget=_budget(told.budget) if told.budget else BudgetSpec(),
        tags=told.tags,
        prompt_cache=PromptCache(told.prompt_cache),
        batch=_batch(told.batch),
        auto=AutoSpec(threshold=told.auto.threshold, finish_by=told.auto.finish_by),
        files=_files(told.files),
        allow=tuple(told.allow),
        schedule=None if told.schedule is None else told.schedule.spec(),
        notify=tuple(section.rule() for section in told.notify),
        later=tuple(name for name in LATER_BLOCKS if getattr(told, name)),
    )


def _name_of(path: str) -> str:
    """A job without a name is called as its file is."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(path).stem)[:64]


def _variant(told: VariantSection) -> Variant:
    return Variant(
        name=told.name,
        model=told.model,
        prompt=told.prompt,
        system=told.system,
        request=told.request,
        when=told.when,
    )


def _input(told: InputSection, path: str | None, seed: int) -> InputSpec:
    dataset, run, sample = told.dataset, told.run, told.sample
    return InputSpec(
        path=path,
        sql=told.sql,
        database=told.database,
        dataset=dataset.name if dataset else None,
        dataset_config=dataset.config if dataset else None,
        split=dataset.split if dataset else None,
        revision=dataset.revision if dataset else None,
        run=(run.id or run.job) if run else None,
        statuses=tuple(told.rows.status) if told.rows else (),
        format=told.format,
        encoding=told.encoding,
        delimiter=told.delimiter,
        where=told.where,
        sample=sample if isinstance(sample, int) else None,
        sample_share=sample if isinstance(sample, float) else None,
        seed=seed if told.seed is None else told.seed,
        unanswered=told.unanswered,
        id=told.id,
        cluster=told.cluster,
        on_bad_row=OnBadRow(told.on_bad_row),
        limit=told.limit,
    )


def _output(told: OutputSection, path: str | None) -> OutputSpec:
    return OutputSpec(
        path=path,
        format=told.format,
        columns=tuple(told.columns),
        parse_json=told.parse == "json",
        keep=tuple(told.keep),
        part_rows=told.part_rows or OutputSpec().part_rows,
        sql=told.sql,
        database=told.database,
        merge_into_source=told.merge_into is not None,
        raw_csv=told.raw_csv,
        files=_absolute(told.files),
    )


def _files(told: FilesSection | None) -> FilesSpec:
    if told is None:
        return FilesSpec()
    return FilesSpec(max_bytes=told.max_bytes, delete_after=FilesStay(told.delete_after))


def _budget(told: BudgetSection) -> BudgetSpec:
    return BudgetSpec(
        per_day_pico=told.per.day,
        per_month_pico=told.per.month,
        warn_share=told.warn_at,
        reserve=Reserve(told.reserve),
    )


def _batch(told: BatchSection) -> BatchSpec:
    return BatchSpec(
        max_requests=told.max_requests,
        max_bytes=told.max_bytes,
        max_queued=told.max_queued,
        on_unknown=OnUnknown(told.on_unknown),
        workspace_exclusive=told.workspace_exclusive,
        delete_after=DeleteAfter(told.delete_after),
        probe=told.probe,
        warm_cache=WarmCache(told.warm_cache),
    )


def _limits(told: LimitsSection) -> Limits:
    failures = told.max_failures
    return Limits(
        concurrency=told.concurrency,
        rpm=told.rpm,
        itpm=told.itpm,
        otpm=told.otpm,
        max_attempts=told.max_attempts,
        max_turns=told.max_turns,
        row_timeout_s=told.row_timeout,
        max_failures=failures if isinstance(failures, int) else None,
        max_failures_share=failures if isinstance(failures, float) else None,
        truncated_max_tokens=told.truncated_max_tokens,
        row_pico=told.row_usd,
    )
