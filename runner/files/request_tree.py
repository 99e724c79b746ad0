"""A request body with templates anywhere inside, compiled once into a function of the row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from runner.errors import JobInvalid
from runner.files.row_files import DROPPED, FILE, RowFile
from runner.files.sandbox import TemplateEnvironment
from runner.files.template import Names, RowTemplate, is_template, missing_column

ROW = "$row"

Build = Callable[[Mapping[str, Any], Names], Any]


class Tree(Struct, frozen=True, kw_only=True):
    """`build(row, names)` gives the value; `templates` are those inside, none when the value is the same for all.

    `looks_sure`: that its templates have their columns is all there is to check, without building it. `files` are
    those that it brings along.
    """

    build: Build
    templates: tuple[RowTemplate, ...]
    looks_sure: bool = True
    constant: bool = False
    files: tuple[RowFile, ...] = ()


def compiled_tree(environment: TemplateEnvironment, value: Any, where: str) -> Tree:
    """`value` with each text that holds a template compiled; `where` is its path in the job."""
    if isinstance(value, str):
        return _of_text(environment, value, where)
    if isinstance(value, list):
        return _of_list([compiled_tree(environment, part, f"{where}[{n}]") for n, part in enumerate(value)], value)
    if not isinstance(value, Mapping):
        return constant(value)
    if ROW in value:
        return _of_column(value[ROW], where)
    source = value.get("source")
    if isinstance(source, Mapping) and FILE in source:
        return _of_block_with_file(environment, value, source, where)
    parts = {name: compiled_tree(environment, part, f"{where}.{name}") for name, part in value.items()}
    return _of_map(parts, value)


def constant(value: Any) -> Tree:
    return Tree(build=lambda *_: value, templates=(), constant=True)


def _of_text(environment: TemplateEnvironment, text: str, where: str) -> Tree:
    if not is_template(text):
        return constant(text)
    template = RowTemplate(environment, text, where)
    return Tree(build=template.text, templates=(template,))


def _of_column(name: Any, where: str) -> Tree:
    """`{ $row: column }`: the column's value as it is, whatever its kind."""

    def build(row: Mapping[str, Any], _names: Names) -> Any:
        if name not in row:
            raise missing_column(str(name), row, f"which {where} names")
        return row[name]

    return Tree(build=build, templates=(), looks_sure=False)


def _of_block_with_file(
    environment: TemplateEnvironment, block: Mapping[str, Any], source: Mapping[str, Any], where: str
) -> Tree:
    """A content block whose source is a file, perhaps another one for each row."""
    path = source[FILE]
    if not isinstance(path, str):
        raise JobInvalid(f"{where}.source: $file names a file.", name="request")
    template = RowTemplate(environment, path, f"{where}.source") if is_template(path) else None
    file = RowFile.of(path, block_type=str(block.get("type")), source=source, where=where)
    others = {name: part for name, part in block.items() if name != "source"}
    rest = _of_map(
        {name: compiled_tree(environment, part, f"{where}.{name}") for name, part in others.items()}, others
    )

    def build(row: Mapping[str, Any], names: Names) -> Any:
        found = file.block(path if template is None else template.text(row, names))
        return DROPPED if found is DROPPED else {**rest.build(row, names), **found}

    templates = (*rest.templates, *(() if template is None else (template,)))
    return Tree(build=build, templates=templates, looks_sure=False, files=(file,))


def _of_list(parts: list[Tree], value: list[Any]) -> Tree:
    if all(part.constant for part in parts):
        return constant(value)
    builders = [part.build for part in parts]
    return Tree(
        build=lambda row, names: [
            built for built in (build(row, names) for build in builders) if built is not DROPPED
        ],
        templates=tuple(template for part in parts for template in part.templates),
        looks_sure=all(part.looks_sure for part in parts),
        files=tuple(file for part in parts for file in part.files),
    )


def _of_map(parts: dict[str, Tree], value: Mapping[str, Any]) -> Tree:
    if all(part.constant for part in parts.values()):
        return constant(dict(value))
    builders = {name: part.build for name, part in parts.items()}
    return Tree(
        build=lambda row, names: {name: build(row, names) for name, build in builders.items()},
        templates=tuple(template for part in parts.values() for template in part.templates),
        looks_sure=all(part.looks_sure for part in parts.values()),
        files=tuple(file for part in parts.values() for file in part.files),
    )
