"""Where files go that were written for a row: folders made of a template, and no row leads out of their root."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.domain.job import Job
from runner.files.bad_row import BadRow
from runner.files.sandbox import TemplateEnvironment
from runner.files.strict_json import parse_object
from runner.files.template import MARKS, RowTemplate, is_template

# In characters, of which each may take four of the 255 bytes that file systems allow.
MOST_NAME = 60
_UNSAFE = re.compile(r"[^\w .@=+-]")


class OutputFolders:
    """The folder of each row. `text` is a folder in which each row has one named by its number, or a template that
    says which of a row's columns name its own.

    What stands before the first `{{` is the job's own; behind it each name is made harmless.
    """

    def __init__(self, text: str, job: Job, run: str) -> None:
        before = min((text.find(mark) for mark in MARKS if mark in text), default=len(text))
        fixed = text[: text.rfind("/", 0, before) + 1] if is_template(text) else text
        self._root = Path(fixed or ".")
        self._template = RowTemplate(TemplateEnvironment(), text.removeprefix(fixed), "output.files")
        self._names: dict[str, Any] = {"params": dict(job.params), "job": {"name": job.name}, "run": {"id": run}}

    def folder(self, line: bytes, idx: int) -> Path:
        """Of the row with this number and these bytes. A row that names none has its number instead."""
        try:
            row = parse_object(line)
            told = self._template.text(row, self._known(row))
        except BadRow:
            told = ""
        names = [name for part in told.split("/") if (name := _harmless(part))]
        return self._root.joinpath(*(names or [str(idx)]))

    def _known(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, "row": row, **self._names}


def _harmless(name: str) -> str:
    return _UNSAFE.sub("_", name).strip(" .")[:MOST_NAME]
