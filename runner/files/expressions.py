"""An expression over a row that is true or false: `row.lang in ["en", "de"]`, in the language of templates.

It is bounded like a template, and a row's values are data in it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError

from runner.files.bad_row import BadRow
from runner.files.sandbox import TemplateEnvironment, TooLarge
from runner.files.template import TemplateInvalid

RESULT = "result"


class Condition:
    """A compiled expression. `where` says in messages which one; `asks_result` that it looks at an earlier answer."""

    def __init__(self, environment: TemplateEnvironment, text: str, where: str) -> None:
        self.where = where
        self._environment = environment
        if any(mark in text for mark in ("{{", "}}", "{%", "%}")):
            raise TemplateInvalid(where, 1, "this is a template; an expression such as row.n > 3 is wanted")
        try:
            tree = environment.parse("{{ (" + text + "\n) }}")
            self._compiled = environment.compile_expression(text, undefined_to_none=False)
        except TemplateSyntaxError as problem:
            sentence = (problem.message or "not an expression").rstrip(".")
            raise TemplateInvalid(where, problem.lineno, sentence) from None
        except (SecurityError, RecursionError, TooLarge) as problem:
            raise TemplateInvalid(where, 1, str(problem)) from None
        self.names = frozenset(meta.find_undeclared_variables(tree)) - environment.globals.keys()
        self.asks_result = RESULT in self.names

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Is it true? Raises BadRow where it cannot be told."""
        self._environment.begin()
        try:
            return bool(self._compiled(**names))
        except UndefinedError as problem:
            message = str(problem.message or problem).replace("'dict object' has no attribute", "the row has no")
            raise BadRow(f"cannot be judged by {self.where}: {message}") from None
        # An expression is somebody's program: whatever it raises is about this row, never about ours.
        except Exception as problem:  # noqa: BLE001
            raise BadRow(f"cannot be judged by {self.where}: {problem}") from None
