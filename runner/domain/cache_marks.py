"""The rules of cache breakpoints in a request: how many, in which order, on what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.domain.trap import Path, Trap

MOST_MARKS = 4
UNMARKABLE = ("thinking", "redacted_thinking")


def mark_traps(body: Mapping[str, Any]) -> Iterator[Trap]:
    """What the API refuses about `cache_control` anywhere in a Messages body."""
    marks: list[tuple[Path, str]] = []
    last: tuple[Path, Mapping[str, Any]] | None = None
    for path, block in _blocks(body):
        if block.get("type") not in UNMARKABLE:
            last = path, block
        mark = block.get("cache_control")
        if not isinstance(mark, Mapping):
            continue
        marks.append(((*path, "cache_control"), _ttl(mark)))
        if block.get("type") in UNMARKABLE or (block.get("type") == "text" and block.get("text") == ""):
            what = "an empty text" if block.get("type") == "text" else "a thinking block"
            yield _trap((*path, "cache_control"), f"{what} cannot carry cache_control", "put it on another block")
    automatic = body.get("cache_control")
    slots = len(marks) + isinstance(automatic, Mapping)
    if slots > MOST_MARKS:
        sentence = f"there are {slots} cache breakpoints" + (", the automatic one included" if automatic else "")
        yield _trap(marks[-1][0], sentence, f"at most {MOST_MARKS}")
    yield from _order(marks)
    if isinstance(automatic, Mapping) and last is not None:
        own = last[1].get("cache_control")
        if isinstance(own, Mapping) and _ttl(own) != _ttl(automatic):
            sentence = "the last block is marked with another ttl than the automatic breakpoint"
            yield _trap((*last[0], "cache_control"), sentence, "give both the same ttl, or remove one")


def _order(marks: list[tuple[Path, str]]) -> Iterator[Trap]:
    short = False
    for path, ttl in marks:
        if ttl == "1h" and short:
            yield _trap(path, "a breakpoint of 1h stands after one of 5m", "longer ones must come first")
            return
        short = short or ttl == "5m"


def _ttl(mark: Mapping[str, Any]) -> str:
    told = mark.get("ttl")
    return told if isinstance(told, str) else "5m"


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Everything that may carry a mark, in the order in which it is cached: tools, system, messages."""
    for name in ("tools", "system"):
        yield from _of_list(body.get(name), (name,))
    messages = body.get("messages")
    for number, turn in enumerate(messages if isinstance(messages, (list, tuple)) else ()):
        if isinstance(turn, Mapping):
            yield from _of_list(turn.get("content"), ("messages", number, "content"))


def _of_list(value: Any, path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for number, block in enumerate(value if isinstance(value, (list, tuple)) else ()):
        if isinstance(block, Mapping):
            inner = block.get("content")
            if block.get("type") == "tool_result":
                yield from _of_list(inner, (*path, number, "content"))
            yield (*path, number), block


def _trap(path: Path, sentence: str, fix: str) -> Trap:
    return Trap(path=path, rule="cache-breakpoints", sentence=sentence, fix=fix)
