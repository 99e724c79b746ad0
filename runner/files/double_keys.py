"""Which keys occur twice, in memory that does not grow with rows.

Eight bytes of hash a key, spread over partitions by their low bits and spilled to temporary files; each partition
is looked through by itself. A hash that occurs twice is a suspect: the caller compares the keys themselves, so
Python's own string hash is good enough, and it is ten times as fast as a cryptographic one.
"""

from __future__ import annotations

import tempfile
from array import array
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

PARTITIONS = 256
SPILL_ABOVE_KEYS = 200_000


class KeyLedger:
    """The keys seen so far, as hashes. Used in a `with`, which takes the temporary files away."""

    def __init__(self, spill_above_keys: int = SPILL_ABOVE_KEYS) -> None:
        self.count = 0
        self._spill_above = spill_above_keys
        self._spilled = 0
        self._partitions: list[array[int]] = [array("q") for _ in range(PARTITIONS)]
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, key: str) -> None:
        number = hash(key)
        self._partitions[number % PARTITIONS].append(number)
        self.count += 1

    def spill_if_large(self) -> None:
        """Called once a block: a look at each key would cost more than it saves."""
        if self.count - self._spilled < self._spill_above:
            return
        for number, hashes in enumerate(self._partitions):
            with self._file(number).open("ab") as file:
                hashes.tofile(file)
            del hashes[:]
        self._spilled = self.count

    def doubles(self) -> frozenset[int]:
        """The hashes that occur more than once."""
        found: set[int] = set()
        for number in range(PARTITIONS):
            found |= _repeated(self._whole_partition(number))
        return frozenset(found)

    def _whole_partition(self, number: int) -> array[int]:
        hashes = array("q")
        if self._folder is not None:
            hashes.frombytes(self._file(number).read_bytes())
        return hashes + self._partitions[number]

    def _file(self, number: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="runner-keys-")
        return Path(self._folder.name) / f"{number:03}"


def _repeated(hashes: array[int]) -> set[int]:
    if len(set(hashes)) == len(hashes):
        return set()
    ordered = sorted(hashes)
    return {number for number, after in pairwise(ordered) if number == after}
