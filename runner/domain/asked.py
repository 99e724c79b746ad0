"""A request as the rules about what the API refuses look at it. Nothing in it is taken to be of the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from runner.domain.model_traits import ModelTraits

Fields = Mapping[str, Any]

NEW_VERSION = "2026-10-21"
EFFORTS = ("low", "medium", "high", "xhigh", "max")
FORCED = ("any", "tool")
# What counts as the default, and is taken by models that refuse any other value.
DEFAULTS: Mapping[str, tuple[float, ...]] = {"temperature": (1,), "top_p": (1, 0.99), "top_k": ()}


class Asked(Struct, frozen=True, kw_only=True):
    """A request as the rules look at it. `batch` is None where it may go either way."""

    fields: Fields
    traits: ModelTraits | None
    api_version: str
    batch: bool | None

    def of(self, *path: str) -> Any:
        """The value at a path of names, None where there is none."""
        value: Any = self.fields
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    @property
    def messages(self) -> list[Any]:
        told = self.fields.get("messages")
        return list(told) if isinstance(told, (list, tuple)) else []

    @property
    def tools(self) -> list[tuple[int, Mapping[str, Any]]]:
        told = self.fields.get("tools")
        every = enumerate(told) if isinstance(told, (list, tuple)) else ()
        return [(number, tool) for number, tool in every if isinstance(tool, Mapping)]

    @property
    def prefills(self) -> bool:
        last = self.messages[-1] if self.messages else None
        return isinstance(last, Mapping) and last.get("role") == "assistant"

    @property
    def forces_a_tool(self) -> bool:
        return self.of("tool_choice", "type") in FORCED
