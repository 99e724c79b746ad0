"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "note", "warning", "broken"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`name` is that of the error, where it is one."""

    part: str
    state: State
    text: str
    name: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"part": self.part, "state": self.state, "text": self.text, "error": self.name}
