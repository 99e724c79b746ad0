"""What happens to batches, told as it happens: for the plain log, and the last of it for the live screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field


class BatchEvent(Struct, frozen=True, kw_only=True):
    """`name` is stable (`batch_submitted`), `text` is for people, `facts` for machines."""

    name: str
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)
    warning: bool = False


Tell = Callable[[BatchEvent], None]


def silence(event: BatchEvent) -> None:
    """For whoever does not want to be told."""
