"""A file of results compared with the rows that rode: where each one's line lies, and what does not fit. Blocks."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from runner.api.results_file import LineTooLong, ResultLines
from runner.domain.submission import parse_custom_id

# Messages that are counted; where there are more, none of them is that of most rows.
MESSAGES_KEPT = 64


class _End(msgspec.Struct):
    type: str
    error: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: str
    result: _End


_read = msgspec.json.Decoder(_Line).decode


class Sorted(Struct):
    """Where each rider's line lies in a results file. Rows without one have a length of 0."""

    idxs: Sequence[int]
    offsets: array[int]
    lengths: array[int]
    conflicting: set[int] = field(default_factory=set)
    strange: int = 0
    doubled: int = 0
    unreadable: int = 0
    cut: bool = False
    errors: Counter[bytes] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        return sum(not length for length in self.lengths)

    @property
    def nothing(self) -> bool:
        return not any(self.lengths)


def sort_lines(path: Path, submission: str, idxs: Sequence[int]) -> Sorted:
    """Compare a file of results with the rows that rode, `idxs` ascending. Blocks."""
    found = Sorted(idxs=idxs, offsets=array("q", bytes(8 * len(idxs))), lengths=array("q", bytes(8 * len(idxs))))
    lines = ResultLines(path)
    with path.open("rb") as file:
        try:
            for offset, line in lines.located():
                _place(found, file.fileno(), submission, offset, line)
        except LineTooLong:
            found.cut = True
        if lines.unfinished:
            before = found.unreadable
            _place(found, file.fileno(), submission, lines.unfinished_at, lines.unfinished)
            found.cut = found.unreadable > before
    return found


def _place(found: Sorted, descriptor: int, submission: str, offset: int, line: bytes) -> None:
    try:
        told = _read(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found.unreadable += 1
        return
    name = parse_custom_id(told.custom_id)
    slot = -1 if name is None or name[0] != submission else _slot(found.idxs, name[1])
    if slot < 0:
        found.strange += 1
        return
    if found.lengths[slot]:
        first = os.pread(descriptor, found.lengths[slot], found.offsets[slot])
        if first == line:
            found.doubled += 1
        else:
            found.conflicting.add(found.idxs[slot])
        return
    found.offsets[slot], found.lengths[slot] = offset, len(line)
    if told.result.type == "errored" and (len(found.errors) < MESSAGES_KEPT or told.result.error in found.errors):
        found.errors[bytes(told.result.error)] += 1


def _slot(idxs: Sequence[int], idx: int) -> int:
    slot = bisect_left(idxs, idx)
    return slot if slot < len(idxs) and idxs[slot] == idx else -1
