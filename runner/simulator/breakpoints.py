"""Where a prompt may be cached: its blocks in order, those with a `cache_control` mark, and what is refused of marks.

Pure. The order is tools, system, messages. A mark of the whole body stands on its last block that can carry one.
Whether something is in a cache, `caches` knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from runner.simulator import prompt
from runner.simulator.problems import Problem, invalid

Params = Mapping[str, Any]

MAX_MARKS = 4
TTLS = ("5m", "1h")
_UNMARKABLE = ("thinking", "redacted_thinking")

_encode = msgspec.json.Encoder(order="sorted").encode


class Breakpoint(NamedTuple):
    """A block, by its place among all, up to which the prompt is to be cached, and for how long."""

    place: int
    ttl: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedPrompt:
    """The blocks up to the last breakpoint: for each a digest of all up to it, and its tokens with those before."""

    digests: tuple[bytes, ...]
    tokens: tuple[int, ...]
    breakpoints: tuple[Breakpoint, ...]


def marked_prompt(params: Params, model_id: str) -> MarkedPrompt | None:
    """The part of a valid request that may be cached; None where nothing is marked."""
    blocks = list(_blocks(params))
    breakpoints = _breakpoints(params, blocks)
    if not breakpoints:
        return None
    digests, tokens, size = [], [], 0
    running = hashlib.sha256(model_id.encode())
    section = ""
    for block in blocks[: breakpoints[-1].place + 1]:
        if block.section != section:
            section = block.section
            running.update(_encode(_invalidated_by(params, section)))
        running.update(_encode([block.role, prompt.unmarked(block.value)]))
        size += block.size
        digests.append(running.digest()[:16])
        tokens.append(size // prompt.BYTES_PER_TOKEN)
    return MarkedPrompt(digests=tuple(digests), tokens=tuple(tokens), breakpoints=tuple(breakpoints))


class _Block(NamedTuple):
    section: str
    role: str
    value: Any

    @property
    def size(self) -> int:
        if self.section == "tools":
            return prompt.tool_bytes(prompt.unmarked(self.value))
        return prompt.content_bytes(self.value)


def _blocks(params: Params) -> Iterator[_Block]:
    for tool in params.get("tools") or ():
        yield _Block("tools", "", tool)
    for value in _as_blocks(params.get("system") or ()):
        if isinstance(value, dict):
            yield _Block("system", "", value)
    for message in params["messages"]:
        for value in _as_blocks(message["content"]):
            yield _Block("messages", message["role"], value)


def _as_blocks(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _invalidated_by(params: Params, section: str) -> Any:
    """A change of these makes another cache of this section and all after it."""
    if section == "tools":
        return None
    if section == "system":
        return [params.get("speed")]
    effort = (params.get("output_config") or {}).get("effort")
    images = any(block.value.get("type") == "image" for block in _blocks(params) if block.section == "messages")
    return [params.get("speed"), params.get("tool_choice"), params.get("thinking"), effort, images]


def _breakpoints(params: Params, blocks: list[_Block]) -> list[Breakpoint]:
    marked = [(place, block.value) for place, block in enumerate(blocks) if block.value.get(prompt.MARK)]
    found = [Breakpoint(place, _ttl(value)) for place, value in marked]
    if params.get(prompt.MARK):
        place = _last_markable(blocks)
        if place is not None and (not found or found[-1].place < place):
            found.append(Breakpoint(place, _ttl(params)))
    return found


def _last_markable(blocks: list[_Block]) -> int | None:
    places = range(len(blocks) - 1, -1, -1)
    return next((place for place in places if blocks[place].value.get("type") not in _UNMARKABLE), None)


def _ttl(marked: Mapping[str, Any]) -> str:
    told: str = marked[prompt.MARK].get("ttl", TTLS[0])
    return told


# -- what is refused


def mark_problem(params: Params) -> Problem | None:
    """The first thing wrong with the marks of a request whose blocks are in shape."""
    marks = list(_marks(params))
    if not marks:
        return None
    for where, mark in marks:
        problem = _of_one_mark(where, mark)
        if problem is not None:
            return problem
    if len(marks) > MAX_MARKS:
        return invalid(f"A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {len(marks)}.")
    return _automatic_problem(params) or _order_problem(marks)


def _marks(params: Params) -> Iterator[tuple[str, Any]]:
    """Every mark that is not null, and where it stands, in the order of the prompt; the body's own is the last."""
    for name in ("tools", "system"):
        if isinstance(params.get(name), list):
            yield from _marks_of(name, params[name])
    for number, message in enumerate(params["messages"]):
        if isinstance(message["content"], list):
            yield from _marks_of(f"messages.{number}.content", message["content"])
    if params.get(prompt.MARK) is not None:
        yield prompt.MARK, params[prompt.MARK]


def _marks_of(where: str, blocks: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, block in enumerate(blocks):
        mark = block.get(prompt.MARK) if isinstance(block, dict) else None
        if mark is not None:
            yield f"{where}.{number}.{prompt.MARK}", None if block.get("type") in _UNMARKABLE else mark


def _of_one_mark(where: str, mark: Any) -> Problem | None:
    if mark is None:
        return invalid(f"{where}: thinking blocks cannot carry it")
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
        return invalid(f"{where}.type: Input should be 'ephemeral'")
    if mark.get("ttl", TTLS[0]) not in TTLS:
        return invalid(f"{where}.ttl: Input should be '5m' or '1h'")
    return None


def _automatic_problem(params: Params) -> Problem | None:
    """The body's own mark falls on a block that asks for another time."""
    if not params.get(prompt.MARK):
        return None
    blocks = list(_blocks(params))
    place = _last_markable(blocks)
    last = None if place is None else blocks[place].value
    if last and last.get(prompt.MARK) and _ttl(last) != _ttl(params):
        return invalid("cache_control: the last block is already marked with another ttl")
    return None


def _order_problem(marks: list[tuple[str, Any]]) -> Problem | None:
    short = False
    for where, mark in marks:
        if mark.get("ttl") == "1h" and short:
            return invalid(f"{where}.ttl: a block with ttl='1h' must not come after one with ttl='5m'")
        short = short or mark.get("ttl", TTLS[0]) == "5m"
    return None
