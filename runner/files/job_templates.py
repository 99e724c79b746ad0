"""The templates inside a job file: where they stand, whether they are templates at all, and paths made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.files.bad_row import BadRow
from runner.files.job_yaml import Document, Place, Problem
from runner.files.job_yaml import Path as KeyPath
from runner.files.sandbox import TemplateEnvironment
from runner.files.template import RowTemplate, TemplateInvalid, is_template


def dotted(path: KeyPath) -> str:
    """`limits.rpm`, `betas[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def template_texts(document: Document) -> list[tuple[KeyPath, str]]:
    """Every text of the job that is a template, with its path."""
    found: list[tuple[KeyPath, str]] = []
    request = document.values.get("request")
    request = request if isinstance(request, dict) else {}
    for path, value in (
        (("prompt",), document.values.get("prompt")),
        (("system",), document.values.get("system")),
        (("request", "messages"), request.get("messages")),
        (("request", "system"), request.get("system")),
        (("input", "path"), _inner(document, "input")),
        (("output", "path"), _inner(document, "output")),
        (("output", "files"), _inner(document, "output", "files")),
        (("eval", "expected"), _inner(document, "eval", "expected")),
    ):
        found += _texts_in(value, path)
    return found + _texts_of_variants(document)


def _texts_of_variants(document: Document) -> list[tuple[KeyPath, str]]:
    variants = document.values.get("variants")
    found: list[tuple[KeyPath, str]] = []
    for number, variant in enumerate(variants if isinstance(variants, list) else ()):
        if not isinstance(variant, dict):
            continue
        for name in ("prompt", "system"):
            found += _texts_in(variant.get(name), ("variants", number, name))
        request = variant.get("request")
        for name in ("messages", "system"):
            part = request.get(name) if isinstance(request, dict) else None
            found += _texts_in(part, ("variants", number, "request", name))
    return found


def names_in_sql(document: Document) -> str:
    """The statement whose `:names` parameters may fill."""
    sql = _inner(document, "input", "sql")
    return sql if isinstance(sql, str) else ""


def _inner(document: Document, section: str, name: str = "path") -> Any:
    told = document.values.get(section)
    return told.get(name) if isinstance(told, dict) else None


def _texts_in(value: Any, path: KeyPath) -> list[tuple[KeyPath, str]]:
    if isinstance(value, str):
        return [(path, value)] if is_template(value) else []
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in _texts_in(part, (*path, key))]
    if isinstance(value, list):
        return [found for n, part in enumerate(value) for found in _texts_in(part, (*path, n))]
    return []


def template_problems(document: Document) -> list[Problem]:
    environment = TemplateEnvironment()
    problems = []
    for path, text in template_texts(document):
        try:
            RowTemplate(environment, text, dotted(path))
        except TemplateInvalid as problem:
            problems.append(Problem(place=_place_in_text(document, path, problem.line), sentence=problem.sentence))
    return problems


def column_place(document: Document, column: str) -> Place | None:
    """Where a template, or `input.id`, names this column first."""
    environment = TemplateEnvironment()
    for path, text in template_texts(document):
        if column in RowTemplate(environment, text, dotted(path)).columns:
            return _place_in_text(document, path, text[: text.find(column)].count("\n") + 1)
    return document.value_place(("input", "id")) if _inner(document, "input", "id") == column else None


def rendered_path(
    document: Document, section: str, params: Mapping[str, Any], problems: list[Problem], *, run: str | None = None
) -> str | None:
    """The path of the input or output section. Parameters are all that it may be made of, and `run.id` where `run`
    stands for it."""
    text = _inner(document, section)
    if not isinstance(text, str):
        return None
    if not is_template(text):
        return text
    path = (section, "path")
    try:
        template = RowTemplate(TemplateEnvironment(), text, dotted(path))
        known = {"params": dict(params)} | ({} if run is None else {"run": {"id": run}})
        return template.text({}, known)
    except TemplateInvalid:
        return None  # told by template_problems already
    except BadRow as bad:
        sentence = f"{dotted(path)} may use params only: {bad.reason}"
        problems.append(Problem(place=document.value_place(path), sentence=sentence))
        return None


def _place_in_text(document: Document, path: KeyPath, line: int) -> Place | None:
    """Line `line` of a text. Only a block text (`|`) has the same lines in the file."""
    first = document.first_lines.get(path)
    if first is None:
        return document.value_place(path)
    return Place(line=first + line - 1)
