"""Results as CSV or TSV, which spreadsheets open without doing anything.

A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from runner.files.sinks.columns import Literal, exact
from runner.files.sinks.writing import Bytes

# Also behind blanks, and in the full width that spreadsheets read alike.
_FORMULA = re.compile(r"[\s\x00\ufeff]*[=+\-@\t\r＝＋－＠﹢﹣⁺−]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?%?")


class CsvTable:
    """Writes rows of these columns. With `raw` cells are written as they are."""

    def __init__(self, file: Bytes, columns: Sequence[str], *, delimiter: str = ",", raw: bool = False) -> None:
        self._file = file
        self._raw = raw
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator="\r\n")
        self._put([column if raw else inert(column) for column in columns])

    def write(self, values: Sequence[Any]) -> None:
        self._put([self._cell(value) for value in values])

    def end(self) -> None:
        """There is nothing at the end of a CSV."""

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, Literal) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return str(value)
        text = value if isinstance(value, str) else as_json(value)
        return text if self._raw else inert(text)

    def _put(self, cells: list[str]) -> None:
        self._writer.writerow(cells)
        # Half a surrogate pair, which a server may send, is no character.
        self._file.write(self._text.getvalue().encode("utf-8", "replace"))
        self._text.seek(0)
        self._text.truncate()


def inert(text: str) -> str:
    """The text as a spreadsheet shows it and does nothing."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def as_json(value: Any) -> str:
    """Maps, lists and truth as JSON, numbers in their own digits."""
    return msgspec.json.format(msgspec.json.encode(exact(value)), indent=0).decode()
