"""Which format a file has, by its name or by the job's word, and who reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from typing import IO, BinaryIO

from msgspec import Struct

from runner.errors import InputInvalid
from runner.files.sources.blocks import LineReader, Position, Reader, RecordReader
from runner.files.sources.opened import unpacked


class Format(StrEnum):
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"


ENDINGS = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
PACKED = (".gz", ".gzip", ".zst", ".zstd")
# Said by name, because their bytes would only be called "not JSON".
UNREADABLE = (".arrow", ".feather", ".xlsx", ".xls", ".ods", ".zip", ".bz2", ".xz", ".avro", ".orc", ".db", ".sqlite")


class Reading(Struct, frozen=True, kw_only=True):
    """How the files of an input are to be read; None: as their names and first bytes say."""

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None


AS_NAMED = Reading()


def format_of(name: str) -> Format:
    """By the ending of a name; JSON lines where it says nothing. Raises InputInvalid for those nobody here reads."""
    plain = name.lower()
    for ending in PACKED:
        plain = plain.removesuffix(ending)
    if plain.endswith(UNREADABLE):
        raise InputInvalid(
            f"{name} has a format that is not read here.",
            hints=(f"read are {', '.join(Format)}, also as .gz or .zst; fix: convert it to one of them",),
        )
    return next((format_ for ending, format_ in ENDINGS.items() if plain.endswith(ending)), Format.JSONL)


def unit_of(format_: Format) -> str:
    """What rows are counted in."""
    return "row" if format_ is Format.PARQUET else "line"


def reader_of(
    stream: BinaryIO | IO[bytes], format_: Format, reading: Reading, at: Position, place: str, open_: ExitStack
) -> Reader:
    """The reader of one file. What is opened on the way, `open_` closes."""
    if format_ is Format.PARQUET:
        from runner.files.sources.parquet_rows import parquet_rows

        return RecordReader(parquet_rows(stream, place), at, place)
    data = unpacked(stream, open_, place)
    if format_ is Format.JSONL:
        return LineReader(data, at, place)
    return RecordReader(_rows(data, format_, reading, place), at, place)


def _rows(data: IO[bytes], format_: Format, reading: Reading, place: str) -> Iterator[tuple[int, bytes]]:
    if format_ is Format.JSON:
        from runner.files.sources.json_values import json_values

        return json_values(data, place)
    from runner.files.sources.csv_rows import csv_rows

    delimiter = reading.delimiter or ("\t" if format_ is Format.TSV else ",")
    return csv_rows(
        data, place, delimiter=delimiter, encoding=reading.encoding, told_delimiter=reading.delimiter is not None
    )
