"""Many lines of JSON in little memory: compressed by the page, read from the first to the last.

A result of a few hundred bytes takes a few dozen here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

LINES_A_PAGE = 512
LEVEL = 1  # most of the gain, at a tenth of the time


class Pages:
    """Lines without their newline go in; pieces of whole lines, each with its newline, come out."""

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self._pages: list[bytes] = []
        self._open: list[bytes] = []
        for line in lines:
            self.append(line)

    def append(self, line: bytes) -> None:
        self._open.append(line + b"\n")
        if len(self._open) == LINES_A_PAGE:
            self._pages.append(zlib.compress(b"".join(self._open), LEVEL))
            self._open = []

    def keep(self, count: int) -> None:
        """Forget all but the first so many lines."""
        pages, rest = divmod(count, LINES_A_PAGE)
        if pages < len(self._pages):
            self._open = zlib.decompress(self._pages[pages]).splitlines(keepends=True)
            del self._pages[pages:]
        elif pages > len(self._pages):
            return
        del self._open[rest:]

    def __iter__(self) -> Iterator[bytes]:
        for page in self._pages:
            yield zlib.decompress(page)
        if self._open:
            yield b"".join(self._open)

    def lines(self) -> Iterator[bytes]:
        """One by one, without the newline."""
        for piece in self:
            yield from piece.removesuffix(b"\n").split(b"\n")
