"""What a sweep has found, in plain words and as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from runner.domain.quantity import of_batches
from runner.views.numbers import count
from runner.views.safe_text import safe_line

# Ids that are named in a line.
NAMED = 5


class Found(Protocol):
    """What a sweep has found; ids are the service's."""

    @property
    def listed(self) -> int: ...
    @property
    def duplicates(self) -> tuple[str, ...]: ...
    @property
    def claimed(self) -> tuple[str, ...]: ...
    @property
    def foreign(self) -> int: ...
    @property
    def later(self) -> tuple[str, ...]: ...
    @property
    def unreadable(self) -> tuple[str, ...]: ...


def sweep_lines(run: str, found: Found, known: int, collect: Sequence[str]) -> list[str]:
    """First the verdict, then what remains to be known. `known` duplicates were found before; the batches of the
    runs in `collect` were found again."""
    lines = [f"run {run}: the service lists {of_batches(found.listed)}; {_verdict(found, known)}."]
    if found.claimed:
        lines.append(f"  found again: {_names(found.claimed)}.")
    lines += [f"  runner collect {owner}   fetches the results" for owner in collect]
    if found.foreign:
        lines.append(f"  {of_batches(found.foreign)} of as many rows as ours, but somebody else's.")
    if found.later:
        lines.append(f"  not ended yet, so not known: {_names(found.later)}. Sweep again when they have.")
    if found.unreadable:
        lines.append(f"  without results that could be read, so not known: {_names(found.unreadable)}.")
    return lines


def _verdict(found: Found, known: int) -> str:
    if not found.duplicates and known:
        return f"no duplicate among them beyond the {count(known)} in the books"
    if not found.duplicates:
        return "none of them holds rows of ours a second time"
    holds = "holds" if len(found.duplicates) == 1 else "hold"
    return f"{count(len(found.duplicates))} of them {holds} rows of ours a second time: {_names(found.duplicates)}"


def _names(ids: Sequence[str]) -> str:
    more = f" and {count(len(ids) - NAMED)} more" if len(ids) > NAMED else ""
    return ", ".join(safe_line(one) for one in ids[:NAMED]) + more


def sweep_json(run: str, found: Found) -> dict[str, Any]:
    return {
        "run": run,
        "listed": found.listed,
        "duplicates": list(found.duplicates),
        "claimed": list(found.claimed),
        "foreign": found.foreign,
        "not_ended": list(found.later),
        "unreadable": list(found.unreadable),
    }
