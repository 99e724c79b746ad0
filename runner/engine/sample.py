"""Some rows of a run, wherever they lie: their chunks one after the other, every other row in them left alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from runner.store.claims import ClaimedChunk
from runner.store.group import Fence


class ChunksWith:
    """`claim_after` claims the first chunk behind a number that has free rows. What was claimed is in `taken`, to be
    given back."""

    def __init__(self, wanted: frozenset[int], claim_after: Callable[[int], Awaitable[ClaimedChunk | None]]) -> None:
        self._wanted = wanted
        self._claim_after = claim_after
        self._seq = -1
        self.taken: list[Fence] = []

    async def next(self) -> ClaimedChunk | None:
        """The next chunk that holds a wanted row which is free; None behind the last."""
        while (chunk := await self._claim_after(self._seq)) is not None:
            self._seq = chunk.fence.seq
            self.taken.append(chunk.fence)
            rows = frozenset(range(chunk.first_idx, chunk.first_idx + chunk.n))
            if rows & self._wanted - chunk.taken:
                return replace(chunk, taken=chunk.taken | (rows - self._wanted))
        return None
