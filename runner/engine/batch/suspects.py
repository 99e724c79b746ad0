"""Finding the row for which the service refuses a whole create: by its name, or by halving what is sent. Pure.

Rows are packed in their order, so the next body begins with the rows of the one that was refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

# So many rows refused one after the other, each alone: it is not the rows.
HOPELESS = 3


class Suspects(Struct):
    """`refused` are rows that are known to be the cause, with the reason; they end with their next chunk.

    Those in `doubtful` were refused, each alone, and nothing has been taken since: it may be what all rows have in
    common. They do not ride, and are not the cause before another body was taken, or no other row is left.

    `limit` is how many rows the next body may have, None when nothing is suspected.
    """

    refused: dict[int, str] = field(default_factory=dict)
    doubtful: dict[int, str] = field(default_factory=dict)
    _among: int | None = None  # one of so many next rows is the cause

    @property
    def limit(self) -> int | None:
        return None if self._among is None else max(1, self._among // 2)

    @property
    def hopeless(self) -> bool:
        """Rows are refused whichever it is."""
        return len(self.doubtful) >= HOPELESS

    def name(self, idx: int, reason: str) -> None:
        """The service has named the row."""
        self.refused[idx] = reason
        self._among = None

    def refuse(self, idxs: Sequence[int], reason: str) -> None:
        """A body was refused without a name."""
        if len(idxs) > 1:
            self._among = len(idxs)
            return
        self.doubtful[idxs[0]] = reason
        self._among = None

    def accepted(self, count: int) -> None:
        """A body was taken: the cause is among those that are left."""
        self.convict()
        if self._among is not None:
            left = self._among - count
            self._among = left if left > 0 else None

    def convict(self) -> bool:
        """The doubtful rows are the cause; whether there were any."""
        found = bool(self.doubtful)
        self.refused |= self.doubtful
        self.doubtful = {}
        return found
