"""CSV and TSV to JSON lines: the first line names the columns, every value is text.

What is wrong with one row is told as a bad row, which may be skipped. A quote that is wrong shifts everything after
it, so that ends the input.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import IO, cast

import msgspec

from runner.errors import InputInvalid
from runner.files.bad_row import refused_line
from runner.files.sources.blocks import MAX_LINE_BYTES
from runner.files.sources.opened import DAMAGED

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_encode = msgspec.json.Encoder().encode
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")


def csv_rows(
    data: IO[bytes], place: str, *, delimiter: str, encoding: str | None = None, told_delimiter: bool = False
) -> Iterator[tuple[int, bytes]]:
    """The number of the line on which each row begins, and the row as a JSON line."""
    csv.field_size_limit(MAX_LINE_BYTES)
    text = _text(data, place, encoding)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next((values for values in reader if values), None)
        names = _names(header, place, delimiter, told_delimiter=told_delimiter)
        line = reader.line_num + 1
        for values in reader:
            if values:
                yield line, _line(names, values, delimiter)
            line = reader.line_num + 1
    except csv.Error as problem:
        raise InputInvalid(
            f"{place} line {line} is not CSV: {problem}.",
            name="bad-row",
            hints=(
                "a wrong quote shifts everything after it, so nothing behind it can be believed",
                'fix: quote the value and double the quotes in it: "He said ""no"" and left"',
            ),
        ) from None
    except UnicodeDecodeError as problem:
        raise InputInvalid(
            f"{place} is not {encoding}: {problem.reason} near line {reader.line_num + 1}.",
            hints=("fix: input: { encoding: ... } in the job, or convert the file to UTF-8",),
        ) from None
    except DAMAGED:
        raise
    finally:
        if not text.closed:  # else whoever read it has left it in the middle
            text.detach()


def _text(data: IO[bytes], place: str, encoding: str | None) -> io.TextIOWrapper:
    """UTF-8 with or without its mark; bytes that are none are kept, and told row by row."""
    raw = data if isinstance(data, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", data))
    if encoding is not None:
        try:
            return io.TextIOWrapper(raw, encoding=encoding, newline="")
        except LookupError:
            raise InputInvalid(f"{encoding!r} is not an encoding; known are utf-8, utf-16, cp1252, ...") from None
    if raw.peek(2)[:2] in UTF_16_MARKS:
        raise InputInvalid(f"{place} is UTF-16.", hints=("fix: input: { encoding: utf-16 } in the job",))
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _names(header: list[str] | None, place: str, delimiter: str, *, told_delimiter: bool) -> list[str]:
    if header is None:
        raise InputInvalid(f"{place} holds no rows.", name="empty-input")
    if len(header) == 1 and not told_delimiter:
        other = next((mark for mark in (";", "\t", "|") if mark != delimiter and mark in header[0]), None)
        if other is not None:
            raise InputInvalid(
                f"{place} has one column by {delimiter!r}, and its header holds {other!r}.",
                hints=(
                    f"fix: input: {{ delimiter: {_encode(other).decode()} }} in the job",
                    f"or --delimiter '{other}' of ask and import, --set input.delimiter='{other}' of run and check",
                ),
            )
    for number, name in enumerate(header, 1):
        if not name.strip():
            at_end = ", or take away the commas at the ends of its lines" if number == len(header) else ""
            hints = (f"fix: name every column{at_end}",)
            raise InputInvalid(f"{place} line 1: column {number} has no name.", hints=hints)
        if _NOT_UTF_8.search(name):
            raise InputInvalid(f"{place} line 1 is not UTF-8.", hints=("fix: input: { encoding: cp1252 }",))
        if header.index(name) != number - 1:
            raise InputInvalid(
                f"{place} line 1 names column {name!r} twice.", hints=("fix: give each column a name of its own",)
            )
    return header


def _line(names: list[str], values: list[str], delimiter: str) -> bytes:
    if len(values) != len(names):
        found = f"{len(values)} value{'' if len(values) == 1 else 's'}"
        if not any(values[len(names) :]) and len(values) > len(names):
            return refused_line(
                f"has {found}, the header has {len(names)}: it ends in a comma", delimiter.join(values)
            )
        return refused_line(f"has {found}, the header has {len(names)}", delimiter.join(values))
    try:
        return _encode(dict(zip(names, values, strict=True)))
    except UnicodeEncodeError:
        name, value = next(pair for pair in zip(names, values, strict=True) if _NOT_UTF_8.search(pair[1]))
        found_byte = _NOT_UTF_8.search(value)
        assert found_byte is not None  # noqa: S101 - it was just found
        byte = ord(found_byte[0]) - 0xDC00
        return refused_line(
            f'is not UTF-8: byte 0x{byte:02x} in column "{name}" (input.encoding names another)',
            delimiter.join(values),
        )
