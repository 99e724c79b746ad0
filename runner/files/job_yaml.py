"""A YAML text to plain values, with the line and column of every key and value.

YAML 1.2: `no` is text and keys may not repeat. Tags are refused, aliases cannot blow up, and dates and numbers come
out as what JSON has, because that is where a job's values go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct, field
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarstring import LiteralScalarString

MAX_FILE_BYTES = 1_000_000
# Far more than any job needs, and few enough that aliases of aliases stay harmless.
MAX_VALUES = 100_000
MAX_DEPTH = 60

BRACES = "a text that begins with {{ needs quotes around it, else YAML takes it for a map"
_BRACES = re.compile(r"(?:^|[:\-,\[]\s+)\{\{")

Path = tuple[str | int, ...]


class Place(Struct, frozen=True, kw_only=True, order=True):
    """Line and column, both from 1, and the file where it is another than the job file."""

    line: int = 1
    column: int = 1
    file: str | None = None  # where it is not the job file itself


class Problem(Struct, frozen=True, kw_only=True, order=True):
    """One thing wrong with a job file. Without a place it is about a flag."""

    place: Place | None
    sentence: str


class YamlInvalid(Exception):
    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(sentence)
        self.problem = Problem(place=place, sentence=sentence)


class Document(Struct, kw_only=True):
    """The values of a file with the places of keys and values. `first_lines` says where block texts begin."""

    values: dict[str, Any] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    value_places: dict[Path, Place] = field(default_factory=dict)
    first_lines: dict[Path, int] = field(default_factory=dict)

    def value_place(self, path: Path) -> Place | None:
        """Where the value stands, or the nearest thing around it; None for what is not from the file."""
        while path and path not in self.value_places:
            path = path[:-1]
        return self.value_places.get(path)

    def key_place(self, path: Path) -> Place | None:
        return self.key_places.get(path) or self.value_place(path)


def read_yaml(text: str) -> Document:
    """The document of a text, or YamlInvalid."""
    try:
        _refuse_tags_and_anchors_without_end(text)
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as problem:
        raise YamlInvalid(_marked(problem), _plain(problem, text)) from None
    except (YAMLError, ValueError) as problem:
        raise YamlInvalid(Place(), f"this is not YAML: {str(problem).splitlines()[0]}") from None
    except RecursionError:
        raise YamlInvalid(Place(), "this is nested too deeply") from None
    if not isinstance(tree, dict):
        raise YamlInvalid(Place(), "a job file is a map of keys and values")
    reader = _Reader()
    reader.document.values = reader.value(tree, (), Place())
    return reader.document


def read_value(text: str) -> Any:
    """One value as a job file would have it: `3`, `null`, `[a, b]`, text. Raises YamlInvalid."""
    return read_yaml(f"value: {text}\n").values["value"]


def _refuse_tags_and_anchors_without_end(text: str) -> None:
    for event in YAML(typ="rt").parse(text):
        tag = getattr(event, "tag", None)
        if tag is not None and not isinstance(event, AliasEvent):
            place = Place(line=event.start_mark.line + 1, column=event.start_mark.column + 1)
            raise YamlInvalid(place, f"tags such as {tag} are not allowed in a job file")


def _marked(problem: MarkedYAMLError) -> Place:
    mark = problem.problem_mark or problem.context_mark
    return Place() if mark is None else Place(line=mark.line + 1, column=mark.column + 1)


def _plain(problem: MarkedYAMLError, text: str) -> str:
    words = str(problem.problem or problem.context or "this is not YAML")
    if words.startswith("found duplicate key"):
        key = words.removeprefix("found duplicate key ").split(" with value", maxsplit=1)[0]
        return f"the key {key} stands here twice"
    if words == "but found another document":
        return "a job file holds one document"
    return f"this is not YAML: {_slip(words, _line_of(problem, text)) or words}"


def _line_of(problem: MarkedYAMLError, text: str) -> str:
    lines, number = text.splitlines(), _marked(problem).line
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _slip(words: str, line: str) -> str | None:
    """What people often mean by what YAML reads otherwise, and what to write instead."""
    if "'\\t'" in words:
        return "lines are indented with blanks, and this one has a tab"
    if words.startswith("mapping values are not allowed"):
        if line.count(": ") > 1:
            return "a text that holds a colon and a blank needs quotes around it, or a block with |"
        return "this line is indented further than those beside which it belongs"
    return BRACES if _BRACES.search(line) else None


class _Reader:
    """Walks the tree once, noting places."""

    def __init__(self) -> None:
        self.document = Document()
        self._seen = 0

    def value(self, node: Any, path: Path, place: Place) -> Any:
        self._seen += 1
        if self._seen > MAX_VALUES or len(path) > MAX_DEPTH:
            raise YamlInvalid(place, "this file grows too large: too many values, or nested too deeply")
        self.document.value_places[path] = place
        if isinstance(node, dict):
            return self._map(node, path)
        if isinstance(node, list):
            positions = node.lc.data or {}  # type: ignore[attr-defined]
            return [self.value(part, (*path, n), _place(positions.get(n), 0, place)) for n, part in enumerate(node)]
        if isinstance(node, LiteralScalarString):
            self.document.first_lines[path] = place.line + 1
        return _scalar(node, place)

    def _map(self, node: Any, path: Path) -> dict[str, Any]:
        told: dict[str, Any] = {}
        positions = node.lc.data or {}
        for key, part in node.items():
            at = positions.get(key)
            here = self.document.value_places[path]
            key_place = _place(at, 0, here)
            if isinstance(key, Mapping):
                raise YamlInvalid(here, BRACES)
            if isinstance(key, (tuple, list)):
                raise YamlInvalid(key_place, "a key must be a name")
            name = str(_scalar(key, key_place))
            self.document.key_places[*path, name] = key_place
            told[name] = self.value(part, (*path, name), _place(at, 2, key_place))
        return told


def _place(position: list[int] | None, first: int, otherwise: Place) -> Place:
    if position is None:
        return otherwise
    return Place(line=position[first] + 1, column=position[first + 1] + 1)


def _scalar(node: Any, place: Place) -> Any:
    """What JSON has for it."""
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, str):
        return str(node)
    if isinstance(node, (date, datetime)):
        return node.isoformat()
    if isinstance(node, int):
        return int(node)
    if isinstance(node, (float, ScalarFloat, Decimal)) and math.isfinite(node):
        return float(node)
    raise YamlInvalid(place, f"{node} is not a value that a job can hold")
