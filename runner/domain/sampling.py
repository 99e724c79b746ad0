"""Which rows a sample takes: by a hash of seed and row number, so that the same seed takes the same rows; or as they
pass by, in one look at each."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable

from msgspec import Struct

_LARGEST = 1 << 64
# A row may have 32 MB, a sample of them not 200 times that.
MOST_BYTES = 64_000_000


def lot(seed: int, number: int) -> int:
    """The lot that row `number` draws, below 2^64."""
    drawn = hashlib.blake2b(b"%d:%d" % (seed, number), digest_size=8).digest()
    return int.from_bytes(drawn, "big")


def in_share(seed: int, number: int, share: float) -> bool:
    """Is the row in a sample of this share of all rows?"""
    return lot(seed, number) < share * _LARGEST


def drawn(seed: int, numbers: Iterable[int], size: int) -> frozenset[int]:
    """The `size` rows with the smallest lots. Memory is that of the sample."""
    kept: list[tuple[int, int]] = []
    for number in numbers:
        entry = (-lot(seed, number), number)
        if len(kept) < size:
            heapq.heappush(kept, entry)
        elif entry > kept[0]:
            heapq.heapreplace(kept, entry)
    return frozenset(number for _, number in kept)


class Drawn(Struct, frozen=True, kw_only=True):
    """A record that was kept: its number among those that passed, the line on which it stands, its bytes."""

    number: int
    line: int
    payload: bytes


class Reservoir:
    """At most `size` records of a stream, any as likely as any other; fewer where they would have more than
    `most_bytes` together. `dice` gives numbers from 0 up to 1.

    Each record has a lot between 0 and 1, and the smallest stay. Lots that are too large are never drawn: how many
    records go by until one can stay is drawn at once, so that a record that goes by costs one comparison with `next`.
    """

    def __init__(self, size: int, dice: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self.next = 0 if size else -1
        self._size = size
        self._most_bytes = most_bytes
        self._dice = dice
        self._bar = 1.0
        self._bytes = 0
        self._kept: list[tuple[float, int, Drawn]] = []  # the largest lot first

    def take(self, record: Drawn) -> None:
        """The record whose number is `next`."""
        lot = self._bar * (1 - self._dice())
        heapq.heappush(self._kept, (-lot, record.number, record))
        self._bytes += len(record.payload)
        if len(self._kept) > self._size:
            self._drop()
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            self._drop()
            self._size = len(self._kept)
        if len(self._kept) == self._size:
            self._bar = -self._kept[0][0]
        self.next = record.number + 1 + self._going_by()

    def _drop(self) -> None:
        self._bytes -= len(heapq.heappop(self._kept)[2].payload)

    def _going_by(self) -> int:
        return 0 if self._bar == 1.0 else int(math.log(1 - self._dice()) / math.log1p(-self._bar))

    def drawn(self) -> list[Drawn]:
        """By their lots: the first of them are a smaller sample."""
        return [record for _, _, record in sorted(self._kept, reverse=True)]
