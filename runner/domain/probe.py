"""Probes: rows sent ahead of a large batch to try each shape of parameters, because a batch tells a day later. Pure.

The API checks the parameters of a batch's requests only while it works on them: a field that it refuses would come
back as an error in every line. So before many rows are submitted, one of each shape goes alone, and its answer is
kept. A row may be refused for a fault of its own; only when several rows of a shape are refused the shape is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

# Fewer rows cost little if all of them are refused.
PROBE_FROM = 1_000
# Beyond that, rows bring fields of their own and no probe speaks for the others.
MOST_SHAPES = 8
# So many rows of one shape, one after the other: they are unlikely to share a fault that is not the shape's.
ROWS_A_SHAPE = 3
# Of the API's own words in our sentence.
MOST_WORDS = 300

SHAPE_BYTES = 8
# What differs between rows by nature, and is not refused for its shape.
_NOT_SHAPE = frozenset({"messages", "system", "metadata"})

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode


def shape_of(fields: Mapping[str, Any]) -> str:
    """16 hex digits that two Messages bodies share when the API would judge their parameters alike.

    Every field but messages, system and metadata counts with its value, tools whole; of the messages only which kinds
    of content they hold and whether the last is the assistant's, which many models refuse.
    """
    told = {name: value for name, value in fields.items() if name not in _NOT_SHAPE}
    messages = fields.get("messages")
    turns = [turn for turn in messages if isinstance(turn, Mapping)] if isinstance(messages, list) else []
    kinds = sorted({kind for turn in turns for kind in _kinds(turn.get("content"))})
    prefilled = bool(turns) and turns[-1].get("role") == "assistant"
    text = _encode([told, kinds, prefilled])
    return hashlib.blake2b(text.encode(), digest_size=SHAPE_BYTES).hexdigest()


def _kinds(content: object) -> Iterable[str]:
    """`text`, `image/base64`, ...: the blocks, with where their data is, those inside tool results too."""
    if not isinstance(content, list):
        return ("text",)
    found: set[str] = set()
    for block in content:
        if not isinstance(block, Mapping):
            continue
        source = block.get("source")
        place = f"/{source.get('type')}" if isinstance(source, Mapping) else ""
        found.add(f"{block.get('type')}{place}")
        if isinstance(block.get("content"), list):
            found.update(_kinds(block["content"]))
    return found


class Probe(Struct, frozen=True, kw_only=True):
    """What is known of one shape. `rows` were sent ahead, in this order; `refused` of them the API did not take."""

    rows: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    proven: bool = False
    told: str = ""

    @property
    def is_refused(self) -> bool:
        return len(self.refused) >= ROWS_A_SHAPE


class Probing(Struct, frozen=True, kw_only=True):
    """All shapes that a run has met, at most MOST_SHAPES; later ones ride unprobed.

    Rows are named by their idx. One row of a shape is out at a time: `wants` says whether the next may go.
    """

    shapes: Mapping[str, Probe] = field(default_factory=dict)

    def wants(self, shape: str) -> bool:
        """Whether a row of this shape is to go ahead now."""
        probe = self.shapes.get(shape)
        if probe is None:
            return len(self.shapes) < MOST_SHAPES
        return not probe.proven and not probe.is_refused and len(probe.rows) == len(probe.refused)

    def sent(self, shape: str, idx: int) -> Probing:
        """After the row went ahead. Raises ValueError where none of its shape was wanted."""
        if not self.wants(shape):
            raise ValueError(f"row {idx}: no probe of shape {shape} is wanted")
        probe = self.shapes.get(shape, Probe())
        return self._with(shape, replace(probe, rows=(*probe.rows, idx)))

    def answered(self, idx: int) -> Probing:
        """Any answer proves the row's shape."""
        shape = self._shape_probed_by(idx)
        return self if shape is None else self._with(shape, replace(self.shapes[shape], proven=True))

    def refused(self, idx: int, told: str) -> Probing:
        """A refusal of the row speaks against its shape; `told` is what the API says."""
        shape = self._shape_probed_by(idx)
        if shape is None or idx in self.shapes[shape].refused:
            return self
        probe = self.shapes[shape]
        return self._with(shape, replace(probe, refused=(*probe.refused, idx), told=_words(told)))

    def given_up(self, idx: int) -> Probing:
        """The row has ended, or was held back, and says nothing of its shape: another may be sent in its place."""
        shape = self._shape_probed_by(idx)
        if shape is None or idx in self.shapes[shape].refused:
            return self
        probe = self.shapes[shape]
        return self._with(shape, replace(probe, rows=tuple(row for row in probe.rows if row != idx)))

    @property
    def undecided(self) -> bool:
        """Whether rows of some shape went ahead, and it is neither proven nor refused."""
        return any(not probe.proven and not probe.is_refused for probe in self.shapes.values())

    def verdict(self) -> str | None:
        """Why the rows should not be submitted, a sentence for the person; None while nothing speaks against it."""
        for probe in self.shapes.values():
            if probe.is_refused:
                return (
                    f"the API refused all {ROWS_A_SHAPE} rows that were sent ahead to try these parameters, "
                    f"so the others of their kind were not sent: {probe.told}"
                )
        return None

    def _shape_probed_by(self, idx: int) -> str | None:
        return next((shape for shape, probe in self.shapes.items() if idx in probe.rows), None)

    def _with(self, shape: str, probe: Probe) -> Probing:
        return Probing(shapes={**self.shapes, shape: probe})


def _words(words: str) -> str:
    return words if len(words) <= MOST_WORDS else words[: MOST_WORDS - 1] + "…"
