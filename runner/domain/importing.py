"""What an import keeps of somebody else's rows, and what it has to leave behind: counted, never silently."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field


class Imported(Struct, kw_only=True):
    """`dropped` counts fields without a counterpart by their paths, `refused` rows by the reason."""

    rows: int = 0
    without_model: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)
    refused_count: int = 0
    answers: int = 0

    def refuse(self, where: str, reason: str) -> None:
        self.refused_count += 1
        if len(self.refused) < 20:
            self.refused.append((where, reason))
