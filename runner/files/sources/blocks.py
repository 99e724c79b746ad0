"""Records in blocks of about a megabyte, numbered and hashed, so that memory does not depend on the input.

JSON lines are cut from the bytes as they are: lines end at 0x0A and nowhere else, U+2028, U+0085 and their like are
text. Every other format comes as a stream of numbered JSON lines and is put into the same blocks, hashed over those
lines: whoever reads on in the middle, or compares an input with what was read before, sees no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

from msgspec import Struct

from runner.errors import InputInvalid

BLOCK_BYTES = 1 << 20
# Read in pieces that stay in the processor's cache and below malloc's mmap threshold: 1.7 times faster than 1 MB.
PIECE_BYTES = 1 << 16
# A Messages body may have 32 MB; no line that is longer can be sent.
MAX_LINE_BYTES = 32_000_000

BOM = b"\xef\xbb\xbf"


class Block(Struct, frozen=True, kw_only=True):
    """Whole lines without their 0x0A. `first_line` counts from 1, offsets are in decompressed bytes.

    `digest` is the SHA-256 of everything from the beginning of the input to `end_offset`. `numbers`, where it is set,
    says of each line which one of the input it is.
    """

    first_line: int
    lines: list[bytes]
    start_offset: int
    end_offset: int
    digest: str
    opens_file: bool = False
    numbers: Sequence[int] | None = None


def records(block: Block) -> list[tuple[int, bytes]]:
    """Line number and bytes of each record: without BOM, trailing CR and blank lines."""
    if block.numbers is not None:
        return list(zip(block.numbers, block.lines, strict=True))
    lines = block.lines
    if block.opens_file and lines and lines[0].startswith(BOM):
        lines = [lines[0][len(BOM) :], *lines[1:]]
    return [
        (number, line.removesuffix(b"\r"))
        for number, line in enumerate(lines, block.first_line)
        if line and not line.isspace()
    ]


class Position:
    """How far an input has been read, over all of its files: bytes, their digest, the number of the next line."""

    def __init__(self) -> None:
        self.offset = 0
        self.line = 1
        self._sha = hashlib.sha256()

    def digest(self) -> str:
        return self._sha.copy().hexdigest()

    def took(self, data: bytes) -> None:
        self._sha.update(data)
        self.offset += len(data)


class Reader(Protocol):
    """One file of an input."""

    def pass_over(self, upto: int) -> None:
        """Read up to this offset of the whole input, or to the end of the file, only hashing."""

    def next_block(self) -> Block | None:
        """About a megabyte of whole lines; None at the end of the file."""


class LineReader:
    """Cuts a byte stream into blocks of whole lines. `place` names the file in messages."""

    def __init__(self, stream: IO[bytes], at: Position, place: str) -> None:
        self._stream = stream
        self._at = at
        self._place = place
        self._opens_at = at.offset
        self._first = at.line

    def pass_over(self, upto: int) -> None:
        while self._at.offset < upto:
            chunk = self._stream.read(min(PIECE_BYTES, upto - self._at.offset))
            if not chunk:
                return
            self._at.took(chunk)
            self._at.line += chunk.count(b"\n")

    def next_block(self) -> Block | None:
        at = self._at
        first_line, start = at.line, at.offset
        lines: list[bytes] = []
        while at.offset - start < BLOCK_BYTES and (piece := self._piece()):
            at.took(piece)
            lines += piece.split(b"\n")
            if not lines[-1]:
                lines.pop()
            at.line = first_line + len(lines)
        if at.offset == start:
            return None
        return Block(
            first_line=first_line,
            lines=lines,
            start_offset=start,
            end_offset=at.offset,
            digest=at.digest(),
            opens_file=start == self._opens_at,
        )

    def _piece(self) -> bytes:
        """Bytes up to the end of a line or of the file."""
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
            line = self._at.line - self._first + 1 + data.count(b"\n")
            raise too_long(self._place, f"line {line}")


class RecordReader:
    """Puts numbered JSON lines of some other format into blocks. Numbers are those of the file, from 1."""

    def __init__(self, rows: Iterator[tuple[int, bytes]], at: Position, place: str) -> None:
        self._rows = rows
        self._at = at
        self._place = place
        self._before = at.line - 1

    def pass_over(self, upto: int) -> None:
        while self._at.offset < upto and self._next() is not None:
            pass

    def next_block(self) -> Block | None:
        at = self._at
        start = at.offset
        numbers: list[int] = []
        lines: list[bytes] = []
        while at.offset - start < BLOCK_BYTES and (found := self._next()) is not None:
            numbers.append(found[0])
            lines.append(found[1])
        if not lines:
            return None
        return Block(
            first_line=numbers[0],
            lines=lines,
            start_offset=start,
            end_offset=at.offset,
            digest=at.digest(),
            numbers=numbers,
        )

    def _next(self) -> tuple[int, bytes] | None:
        found = next(self._rows, None)
        if found is None:
            return None
        number, line = self._before + found[0], found[1]
        if len(line) > MAX_LINE_BYTES:
            raise too_long(self._place, f"line {found[0]}")
        self._at.took(line + b"\n")
        self._at.line = number + 1
        return number, line


def too_long(place: str, where: str) -> InputInvalid:
    return InputInvalid(
        f"{place} {where} is longer than {MAX_LINE_BYTES // 1_000_000} MB.",
        name="bad-row",
        hints=("a request cannot be larger than that", "fix: shorten the row or take it out"),
    )
