"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

State = Literal["ok", "note", "warning", "broken"]


class Finding(Struct, frozen=True, kw_only=True):
    """`name` is that of the error, where it is one."""

    part: str
    state: State
    text: str
    name: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"part": self.part, "state": self.state, "text": self.text, "error": self.name}
