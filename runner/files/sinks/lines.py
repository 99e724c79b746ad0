"""Results as lines of JSON, or as one JSON array of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from runner.domain.result import ExportedRow
from runner.files.sinks.columns import Columns, exact
from runner.files.sinks.writing import Bytes

Line = Callable[[ExportedRow], bytes]


class Lines:
    """Writes a line for each result; as an array with commas between them."""

    def __init__(self, file: Bytes, line: Line, *, array: bool) -> None:
        self._file = file
        self._line = line
        self._array = array
        self._first = True

    def write(self, exported: ExportedRow) -> None:
        if self._array:
            self._file.write(b"[\n" if self._first else b",\n")
            self._file.write(self._line(exported).removesuffix(b"\n"))
            self._first = False
        else:
            self._file.write(self._line(exported))

    def end(self) -> None:
        if self._array:
            self._file.write(b"[]\n" if self._first else b"\n]\n")


def column_line(columns: Columns, names: Sequence[str]) -> Line:
    """A line that holds just these columns; numbers in their own digits."""

    def line(exported: ExportedRow) -> bytes:
        told = dict(zip(names, columns.values(exported, names), strict=True))
        return msgspec.json.encode(exact(told)) + b"\n"

    return line
