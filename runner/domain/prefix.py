"""The part of a Messages body that the API caches: what stands before a `cache_control` mark. Pure.

The order is tools, system, messages; a mark says "keep all up to here". Up to four blocks carry one, and a mark of
the body itself stands for one on its last block. Rows whose bodies begin alike up to a mark share what is kept, so a
body has a prefix for each of its marks, and the shared one is not always the longest.

Source: the API's documentation of prompt caching, and of what makes a kept prefix invalid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

Body = Mapping[str, Any]

MARK = "cache_control"
SHORT, LONG = "5m", "1h"
TTL_S = {SHORT: 300, LONG: 3_600}

# About as many bytes of a request as make a token.
BYTES_PER_TOKEN = 4
KEY_BYTES = 16
# A change of one of these makes another prefix, or may on some models: better two groups than rows that do not hit.
DECISIVE = (
    "model",
    "tools",
    "system",
    "mcp_servers",
    "tool_choice",
    "thinking",
    "output_config",
    "speed",
    "inference_geo",
)
# These cannot be marked, so the body's own mark stands on a block before them.
UNMARKABLE = frozenset({"thinking", "redacted_thinking"})

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _encode(value: object) -> bytes:
    return _to_json(value).encode("utf-8", "surrogatepass")


def may_have_marks(body: Body) -> bool:
    """Whether a mark stands anywhere in the body; a look that spares most jobs the reading of their bodies."""
    return MARK in body or any(isinstance(block, Mapping) and MARK in block for _, block in _blocks(body))


class Prefix(Struct, frozen=True, kw_only=True):
    """One cacheable beginning of a body. `depth` marks stand in it, and `ttl` is what the last of them asks for.

    `key` is the same for the bodies that share it, whatever their marks ask for; `tokens` are estimated.
    """

    key: bytes
    model: str
    tokens: int
    ttl: str
    depth: int


class _Walk:
    """A body read so far: the hash of its blocks, their size, the marks that were passed and what they end."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.digest = hashlib.blake2b(digest_size=KEY_BYTES)
        self.size = 0
        self.depth = 0
        self.found: tuple[Prefix, ...] = ()

    def copy(self) -> _Walk:
        walk = _Walk(self.model)
        walk.digest, walk.size = self.digest.copy(), self.size
        walk.depth, walk.found = self.depth, self.found
        return walk

    def pass_block(self, place: str, block: object) -> None:
        """Take in a block, its mark apart, and end a prefix where it has one."""
        text = _encode(_unmarked(block))
        self.size += len(text)
        self.digest.update(b"%b\n%b\n" % (place.encode(), text))
        ttl = _ttl_of(block)
        if ttl is not None:
            self.end(ttl)

    def end(self, ttl: str) -> None:
        """A mark stands here. Two at one place, a block's own and the body's, end one prefix of both."""
        self.depth += 1
        key = self.digest.digest()
        before = self.found[:-1] if self.found and self.found[-1].key == key else self.found
        tokens = self.size // BYTES_PER_TOKEN
        told = Prefix(key=key, model=self.model, tokens=tokens, ttl=ttl, depth=self.depth)
        self.found = (*before, told)


class PrefixReader:
    """Reads the prefixes of many bodies. What a body has in common with the one before is not hashed again."""

    def __init__(self) -> None:
        self._decisive: tuple[object, ...] | None = None
        self._head = _Walk("")

    def prefixes(self, body: Body) -> tuple[Prefix, ...]:
        """The prefixes of a body, the shortest first; none where nothing is marked. `body` is not kept whole."""
        automatic = _ttl_of(body)
        turns = list(_turn_blocks(body))
        last = _last_marked(turns) if automatic is None else _last_markable(turns)
        head = self._head_of(body)
        if last is None:
            return head.found
        walk = head.copy()
        for place, block in turns[: last + 1]:
            walk.pass_block(place, block)
        if automatic is not None:
            walk.end(automatic)
        return walk.found

    def _head_of(self, body: Body) -> _Walk:
        """Tools and system, which are mostly the same in all rows."""
        decisive = tuple(body.get(name) for name in DECISIVE)
        if decisive != self._decisive:
            self._decisive, self._head = decisive, _read_head(body)
        return self._head


def _read_head(body: Body) -> _Walk:
    walk = _Walk(str(body.get("model")))
    settings = [body.get(name) for name in DECISIVE if name not in ("tools", "system")]
    walk.digest.update(_encode(settings))
    for place, block in _head_blocks(body):
        walk.pass_block(place, block)
    return walk


def _blocks(body: Body) -> Iterator[tuple[str, object]]:
    yield from _head_blocks(body)
    yield from _turn_blocks(body)


def _head_blocks(body: Body) -> Iterator[tuple[str, object]]:
    for tool in _listed(body.get("tools")):
        yield "tools", tool
    for block in _content_blocks(body.get("system")):
        yield "system", block


def _turn_blocks(body: Body) -> Iterator[tuple[str, object]]:
    for turn in _listed(body.get("messages")):
        if isinstance(turn, Mapping):
            for block in _content_blocks(turn.get("content")):
                yield str(turn.get("role")), block


def _content_blocks(content: object) -> list[Any]:
    """A text is the same as a list of one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return _listed(content)


def _listed(value: object) -> list[Any]:
    """Bodies come from rows as people wrote them; what has no right shape the API will refuse, not we."""
    return value if isinstance(value, list) else []


def _last_marked(turns: list[tuple[str, object]]) -> int | None:
    """Where the last mark of the messages stands."""
    return next((at for at in range(len(turns) - 1, -1, -1) if _ttl_of(turns[at][1]) is not None), None)


def _last_markable(turns: list[tuple[str, object]]) -> int | None:
    """Where the body's own mark stands."""
    return next((at for at in range(len(turns) - 1, -1, -1) if _can_be_marked(turns[at][1])), None)


def _can_be_marked(block: object) -> bool:
    if not isinstance(block, Mapping) or block.get("type") in UNMARKABLE:
        return False
    return block.get("type") != "text" or bool(block.get("text"))


def _ttl_of(marked: object) -> str | None:
    """What a block's mark, or the body's own, asks for; None without a mark."""
    mark = marked.get(MARK) if isinstance(marked, Mapping) else None
    if not isinstance(mark, Mapping):
        return None
    return LONG if mark.get("ttl") == LONG else SHORT


def _unmarked(block: object) -> object:
    if not isinstance(block, Mapping) or MARK not in block:
        return block
    return {name: value for name, value in block.items() if name != MARK}


# -- the same body, kept for longer


def kept_longer(body: Body, depth: int) -> dict[str, Any]:
    """The body with the first `depth` marks asking for an hour; the body itself and all beside marks are untouched.

    The API wants marks of an hour before those of five minutes, which holds for the first ones of any body.
    """
    left = _Marks(depth)
    told = dict(body)
    if isinstance(body.get("tools"), list):
        told["tools"] = left.raised_in(body["tools"])
    if isinstance(body.get("system"), list):
        told["system"] = left.raised_in(body["system"])
    if isinstance(body.get("messages"), list):
        told["messages"] = [left.raised_in_turn(turn) for turn in body["messages"]]
    return left.raised(told)


class _Marks:
    """How many marks are still to be raised."""

    def __init__(self, left: int) -> None:
        self._left = left

    def raised(self, marked: dict[str, Any]) -> dict[str, Any]:
        if not self._left or _ttl_of(marked) is None:
            return marked
        self._left -= 1
        return {**marked, MARK: {**marked[MARK], "ttl": LONG}}

    def raised_in(self, blocks: list[Any]) -> list[Any]:
        return [self.raised(block) if isinstance(block, dict) else block for block in blocks]

    def raised_in_turn(self, turn: Any) -> Any:
        if not self._left or not isinstance(turn, dict) or not isinstance(turn.get("content"), list):
            return turn
        return {**turn, "content": self.raised_in(turn["content"])}
