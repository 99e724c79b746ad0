"""Finding the row for which the service refuses a whole create: by its name, or by halving what is sent. Pure.

Rows are packed in their order, so the next body begins with the rows of the one that was refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# So many rows refused one after the other, each alone: it is not the rows.
HOPELESS = 3


@dataclass(slots=True)
class Suspects:
    """`refused` are rows that are known to be the cause, with the reason; they end with their next chunk.

    `limit` is how many rows the next body may have, None when nothing is suspected.
    """

    refused: dict[int, str] = field(default_factory=dict)
    _among: int | None = None  # one of so many next rows is the cause
    _alone: int = 0

    @property
    def limit(self) -> int | None:
        return None if self._among is None else max(1, self._among // 2)

    @property
    def hopeless(self) -> bool:
        """Rows are refused whichever it is."""
        return self._alone >= HOPELESS

    def name(self, idx: int, reason: str) -> None:
        """The service has named the row."""
        self.refused[idx] = reason
        self._among = None

    def refuse(self, idxs: Sequence[int], reason: str) -> None:
        """A body was refused without a name."""
        if len(idxs) > 1:
            self._among = len(idxs)
            return
        self.refused[idxs[0]] = reason
        self._among = None
        self._alone += 1

    def accepted(self, count: int) -> None:
        """A body was taken: the cause is among those that are left."""
        self._alone = 0
        if self._among is not None:
            left = self._among - count
            self._among = left if left > 0 else None
