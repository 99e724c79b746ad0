"""One thing that the API would refuse: where it stands in a request, which rule it breaks, and the way out."""

from __future__ import annotations

from msgspec import Struct

Path = tuple[str | int, ...]


def anyway(rule: str) -> str:
    """How a request goes out in spite of a rule, which may be older than the service."""
    return f"allow: [{rule}] sends it anyway"


class Trap(Struct, frozen=True, kw_only=True):
    """`path` leads into the body, `rule` is a word for machines; `sentence` and `fix` are for people."""

    path: Path
    rule: str
    sentence: str
    fix: str

    @property
    def words(self) -> str:
        return f"{self.sentence}: {self.fix}"

    @property
    def told(self) -> str:
        """With what to write for those who know better."""
        return f"{self.words} ({anyway(self.rule)})"

    @property
    def place(self) -> str:
        """`tools[0].type`."""
        told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return told.removeprefix(".")
