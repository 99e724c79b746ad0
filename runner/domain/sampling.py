"""Which rows a sample takes: by a hash of seed and row number, so that the same seed takes the same rows."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

_LARGEST = 1 << 64


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
