"""What is wrong with a job's values, as sentences with places: the checker's findings put into our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.domain.nearest import did_you_mean
from runner.files.job_schema import REFUSED_KEYS, JobSection
from runner.files.job_templates import dotted
from runner.files.job_yaml import Document, Path, Problem

KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "dict_type": "a map of keys and values",
    "model_type": "a map of keys and values",
    "model_attributes_type": "a map of keys and values",
    "list_type": "a list",
}
# Fields of the Messages body that people also look for at the top of a job.
BODY_FIELDS = frozenset(
    {"max_tokens", "messages", "temperature", "top_p", "top_k", "stop_sequences", "thinking", "output_config"}
    | {"tool_choice", "metadata", "service_tier", "container", "context_management", "mcp_servers", "cache_control"}
)
MOST_OWNERS = 2
FOUND: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a map",
    type(None): "nothing",
}


def problems_of(found: ValidationError, document: Document) -> list[Problem]:
    return [_problem(error, document) for error in found.errors(include_url=False)]


def _problem(error: ErrorDetails, document: Document) -> Problem:
    path = _path_of(error["loc"], document.values)
    of_key = error["type"] == "extra_forbidden" or "[key]" in error["loc"]
    place = document.key_place(path) if of_key else document.value_place(path)
    return Problem(place=place, sentence=_sentence(error, path, document.values))


def _path_of(location: tuple[str | int, ...], values: Any) -> Path:
    """Where it stands in the file: without the marks that the checker sets between, for keys and kinds of a union."""
    path: list[str | int] = []
    here = values
    for n, part in enumerate(location):
        inner = _part_of(here, part)
        if inner is None and (part == "[key]" or n + 1 < len(location)):
            continue
        path.append(part)
        here = inner
    return tuple(path)


def _part_of(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _sentence(error: ErrorDetails, path: Path, values: Mapping[str, Any]) -> str:
    kind, context, name = error["type"], error.get("ctx", {}), dotted(path)
    if kind == "extra_forbidden":
        return _unknown_key(path, values)
    if kind in KINDS:
        found = FOUND.get(type(error["input"]), "something else")
        hint = " (put it in quotes)" if kind == "string_type" and found in ("a number", "true or false") else ""
        if found == "text" and kind == "list_type":
            hint = ": write [a, b]"
        if found == "text" and path in (("input",), ("output",)):
            hint = f": write {name}: {{ path: {error['input']} }}"
        return f"{name} must be {KINDS[kind]}, not {found}{hint}"
    if kind == "value_error":
        return f"{name} {context['error']}"
    if kind == "literal_error":
        return _not_one_of(name, str(context["expected"]), error["input"])
    if kind == "missing":
        return f"{name} is missing"
    if kind == "greater_than_equal":
        return f"{name} must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{name} must be at most {context['le']}"
    if kind == "string_too_short":
        return f"{name} is empty"
    return f"{name}: {error['msg']}"


def _not_one_of(name: str, expected: str, found: Any) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    return f"{name} must be {' or '.join(choices)}, not {found}{did_you_mean(str(found), choices)}"


def _unknown_key(path: Path, values: Mapping[str, Any]) -> str:
    *above, name = path
    if dotted(path) in REFUSED_KEYS:
        return REFUSED_KEYS[dotted(path)]
    present: Any = values
    for part in above:
        present = present[part]
    choices = [choice for choice in _keys_at(tuple(above)) if choice not in present]
    within = f" in {dotted(tuple(above))}" if above else ""
    return f"unknown key {name}{within}{_belongs_in(str(name), above) or did_you_mean(str(name), choices)}"


def _belongs_in(name: str, above: list[str | int]) -> str | None:
    """Where else in the file this key would be one."""
    owners = ["request"] if name in BODY_FIELDS else []
    owners += [section for section in JobSection.model_fields if name in _keys_at((section,)) and [section] != above]
    if above and name in JobSection.model_fields:
        return ": it stands at the top of the file"
    return f": it belongs in {' or '.join(owners)}" if 0 < len(owners) <= MOST_OWNERS else None


def _keys_at(path: Path) -> list[str]:
    kinds: list[Any] = [JobSection]
    for part in path:
        found = [model.model_fields[part].annotation for model in _models(kinds) if part in model.model_fields]
        # An element of a list or a map is of the kind that stands inside it.
        kinds = found or kinds
    return [name for model in _models(kinds) for name in model.model_fields]


def _models(kinds: list[Any]) -> list[type[BaseModel]]:
    """The sections in some annotations, however deep in unions, lists and maps."""
    found: list[type[BaseModel]] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        else:
            found += _models(list(getattr(kind, "__args__", ())))
    return found
