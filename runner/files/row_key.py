"""A row's own key: the column that the job names, else `custom_id`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runner.files.bad_row import BadRow
from runner.files.template import missing_column

MAX_KEY_CHARS = 1_000


def key_of(row: Mapping[str, Any], column: str | None) -> str | None:
    """The key, None where the row has none. Raises BadRow for one that cannot be a key."""
    if column is None:
        return _key(row["custom_id"], "custom_id") if "custom_id" in row else None
    if column not in row:
        raise missing_column(column, row, "which input.id names")
    return _key(row[column], column)


def key_reader(column: str | None) -> Callable[[bytes], str | None]:
    """Reads the key of a line and passes over all else in it; None where that does not tell it."""
    try:
        row = msgspec.defstruct("_Row", [("key", Any, None)], rename={"key": column or "custom_id"})
    except ValueError:  # a name that JSON has to escape
        row = msgspec.defstruct("_Row", [("key", Any, None)], rename={"key": ""})
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode

    def read(line: bytes) -> str | None:
        try:
            found = decode(line).key
        except msgspec.DecodeError:
            return None
        return found if type(found) is str and 0 < len(found) <= MAX_KEY_CHARS and not found.isspace() else None

    return read


def _key(value: Any, column: str) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is not str:
        raise BadRow(f'has a "{column}" that is neither text nor a whole number')
    if not value or value.isspace():
        raise BadRow(f'has an empty "{column}"')
    if len(value) > MAX_KEY_CHARS:
        raise BadRow(f'has a "{column}" of more than {MAX_KEY_CHARS:,} characters')
    return value
