"""What is wrong with a job that no single value shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.domain.job import CURRENT_API_VERSION, OutputSpec
from runner.domain.nearest import did_you_mean
from runner.errors import JobInvalid
from runner.files.answer_schema import schema_problems
from runner.files.ask import SAMPLING, refused_sampling
from runner.files.expressions import Condition
from runner.files.job_templates import dotted
from runner.files.job_yaml import Document, Problem
from runner.files.job_yaml import Path as KeyPath
from runner.files.refused_requests import refused_requests
from runner.files.sandbox import TemplateEnvironment
from runner.files.sinks.formats import format_of_output
from runner.files.template import TemplateInvalid

DOORS = ("path", "sql", "dataset", "run")


def problems_together(document: Document) -> Iterator[Problem]:
    """All of them, in no order. Values may be of any kind: that has its own errors."""
    values = document.values
    yield from _of_batch(document, _map(values.get("batch")))
    yield from _of_input(document, _map(values.get("input")))
    yield from _of_output(document, _map(values.get("output")))
    yield from _of_request(document, _map(values.get("request")), values, ("request",))
    yield from _of_variants(document, values)
    yield from refused_requests(document)
    yield from _of_tools(document, values)
    yield from _of_eval(document, values)


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_batch(document: Document, batch: dict[str, Any]) -> Iterator[Problem]:
    if batch.get("on_unknown") == "cancel" and batch.get("workspace_exclusive") is not True:
        sentence = (
            "batch.on_unknown: cancel stops the batch that looks like ours, and it could be somebody else's: "
            "it needs workspace_exclusive: true, in a workspace where nobody else makes batches"
        )
        yield Problem(place=document.value_place(("batch", "on_unknown")), sentence=sentence)


def _of_input(document: Document, told: dict[str, Any]) -> Iterator[Problem]:
    doors = [name for name in DOORS if told.get(name) is not None]
    if len(doors) > 1:
        sentence = f"input.{doors[0]} and input.{doors[1]} are two places for rows: keep one of them"
        yield Problem(place=document.key_place(("input", doors[1])), sentence=sentence)
    for needs, needed in (("sql", "database"), ("database", "sql"), ("rows", "run")):
        if told.get(needs) is not None and told.get(needed) is None:
            yield Problem(place=document.key_place(("input", needs)), sentence=f"input.{needs} needs input.{needed}")
    run = told.get("run")
    if isinstance(run, dict) and (run.get("id") is None) == (run.get("job") is None):
        sentence = "input.run names a job or the id of a run: { job: NAME, select: latest }"
        yield Problem(place=document.value_place(("input", "run")), sentence=sentence)
    if told.get("unanswered") is True and told.get("id") is None:
        sentence = "input.unanswered knows rows by their keys: it needs input.id"
        yield Problem(place=document.key_place(("input", "unanswered")), sentence=sentence)
    yield from _expression(document, told.get("where"), ("input", "where"), result_allowed=False)


def _of_output(document: Document, told: dict[str, Any]) -> Iterator[Problem]:
    for needs, needed in (("sql", "database"), ("database", "sql")):
        if told.get(needs) is not None and told.get(needed) is None:
            yield Problem(
                place=document.key_place(("output", needs)), sentence=f"output.{needs} needs output.{needed}"
            )
    if isinstance(told.get("path"), str) and told.get("format") is None:
        try:
            format_of_output(told["path"], OutputSpec())
        except JobInvalid as problem:
            sentence = f"output.path: {problem.message.rstrip('.')}; {problem.hints[0]}"
            yield Problem(place=document.value_place(("output", "path")), sentence=sentence)
    if told.get("sql") is not None and told.get("path") is not None:
        sentence = "output.path and output.sql are two places for results: keep one of them"
        yield Problem(place=document.key_place(("output", "sql")), sentence=sentence)
    if told.get("merge_into") is not None and _map(document.values.get("input")).get("run") is None:
        sentence = "output.merge_into: source needs the rows of an earlier run as its input (input.run)"
        yield Problem(place=document.key_place(("output", "merge_into")), sentence=sentence)


def _of_request(
    document: Document, request: dict[str, Any], beside: dict[str, Any], path: KeyPath
) -> Iterator[Problem]:
    for name, short in (("messages", "prompt"), ("system", "system")):
        if name in request and beside.get(short) is not None:
            sentence = f"request.{name} and {short} say the same thing: keep one of them"
            yield Problem(place=document.key_place((*path, name)), sentence=sentence)
    most = request.get("max_tokens", 1)
    if type(most) is not int or most < 0:
        quoted = " (without quotes)" if isinstance(most, str) and most.isdecimal() else ""
        sentence = f"{dotted(path)}.max_tokens must be a whole number{quoted}"
        yield Problem(place=document.value_place((*path, "max_tokens")), sentence=sentence)
    if "model" in request:
        yield Problem(place=document.key_place((*path, "model")), sentence="the model stands in model, not here")
    allow = document.values.get("allow")
    allowed = allow if isinstance(allow, list) else []
    new = document.values.get("api_version", CURRENT_API_VERSION) == CURRENT_API_VERSION
    if new and "sampling" not in allowed:
        for name in sorted(SAMPLING & request.keys()):
            yield Problem(place=document.key_place((*path, name)), sentence=refused_sampling(name))
    if "schema" not in allowed:
        yield from schema_problems(document, request, path)


def _of_variants(document: Document, values: dict[str, Any]) -> Iterator[Problem]:
    variants = values.get("variants")
    if "match" in values and not variants:
        yield Problem(place=document.key_place(("match",)), sentence="match needs variants")
    if not isinstance(variants, list):
        return
    first = values.get("match") == "first"
    names: dict[str, int] = {}
    for number, told in enumerate(variants):
        path: KeyPath = ("variants", number)
        variant = _map(told)
        name = variant.get("name")
        if isinstance(name, str) and names.setdefault(name, number) != number:
            yield Problem(place=document.value_place((*path, "name")), sentence=f"two variants are named {name}")
        if "when" in variant and not first:
            yield Problem(place=document.key_place((*path, "when")), sentence="when needs match: first")
        yield from _expression(document, variant.get("when"), (*path, "when"), result_allowed=number > 0)
        yield from _of_request(document, _map(variant.get("request")), variant, (*path, "request"))


def _expression(document: Document, text: Any, path: KeyPath, *, result_allowed: bool) -> Iterator[Problem]:
    if not isinstance(text, str) or not text:
        return
    try:
        condition = Condition(TemplateEnvironment(), text, str(path[-1]))
    except TemplateInvalid as problem:
        yield Problem(place=document.value_place(path), sentence=f"{path[-1]}: {problem.sentence}")
        return
    if condition.asks_result and not result_allowed:
        sentence = f"{path[-1]}: there is no result yet that could be looked at here"
        yield Problem(place=document.value_place(path), sentence=sentence)


def _of_tools(document: Document, values: dict[str, Any]) -> Iterator[Problem]:
    """Each tool of our own must be one that the model is told of."""
    tools = _map(values.get("tools"))
    request_tools = _map(values.get("request")).get("tools")
    told = request_tools if isinstance(request_tools, list) else []
    known = [
        str(tool["name"]) for tool in told if isinstance(tool, dict) and "input_schema" in tool and "name" in tool
    ]
    for name, tool in tools.items():
        path: KeyPath = ("tools", name)
        if name == "max_turns":
            if not isinstance(tool, int) or isinstance(tool, bool) or not 1 <= tool <= 100:
                yield Problem(place=document.value_place(path), sentence="tools.max_turns must be 1 to 100")
        elif not isinstance(tool, dict):
            yield Problem(place=document.value_place(path), sentence=f"tools.{name} must be a map of keys and values")
        elif name not in known:
            sentence = f"tools.{name}: request.tools has no tool of that name{did_you_mean(name, known)}"
            yield Problem(place=document.key_place(path), sentence=sentence)


def _of_eval(document: Document, values: dict[str, Any]) -> Iterator[Problem]:
    told = _map(values.get("eval"))
    graders = [
        _map(grader).get("name") for grader in told.get("graders", []) if isinstance(told.get("graders"), list)
    ]
    names = [name for name in graders if isinstance(name, str)]
    primary = told.get("primary")
    if isinstance(primary, str) and primary not in names:
        sentence = f"eval.primary: there is no grader {primary}{did_you_mean(primary, names)}"
        yield Problem(place=document.value_place(("eval", "primary")), sentence=sentence)
    listed = values.get("variants")
    variants = [_map(one).get("name") for one in listed] if isinstance(listed, list) else []
    baseline = told.get("baseline")
    if isinstance(baseline, str) and baseline not in variants:
        known = [name for name in variants if isinstance(name, str)]
        sentence = f"eval.baseline: there is no variant {baseline}{did_you_mean(baseline, known)}"
        yield Problem(place=document.value_place(("eval", "baseline")), sentence=sentence)
