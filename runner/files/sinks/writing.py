"""The seam between results and formats: somebody who takes bytes, and somebody who turns rows into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Bytes(Protocol):
    """Takes bytes: a file, or what packs them."""

    def write(self, data: bytes, /) -> int: ...


class Table(Protocol):
    """Writes rows of columns that are known before."""

    def write(self, values: Sequence[Any]) -> None: ...

    def end(self) -> None: ...
