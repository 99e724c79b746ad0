"""A file as the bytes that are in it: unpacked where it is gzip or zstd, whatever its name."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, cast

from runner.errors import InputInvalid

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Other programs' files that somebody has named otherwise; their bytes would only be called damaged.
FOREIGN = {
    b"PK\x03\x04": "a zip file, as spreadsheets are",
    b"PAR1": "parquet",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"SQLite": "an SQLite database",
}
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


def opened_file(path: Path, open_: ExitStack) -> IO[bytes]:
    """The file's own bytes; `open_` closes it."""
    return open_.enter_context(path.open("rb"))


def unpacked(stream: BinaryIO | IO[bytes], open_: ExitStack, place: str) -> IO[bytes]:
    """The bytes of a stream, unpacked if they are packed. Raises InputInvalid for what nobody here reads."""
    raw = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    magic = raw.peek(6)[:6]
    if magic.startswith(GZIP_MAGIC):
        return open_.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)))
    if magic.startswith(ZSTD_MAGIC):
        return open_.enter_context(cast("IO[bytes]", zstd.ZstdFile(raw)))
    for beginning, what in FOREIGN.items():
        if magic.startswith(beginning):
            hints = ("fix: export it as CSV, or name it as what it is",)
            raise InputInvalid(f"{place} is {what}, whatever its name says.", hints=hints)
    return raw


def packed(stream: BinaryIO, name: str) -> BinaryIO:
    """What is written comes out packed as the ending of `name` says; to be closed before `stream` is."""
    ending = name.rsplit(".", 1)[-1].lower()
    if ending == "gz":
        # Without a time in its head the same rows make the same file.
        return cast("BinaryIO", gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0))
    if ending in ("zst", "zstd"):
        return cast("BinaryIO", zstd.ZstdFile(stream, mode="w"))
    return stream
