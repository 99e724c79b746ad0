"""Parquet to JSON lines, a few hundred rows at a time.

Dates and times become ISO 8601, decimals text with all their digits, bytes base64, NaN and the infinities null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import msgspec

from runner.errors import InputInvalid, UsageInvalid

# Rows of a row group that are unpacked together.
BATCH_ROWS = 512
# Read from each column at a time. Without it a column of a row group is held whole, and many programs put a million
# rows into one group: 850 MB for a file of 800 MB, instead of 40.
COLUMN_BUFFER_BYTES = 1 << 16
_encode = msgspec.json.Encoder(enc_hook=str).encode


def parquet_rows(file: BinaryIO | IO[bytes], place: str) -> Iterator[tuple[int, bytes]]:
    """Rows by number from 1. `file` must be one that can be read anywhere, as files can and pipes cannot."""
    arrow, parquet = _libraries()
    if not file.seekable():
        raise InputInvalid(f"{place} is parquet, which cannot be read from a pipe.", hints=("fix: -i FILE",))
    try:
        # Only what is being unpacked is held, and given back at once.
        opened = parquet.ParquetFile(file, pre_buffer=False, buffer_size=COLUMN_BUFFER_BYTES)
        names = opened.schema_arrow.names
        if len(set(names)) != len(names):
            raise InputInvalid(f"{place} names a column twice.")
        number = 0
        for batch in opened.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            for row in _plain(arrow, batch).to_pylist():
                number += 1
                yield number, _encode(row)
    except (arrow.ArrowException, ValueError, OverflowError) as problem:
        raise InputInvalid(f"{place} is damaged or no parquet: {problem}.") from None


def _plain(arrow: Any, batch: Any) -> Any:
    """Times of nanoseconds are more than Python has; they become text with all their digits."""
    for number, field in enumerate(batch.schema):
        if arrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            batch = batch.set_column(number, field.name, batch.column(number).cast(arrow.string()))
    return batch


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageInvalid(
            "parquet needs pyarrow, which is not installed.",
            name="missing-extra",
            hints=("fix: pip install 'claude-job-runner[parquet]'",),
        ) from None
    return pa, parquet
