"""A request body with templates anywhere inside, compiled once into a function of the row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.files.sandbox import TemplateEnvironment
from runner.files.template import Names, RowTemplate, is_template

Build = Callable[[Mapping[str, Any], Names], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """`build(row, names)` gives the value; `templates` are those inside, none when the value is the same for all."""

    build: Build
    templates: tuple[RowTemplate, ...]


def compiled_tree(environment: TemplateEnvironment, value: Any, where: str) -> Tree:
    """`value` with each text that holds a template compiled; `where` is its path in the job."""
    if isinstance(value, str):
        return _of_text(environment, value, where)
    if isinstance(value, list):
        return _of_list([compiled_tree(environment, part, f"{where}[{n}]") for n, part in enumerate(value)], value)
    if isinstance(value, Mapping):
        parts = {name: compiled_tree(environment, part, f"{where}.{name}") for name, part in value.items()}
        return _of_map(parts, value)
    return constant(value)


def constant(value: Any) -> Tree:
    return Tree(build=lambda *_: value, templates=())


def _of_text(environment: TemplateEnvironment, text: str, where: str) -> Tree:
    if not is_template(text):
        return constant(text)
    template = RowTemplate(environment, text, where)
    return Tree(build=template.text, templates=(template,))


def _of_list(parts: list[Tree], value: list[Any]) -> Tree:
    templates = tuple(template for part in parts for template in part.templates)
    if not templates:
        return constant(value)
    builders = [part.build for part in parts]
    return Tree(build=lambda row, names: [build(row, names) for build in builders], templates=templates)


def _of_map(parts: dict[str, Tree], value: Mapping[str, Any]) -> Tree:
    templates = tuple(template for part in parts.values() for template in part.templates)
    if not templates:
        return constant(dict(value))
    builders = {name: part.build for name, part in parts.items()}
    return Tree(
        build=lambda row, names: {name: build(row, names) for name, build in builders.items()}, templates=templates
    )
