"""Inputs to blocks of lines: JSONL, plain or compressed, from a file or from stdin.

Lines end at 0x0A and nowhere else: U+2028, U+0085 and their like are text. A block is about a megabyte, so memory
does not depend on the input; a digest runs along over the decompressed bytes, by which a changed input is known.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self, cast

from runner.domain.nearest import suggest
from runner.errors import InputInvalid

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 20
# Read in pieces that stay in the processor's cache and below malloc's mmap threshold: 1.7 times faster than 1 MB.
PIECE_BYTES = 1 << 16
# A Messages body may have 32 MB; no line that is longer can be sent.
MAX_LINE_BYTES = 32_000_000

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
STDIN = "-"

# Said by name, because their bytes would only be called "not JSON".
OTHER_FORMATS = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".xls", ".zip", ".bz2", ".xz")
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Whole lines without their 0x0A. `first_line` counts from 1, offsets are in decompressed bytes.

    `digest` is the SHA-256 of everything from the beginning of the input to `end_offset`.
    """

    first_line: int
    lines: list[bytes]
    start_offset: int
    end_offset: int
    digest: str


def records(block: Block) -> list[tuple[int, bytes]]:
    """Line number and bytes of each record: without BOM, trailing CR and blank lines."""
    lines = block.lines
    if block.start_offset == 0 and lines and lines[0].startswith(BOM):
        lines = [lines[0][len(BOM) :], *lines[1:]]
    return [
        (number, line.removesuffix(b"\r"))
        for number, line in enumerate(lines, block.first_line)
        if line and not line.isspace()
    ]


class Input:
    """An input that can be read block by block; a regular file as often as one likes.

    `place` names it in messages and in a run's identity; `checkable` says that it can be read before the first
    send and again after; `size` is in bytes as stored, None where it has none. `prefix_digest` is known once
    `blocks(start_offset)` has passed its start.
    """

    def __init__(
        self, *, place: str, stream: BinaryIO | None, size: int | None, checkable: bool, path: str | None = None
    ) -> None:
        self.place = place
        self._path = Path(path or place)
        self.size = size
        self.checkable = checkable
        self.prefix_digest: str | None = None
        self._stream = stream
        self._open: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def blocks(self, start_offset: int = 0) -> Iterator[Block]:
        """The lines from `start_offset` on, which must be the end of a block; what is before is only hashed."""
        reader = _Lines(self._decompressed(), self.place)
        try:
            reader.pass_over(start_offset)
            self.prefix_digest = reader.digest()
            while (block := reader.next_block()) is not None:
                yield block
        except DAMAGED as problem:
            raise InputInvalid(
                f"{self.place} is damaged: {problem}",
                hints=(f"it could be read up to line {reader.line - 1}", "fix: make or fetch the file again"),
            ) from None
        except OSError as problem:
            raise InputInvalid(f"{self.place} could not be read: {problem.strerror or problem}") from None
        finally:
            self.close()

    def _decompressed(self) -> IO[bytes]:
        raw = self._raw()
        magic = raw.peek(4)[:4]
        opened: IO[bytes] = raw
        if magic.startswith(GZIP_MAGIC):
            opened = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        elif magic.startswith(ZSTD_MAGIC):
            opened = cast("IO[bytes]", zstd.ZstdFile(raw))
        if opened is not raw:
            self._open.append(opened)
        return opened

    def _raw(self) -> io.BufferedReader:
        if self._stream is not None:
            if isinstance(self._stream, io.BufferedReader):
                return self._stream
            return io.BufferedReader(cast("io.RawIOBase", self._stream))
        opened = self._path.open("rb")
        self._open.append(opened)
        return opened


class _Lines:
    """Cuts a byte stream into blocks of whole lines, counting and hashing as it goes."""

    def __init__(self, stream: IO[bytes], place: str) -> None:
        self._stream = stream
        self._place = place
        self._sha = hashlib.sha256()
        self.offset = 0
        self.line = 1

    def digest(self) -> str:
        return self._sha.copy().hexdigest()

    def pass_over(self, offset: int) -> None:
        while self.offset < offset:
            chunk = self._stream.read(min(PIECE_BYTES, offset - self.offset))
            if not chunk:
                raise InputInvalid(
                    f"{self._place} has become shorter: it ends at byte {self.offset:,}, "
                    f"the run has read up to byte {offset:,}",
                    name="input-changed",
                )
            self._sha.update(chunk)
            self.offset += len(chunk)
            self.line += chunk.count(b"\n")

    def next_block(self) -> Block | None:
        """About a megabyte of whole lines; None at the end of the input."""
        first_line, start = self.line, self.offset
        lines: list[bytes] = []
        while self.offset - start < BLOCK_BYTES and (piece := self._piece()):
            self._sha.update(piece)
            self.offset += len(piece)
            lines += piece.split(b"\n")
            if not lines[-1]:
                lines.pop()
            self.line = first_line + len(lines)
        if self.offset == start:
            return None
        return Block(
            first_line=first_line, lines=lines, start_offset=start, end_offset=self.offset, digest=self.digest()
        )

    def _piece(self) -> bytes:
        """Bytes up to the end of a line or of the input."""
        data = self._stream.read(PIECE_BYTES)
        if not data or data.endswith(b"\n"):
            return data
        rest = self._stream.readline(MAX_LINE_BYTES)
        if len(rest) + PIECE_BYTES > MAX_LINE_BYTES:
            self._refuse_long_line(data, rest)
        return data + rest

    def _refuse_long_line(self, data: bytes, rest: bytes) -> None:
        length = len(data) - (data.rfind(b"\n") + 1) + len(rest.removesuffix(b"\n"))
        if length > MAX_LINE_BYTES or (len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n")):
            line = self.line + data.count(b"\n")
            raise InputInvalid(
                f"{self._place} line {line} is longer than {MAX_LINE_BYTES // 1_000_000} MB.",
                name="bad-row",
                hints=("a request cannot be larger than that", "fix: shorten the row or take it out"),
            )


def open_input(path: str, stdin: BinaryIO | None = None) -> Input:
    """The input at `path` (`-` is stdin), to be used in a `with`. Raises InputInvalid where there is none."""
    if path == STDIN:
        return Input(place=STDIN, stream=stdin or sys.stdin.buffer, size=None, checkable=False)
    _refuse_other_formats(path)
    place = Path(path).absolute()
    try:
        facts = place.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise InputInvalid(f"{path} is a directory.", hints=("fix: name the file itself, or - for stdin",))
        with place.open("rb") if stat.S_ISREG(facts.st_mode) else io.BytesIO():
            pass
    except FileNotFoundError:
        raise InputInvalid(f"there is no input file {path}.", hints=_where_looked(place)) from None
    except PermissionError:
        raise InputInvalid(f"{path} may not be read.", hints=(f"fix: chmod u+r {path}",)) from None
    except (OSError, ValueError) as problem:
        raise InputInvalid(f"{path!r} could not be opened: {problem}.") from None
    regular = stat.S_ISREG(facts.st_mode)
    return Input(place=str(place), stream=None, size=facts.st_size if regular else None, checkable=regular)


def spooled_stdin(path: str) -> Input:
    """What came from stdin, spooled to a file: to be read as often as one likes, and still called stdin."""
    return Input(place="stdin", stream=None, size=Path(path).stat().st_size, checkable=True, path=path)


def _where_looked(place: Path) -> tuple[str, ...]:
    hints = [f"looked for {place}"]
    if place.parent.is_dir():
        near = suggest(place.name, [entry.name for entry in place.parent.iterdir() if entry.is_file()])
        hints += [f"did you mean {place.parent / near} ?"] if near else []
    return (*hints, "fix: name an existing file with -i FILE, or - for stdin")


def _refuse_other_formats(path: str) -> None:
    if "://" in path:
        raise InputInvalid(f"{path} is not a local file.", hints=("this version reads local files and stdin",))
    if path.lower().endswith(OTHER_FORMATS):
        raise InputInvalid(
            f"{path} is not JSON lines, the one format this version reads (.jsonl, .gz or .zst of it, or -).",
            hints=('fix: write one JSON object a line, for example {"id": 1, "text": "..."}',),
        )
