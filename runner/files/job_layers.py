"""A job file with what it is made of: the file that it `extends` under it, and the files that `$file` names in it.

Maps are merged, everything else is replaced. A path is relative to the file that it stands in, and what is read
becomes part of the job: a run goes on with the texts with which it began.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.domain.nearest import suggest
from runner.errors import JobInvalid
from runner.files.job_yaml import MAX_FILE_BYTES, Document, Place, Problem, YamlInvalid, read_yaml
from runner.files.job_yaml import Path as KeyPath
from runner.files.schema_of_model import schema_of_model
from runner.files.template import is_template

FILE, ROW, MODEL = "$file", "$row", "$model"
FILE_KEYS = frozenset({FILE, "upload", "expires", "optional"})
MAX_LAYERS = 10
# Stands for a text that could not be read, which is told already.
NOT_READ = "(not read)"


def read_job(path: str, problems: list[Problem]) -> Document:
    """The file and all under it as one document. Raises JobInvalid for what cannot be read at all."""
    return _layered(Path(path), path, [], problems)


def _layered(path: Path, shown: str, above: list[Path], problems: list[Problem]) -> Document:
    document = _read(path, shown, inner=bool(above))
    folder = path.parent
    _take_in_files(document, folder, problems)
    _make_absolute(document, folder)
    parent = document.values.get("extends")
    if not isinstance(parent, str):
        return document
    here = document.value_place(("extends",))
    below = folder / parent
    chain = [*above, path.absolute()]
    if below.absolute() in chain or len(chain) >= MAX_LAYERS:
        problems.append(Problem(place=here, sentence=f"extends: {parent} leads back to this file"))
        return document
    if not below.is_file():
        near = _near_file(below)
        problems.append(Problem(place=here, sentence=f"extends: there is no file {parent}{near}"))
        return document
    return _merged(_layered(below, str(below), chain, problems), document)


def _read(path: Path, shown: str, *, inner: bool) -> Document:
    try:
        document = read_yaml(text_of(path, shown))
    except YamlInvalid as invalid:
        problem = invalid.problem
        place = problem.place or Place()
        raise LayerInvalid(
            Problem(
                place=Place(line=place.line, column=place.column, file=shown if inner else None),
                sentence=problem.sentence,
            )
        ) from None
    if inner:
        _tell_file(document, shown)
    return document


class LayerInvalid(Exception):
    """A layer that is no YAML: there is nothing to look at beside it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


def text_of(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise JobInvalid(f"there is no job file {shown}.", hints=_near_jobs(path)) from None
    except OSError as problem:
        raise JobInvalid(f"{shown} could not be read: {problem.strerror}.") from None
    except ValueError:
        raise JobInvalid(f"{shown!r} is no path.") from None
    if len(data) > MAX_FILE_BYTES:
        raise JobInvalid(f"{shown} is larger than {MAX_FILE_BYTES // 1_000_000} MB; that is no job file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise YamlInvalid(Place(line=line), "this is not UTF-8") from None


def _near_jobs(path: Path) -> tuple[str, ...]:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = suggest(path.name, [name for name in names if name.endswith((".yaml", ".yml"))])
    return (f"did you mean {path.parent / near} ?",) if near else ()


def _near_file(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = suggest(path.name, names)
    return f" (did you mean {near}?)" if near else ""


def _tell_file(document: Document, shown: str) -> None:
    for places in (document.key_places, document.value_places):
        for path, place in places.items():
            places[path] = Place(line=place.line, column=place.column, file=shown)


# Places for rows and for results: where a file names one, that of the file under it does not count.
ONE_OF = {
    "input": ("path", "sql", "database", "dataset", "run", "rows"),
    "output": ("path", "sql", "database"),
}


def _give_way(below: dict[str, Any], over: dict[str, Any]) -> None:
    for section, doors in ONE_OF.items():
        under, told = below.get(section), over.get(section)
        if isinstance(under, dict) and isinstance(told, dict) and any(door in told for door in doors):
            for door in doors:
                under.pop(door, None)


def _merged(below: Document, over: Document) -> Document:
    _give_way(below.values, over.values)
    merged = Document(
        values=_merged_maps(below.values, over.values),
        key_places={**below.key_places, **over.key_places},
        value_places={**below.value_places, **over.value_places},
        first_lines={**below.first_lines, **over.first_lines},
    )
    del merged.values["extends"]
    return merged


def _merged_maps(below: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in over.items():
        before = merged.get(name)
        merged[name] = _merged_maps(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _make_absolute(document: Document, folder: Path) -> None:
    """The place of the input is relative to the file that names it."""
    told = document.values.get("input")
    if not isinstance(told, dict):
        return
    path = told.get("path")
    if isinstance(path, str) and path != "-" and "://" not in path:
        told["path"] = str((folder / path).absolute())


# --- $file


def _take_in_files(document: Document, folder: Path, problems: list[Problem]) -> None:
    for section in ("prompt", "system", "request", "variants", "eval"):
        if section in document.values:
            document.values[section] = _taken_in(document, document.values[section], (section,), folder, problems)


def _taken_in(document: Document, value: Any, path: KeyPath, folder: Path, problems: list[Problem]) -> Any:
    if isinstance(value, list):
        return [_taken_in(document, part, (*path, n), folder, problems) for n, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if ROW in value:
        _check_row(document, value, path, problems)
        return value
    if MODEL in value:
        return _model(document, value, path, folder, problems)
    if FILE not in value:
        return {name: _taken_in(document, part, (*path, name), folder, problems) for name, part in value.items()}
    return _file(document, value, path, folder, problems)


def _check_row(document: Document, value: dict[str, Any], path: KeyPath, problems: list[Problem]) -> None:
    if len(value) > 1 or not isinstance(value[ROW], str):
        sentence = "$row names one column, and stands alone: { $row: column }"
        problems.append(Problem(place=document.key_place((*path, ROW)), sentence=sentence))


def _file(document: Document, value: dict[str, Any], path: KeyPath, folder: Path, problems: list[Problem]) -> Any:
    place = document.value_place((*path, FILE))
    name = value[FILE]
    if not isinstance(name, str) or not name:
        problems.append(Problem(place=place, sentence="$file names a file"))
        return NOT_READ
    as_source = path[-1] == "source"
    unknown = [key for key in value if key not in (FILE_KEYS if as_source else {FILE})]
    if unknown:
        sentence = f"unknown key {unknown[0]} beside $file"
        problems.append(Problem(place=document.key_place((*path, unknown[0])), sentence=sentence))
    if as_source:
        return {**value, FILE: str((folder / name).absolute())}
    if is_template(name):
        sentence = "the path of a $file that is read into the job cannot differ by row; only that of a source can"
        problems.append(Problem(place=place, sentence=sentence))
        return NOT_READ
    target = folder / name
    if not target.is_file():
        problems.append(Problem(place=place, sentence=f"$file: there is no file {name}{_near_file(target)}"))
        return NOT_READ
    try:
        return _content(target, name)
    except (YamlInvalid, JobInvalid, ValueError, RecursionError) as problem:
        what = problem.problem.sentence if isinstance(problem, YamlInvalid) else str(problem)
        problems.append(Problem(place=place, sentence=f"$file: {name} cannot be read: {what}"))
        return NOT_READ


def _model(document: Document, value: dict[str, Any], path: KeyPath, folder: Path, problems: list[Problem]) -> Any:
    try:
        if len(value) > 1 or not isinstance(value[MODEL], str):
            raise ValueError("names one class, and stands alone: { $model: module:Class }")
        return schema_of_model(value[MODEL], folder)
    except ValueError as problem:
        place = document.value_place((*path, MODEL))
        problems.append(Problem(place=place, sentence=f"$model: {problem}"))
        return {}


def _content(target: Path, name: str) -> Any:
    """JSON and YAML as values, everything else as text."""
    text = text_of(target, name)
    if target.suffix == ".json":
        return json.loads(text)
    if target.suffix in (".yaml", ".yml"):
        return read_yaml(text).values
    return text
