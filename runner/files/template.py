"""One text with `{{ }}` in it, compiled once: what it needs, and its text for a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from jinja2 import TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError

from runner.domain.nearest import did_you_mean, suggest
from runner.errors import JobInvalid
from runner.files.bad_row import BadRow
from runner.files.sandbox import TemplateEnvironment, TooLarge, rendered

MARKS = ("{{", "{%", "{#")
# Names in a template that are not columns.
OWN_NAMES = frozenset({"row", "params", "job"})
# A template of these alone can only fail by a missing name, which a look at the row's columns tells.
PLAIN_NODES = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name)

NO_COLUMN = "has no column"

Names = dict[str, Any]


def is_template(text: str) -> bool:
    return any(mark in text for mark in MARKS)


class RowTemplate:
    """A compiled template. `where` says in messages which one: "the prompt", "request.system".

    `columns` are those that it names; `plain` says that it prints columns as they are and does nothing else;
    `never_blank` that it holds text of its own; `same_for_all` that it looks at nothing but the job. `printed` are
    the columns that appear in the output directly.
    """

    def __init__(self, environment: TemplateEnvironment, text: str, where: str) -> None:
        self.where = where
        tree = _parsed(environment, text, where)
        self.columns = frozenset(_columns(tree, environment))
        self.plain = _is_plain(tree)
        self.same_for_all = not any(n.name not in ("params", "job") for n in tree.find_all(nodes.Name))
        self.never_blank = any(not text.isspace() for text in _own_texts(tree))
        self.printed = tuple(node.name for node in _outputs(tree) if isinstance(node, nodes.Name))
        self._params_used = _looked_up(tree, "params")
        self._compiled = environment.from_string(text)

    def text(self, row: Mapping[str, Any], names: Names) -> str:
        """The text for a row; `names` are the row's columns with `row`, `params` and `job`."""
        try:
            return rendered(self._compiled, names)
        except UndefinedError as problem:
            self._explain(row, problem)
        except TooLarge as problem:
            raise BadRow(f"cannot be rendered: {problem}") from None
        except (RecursionError, MemoryError):
            raise BadRow(f"cannot be rendered: {self.where} needs too much memory") from None
        # A template is somebody's program: whatever it raises is about this row, never about ours.
        except Exception as problem:  # noqa: BLE001
            raise BadRow(f"cannot be rendered: {self.where}: {problem}") from None

    def check_params(self, params: Mapping[str, Any]) -> None:
        """Every `params.x` must be there before any row is looked at."""
        for name in self._params_used:
            if name not in params:
                raise JobInvalid(
                    f"{self.where} uses params.{name}, and there is no such parameter{did_you_mean(name, params)}.",
                    name="missing-param",
                    hints=(f"fix: -p {name}=VALUE, or params: {{ {name}: ... }} in the job file",),
                )

    def surely_has_text(self, row: Mapping[str, Any]) -> bool:
        """Can it be told without rendering that there will be text?"""
        if not self.plain or not self.columns <= row.keys():
            return False
        return self.never_blank or any(_has_text(row.get(name)) for name in self.printed)

    def _explain(self, row: Mapping[str, Any], problem: UndefinedError) -> NoReturn:
        missing = sorted(self.columns - row.keys())
        if not missing:
            raise BadRow(f"cannot be rendered: {self.where}: {problem.message}") from None
        raise missing_column(missing[0], row, f"which {self.where} uses") from None


def missing_column(name: str, row: Mapping[str, Any], why: str) -> BadRow:
    near = suggest(name, row.keys())
    meant = f' (did you mean "{near}"?)' if near else ""
    return BadRow(f'{NO_COLUMN} "{name}", {why}{meant}', missing=name, columns=tuple(row))


class TemplateInvalid(JobInvalid):
    """A text that is no template. `line` counts within the text."""

    name = "template"

    def __init__(self, where: str, line: int, sentence: str) -> None:
        super().__init__(f"{where}, line {line}: {sentence}")
        self.line = line
        self.sentence = sentence


def _parsed(environment: TemplateEnvironment, text: str, where: str) -> nodes.Template:
    try:
        tree = environment.parse(text)
        environment.compile(text)
    except TemplateSyntaxError as problem:
        raise TemplateInvalid(where, problem.lineno, _in_our_words(environment, problem)) from None
    except (SecurityError, RecursionError, TooLarge) as problem:
        raise TemplateInvalid(where, 1, str(problem)) from None
    return tree


_NO_SUCH = re.compile(r"No (filter|test) named '(\w+)'")


def _in_our_words(environment: TemplateEnvironment, problem: TemplateSyntaxError) -> str:
    words = (problem.message or "not a template").rstrip(".")
    if found := _NO_SUCH.match(words):
        kind, name = found.groups()
        known = environment.filters if kind == "filter" else environment.tests
        return f"there is no {kind} {name}{did_you_mean(name, known)}"
    return f"{words} (did you mean ==?)" if words.endswith("got '='") else words


def _has_text(value: Any) -> bool:
    return (type(value) is str and bool(value) and not value.isspace()) or type(value) is int


def _columns(tree: nodes.Template, environment: TemplateEnvironment) -> set[str]:
    called = {node.node.name for node in tree.find_all(nodes.Call) if isinstance(node.node, nodes.Name)}
    functions = called & environment.globals.keys()
    return (meta.find_undeclared_variables(tree) - OWN_NAMES - functions) | set(_looked_up(tree, "row"))


def _looked_up(tree: nodes.Template, owner: str) -> list[str]:
    """The constant names asked of `owner`, as in `row["odd name"]` or `params.date`."""
    found = [
        node.arg.value
        for node in tree.find_all(nodes.Getitem)
        if _is_name(node.node, owner) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
    ]
    return found + [node.attr for node in tree.find_all(nodes.Getattr) if _is_name(node.node, owner)]


def _is_name(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == name


def _is_plain(node: nodes.Node) -> bool:
    """Does it print columns and nothing more? What has no column in it is the same for all rows."""
    if isinstance(node, nodes.Getitem) and _is_name(node.node, "row"):
        return isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
    if isinstance(node, nodes.Expr) and not isinstance(node, PLAIN_NODES):
        return not any(name.name not in ("params", "job") for name in node.find_all(nodes.Name))
    return isinstance(node, PLAIN_NODES) and all(_is_plain(child) for child in node.iter_child_nodes())


def _outputs(tree: nodes.Template) -> list[nodes.Expr]:
    return [part for node in tree.body if isinstance(node, nodes.Output) for part in node.nodes]


def _own_texts(tree: nodes.Template) -> list[str]:
    return [part.data for part in _outputs(tree) if isinstance(part, nodes.TemplateData)]
