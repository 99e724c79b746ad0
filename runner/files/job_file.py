"""From a YAML file to a Job: every error at once, each with its line and column."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.domain.budget import Reserve
from runner.domain.job import (
    CURRENT_API_VERSION,
    AutoSpec,
    BatchSpec,
    BudgetSpec,
    DeleteAfter,
    InputSpec,
    Job,
    Limits,
    Mode,
    OnBadRow,
    OutputSpec,
    WarmCache,
)
from runner.domain.nearest import did_you_mean, suggest
from runner.domain.submission import OnUnknown
from runner.errors import JobInvalid
from runner.files.job_problems import problems_of
from runner.files.job_schema import BatchSection, BudgetSection, JobSection, LimitsSection
from runner.files.job_templates import rendered_path, template_problems, template_texts
from runner.files.job_yaml import MAX_FILE_BYTES, Document, Place, Problem, YamlInvalid, read_yaml
from runner.files.job_yaml import Path as KeyPath
from runner.files.render import SAMPLING, refused_sampling

SHOWN_PROBLEMS = 20
# Maps that stand for a file or a column: of a later version, and never meant to be sent as they are.
DIRECTIVES = ("$file", "$row")


def load_job(path: str, params: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> Job:
    """The job of a file. `params` are those of the command line; `overrides` name values by dotted keys.

    Raises one JobInvalid with all that is wrong as its hints.
    """
    try:
        document = read_yaml(_text(path))
    except YamlInvalid as invalid:
        raise _invalid(path, [invalid.problem]) from None
    _override(document, overrides or {})
    problems = list(_problems_together(document))
    try:
        told = JobSection.model_validate(document.values)
    except ValidationError as found:
        problems += [*problems_of(found, document), *template_problems(document)]
        raise _invalid(path, problems) from None
    merged = _merged_params(document, told.params, params or {}, problems)
    problems += template_problems(document)
    input_path = rendered_path(document, "input", merged, problems)
    output_path = rendered_path(document, "output", merged, problems)
    if problems:
        raise _invalid(path, problems)
    folder = Path() if "input.path" in (overrides or {}) else Path(path).parent
    return _job(path, told, merged, _absolute(folder, input_path), _absolute(Path(), output_path))


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise JobInvalid(f"there is no job file {path}.", hints=_near_files(path)) from None
    except OSError as problem:
        raise JobInvalid(f"{path} could not be read: {problem.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise JobInvalid(f"{path} is larger than {MAX_FILE_BYTES // 1_000_000} MB; that is no job file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise _invalid(path, [Problem(place=Place(line=line), sentence="this is not UTF-8")]) from None


def _near_files(path: str) -> tuple[str, ...]:
    folder = Path(path).parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = suggest(Path(path).name, [name for name in names if name.endswith((".yaml", ".yml"))])
    return (f"did you mean {folder / near} ?",) if near else ()


def _invalid(path: str, problems: list[Problem]) -> JobInvalid:
    ordered = sorted(problems, key=lambda problem: (problem.place or Place(line=0, column=0), problem.sentence))
    lines = [_line(path, problem) for problem in ordered[:SHOWN_PROBLEMS]]
    if len(ordered) > SHOWN_PROBLEMS:
        lines.append(f"... and {len(ordered) - SHOWN_PROBLEMS} more")
    count = "1 error" if len(ordered) == 1 else f"{len(ordered)} errors"
    return JobInvalid(f"{path} has {count}.", hints=lines)


def _line(path: str, problem: Problem) -> str:
    if problem.place is None:
        return problem.sentence
    return f"{path}:{problem.place.line}:{problem.place.column}: {problem.sentence}"


def _override(document: Document, overrides: Mapping[str, Any]) -> None:
    """Puts values in by dotted key. They have no place in the file, and what they replace has one no more."""
    values = document.values
    if "budget" in values and not isinstance(values["budget"], dict):
        values["budget"] = {"usd": values["budget"]}
        document.value_places["budget", "usd"] = document.value_places["budget",]
    for name, value in overrides.items():
        keys: KeyPath = tuple(name.split("."))
        here: Any = values
        for key in keys[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise JobInvalid(f"{name} cannot be set: {key} is not a map in this job.")
        here[keys[-1]] = copy.deepcopy(value)
        document.value_places.pop(keys, None)


def _problems_together(document: Document) -> Iterator[Problem]:
    """What no single value shows."""
    values = document.values
    batch = values.get("batch")
    if (
        isinstance(batch, dict)
        and batch.get("on_unknown") == "cancel"
        and batch.get("workspace_exclusive") is not True
    ):
        sentence = (
            "batch.on_unknown: cancel stops the batch that looks like ours, and it could be somebody else's: "
            "it needs workspace_exclusive: true, in a workspace where nobody else makes batches"
        )
        yield Problem(place=document.value_place(("batch", "on_unknown")), sentence=sentence)
    request = values.get("request")
    if not isinstance(request, dict):
        return
    for name, short in (("messages", "prompt"), ("system", "system")):
        if name in request and values.get(short) is not None:
            place = document.key_place(("request", name))
            yield Problem(place=place, sentence=f"request.{name} and {short} say the same thing: keep one of them")
    if "model" in request:
        yield Problem(place=document.key_place(("request", "model")), sentence="the model stands in model, not here")
    if values.get("api_version", CURRENT_API_VERSION) == CURRENT_API_VERSION:
        for name in sorted(SAMPLING & request.keys()):
            yield Problem(place=document.key_place(("request", name)), sentence=refused_sampling(name))
    yield from _directives(document, request, ("request",))


def _directives(document: Document, value: Any, path: KeyPath) -> Iterator[Problem]:
    if isinstance(value, dict):
        for name in DIRECTIVES:
            if name in value:
                yield Problem(
                    place=document.key_place((*path, name)), sentence=f"{name} is not supported by this version"
                )
        parts: list[tuple[str | int, Any]] = list(value.items())
    else:
        parts = list(enumerate(value)) if isinstance(value, list) else []
    for key, part in parts:
        yield from _directives(document, part, (*path, key))


def _merged_params(
    document: Document, declared: Mapping[str, Any], given: Mapping[str, Any], problems: list[Problem]
) -> dict[str, Any]:
    """The file's parameters with those of the command line, which take the kind of what they replace."""
    texts = [text for _, text in template_texts(document)]
    merged = dict(declared)
    for name, value in given.items():
        if name not in declared and not any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts):
            problems.append(
                Problem(
                    place=None, sentence=f"-p {name}: the job uses no such parameter{did_you_mean(name, declared)}"
                )
            )
        try:
            merged[name] = _of_same_kind(value, declared.get(name))
        except ValueError:
            kind = type(declared[name]).__name__
            problems.append(Problem(place=None, sentence=f"-p {name}={value}: the job has {kind} there"))
    return merged


def _of_same_kind(value: Any, before: Any) -> Any:
    if not isinstance(value, str) or before is None or isinstance(before, str):
        return value
    if isinstance(before, bool):
        return {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(before, (int, float)):
        return type(before)(value)
    return value.split(",")


def _absolute(folder: Path, path: str | None) -> str | None:
    """A path that means the same from everywhere; `-` and addresses stay."""
    if path is None or path == "-" or "://" in path:
        return path
    return str((folder / path).absolute())


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
        repeat=told.repeat,
        input=InputSpec(
            path=input_path,
            id=told.input.id,
            on_bad_row=OnBadRow(told.input.on_bad_row),
            limit=told.input.limit,
        ),
        api_version=told.api_version,
        betas=tuple(told.betas),
        headers=told.headers,
        mode=Mode(told.mode),
        output=OutputSpec(path=output_path),
        limits=_limits(told.limits),
        budget_pico=told.budget.usd if told.budget else None,
        budget=_budget(told.budget) if told.budget else BudgetSpec(),
        tags=told.tags,
        batch=_batch(told.batch),
        auto=AutoSpec(threshold=told.auto.threshold, finish_by=told.auto.finish_by),
    )


def _name_of(path: str) -> str:
    """A job without a name is called as its file is."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(path).stem)[:64]


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
        row_pico=told.row_usd,
    )
