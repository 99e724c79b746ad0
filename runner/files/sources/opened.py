"""A file as the bytes that are in it: unpacked where it is gzip or zstd, whatever its name."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


def opened_file(path: Path, open_: ExitStack) -> IO[bytes]:
    """The file's own bytes; `open_` closes it."""
    return open_.enter_context(path.open("rb"))


def unpacked(stream: BinaryIO | IO[bytes], open_: ExitStack) -> IO[bytes]:
    """The bytes of a stream, unpacked if they are packed."""
    raw = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    magic = raw.peek(4)[:4]
    if magic.startswith(GZIP_MAGIC):
        return open_.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)))
    if magic.startswith(ZSTD_MAGIC):
        return open_.enter_context(cast("IO[bytes]", zstd.ZstdFile(raw)))
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
