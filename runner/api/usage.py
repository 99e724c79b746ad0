"""The API's `usage` object to priced kinds of tokens.

What has no price here is named rather than dropped: a cost that is not known must never look like a small one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from runner.domain.outcome import Usage

PRICED = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read",
}
PRICED_CACHE_WRITES = {
    "ephemeral_5m_input_tokens": "cache_write_5m",
    "ephemeral_1h_input_tokens": "cache_write_1h",
}
# Parts of what is priced already, or words rather than counts.
FREE = frozenset({"output_tokens_details", "service_tier", "inference_geo", "speed"})
WEB_SEARCH = "web_search_requests"
READ_APART = frozenset({"cache_creation", "cache_creation_input_tokens", "server_tool_use", "iterations"})


Count = Annotated[int, msgspec.Meta(ge=0)] | None


class _CacheWrites(msgspec.Struct, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """Usage as nearly every answer has it. What does not fit here is read field by field."""

    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheWrites | None = None
    server_tool_use: None = None
    output_tokens_details: msgspec.Raw = msgspec.Raw()
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


_read_plain = msgspec.json.Decoder(_Plain).decode


def usage_of(told: msgspec.Raw) -> Usage:
    """Usage from its JSON text, which may be empty or anything."""
    try:
        plain = _read_plain(told)
    except msgspec.DecodeError:
        return read_usage(msgspec.json.decode(told) if told else None)
    total = plain.cache_creation_input_tokens or 0
    split = plain.cache_creation
    short = long = 0
    if split is not None:
        short, long = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    unpriced = ("cache_creation",) if 0 < short + long < total else ()
    return Usage(
        input_tokens=plain.input_tokens or 0,
        cache_write_5m=short if short + long else total,
        cache_write_1h=long,
        cache_read=plain.cache_read_input_tokens or 0,
        output_tokens=plain.output_tokens or 0,
        service_tier=plain.service_tier,
        inference_geo=plain.inference_geo,
        speed=plain.speed,
        unpriced=unpriced,
    )


def read_usage(told: Any) -> Usage:
    """Usage from its JSON form; a missing or unreadable one is unpriced as a whole."""
    if not isinstance(told, dict):
        return Usage(unpriced=("usage",))
    counts: dict[str, int] = {}
    unpriced: list[str] = []
    for name, kind in PRICED.items():
        counts[kind] = _count(told.get(name), name, unpriced)
    _read_cache_writes(told, counts, unpriced)
    uses = _read_server_tools(told.get("server_tool_use"), counts, unpriced)
    _read_iterations(told.get("iterations"), unpriced)
    for name, value in told.items():
        if name not in PRICED and name not in FREE and name not in READ_APART and _counts_something(value):
            unpriced.append(name)
    return Usage(
        service_tier=_word(told.get("service_tier")),
        inference_geo=_word(told.get("inference_geo")),
        speed=_word(told.get("speed")),
        unpriced=tuple(sorted(set(unpriced))),
        uses=uses,
        **counts,
    )


def _read_cache_writes(told: Mapping[str, Any], counts: dict[str, int], unpriced: list[str]) -> None:
    total = _count(told.get("cache_creation_input_tokens"), "cache_creation_input_tokens", unpriced)
    split = told.get("cache_creation")
    if not isinstance(split, dict):
        counts["cache_write_5m"] = total
        return
    for name, kind in PRICED_CACHE_WRITES.items():
        counts[kind] = _count(split.get(name), f"cache_creation.{name}", unpriced)
    others = [name for name in split if name not in PRICED_CACHE_WRITES and _counts_something(split[name])]
    unpriced += [f"cache_creation.{name}" for name in others]
    known = counts["cache_write_5m"] + counts["cache_write_1h"]
    if known == 0 and not others:
        counts["cache_write_5m"] = total  # a breakdown that breaks nothing down
    elif total > known and not others:
        unpriced.append("cache_creation")


def _read_server_tools(told: Any, counts: dict[str, int], unpriced: list[str]) -> tuple[tuple[str, int], ...]:
    """Uses of server tools beside web search, which has a count of its own. What they cost, the price book knows."""
    if not isinstance(told, dict):
        if _counts_something(told):
            unpriced.append("server_tool_use")
        return ()
    counts["web_searches"] = _count(told.get(WEB_SEARCH), f"server_tool_use.{WEB_SEARCH}", unpriced)
    others = [name for name in sorted(told) if name != WEB_SEARCH and _counts_something(told[name])]
    uses = [(name, _count(told[name], f"server_tool_use.{name}", unpriced)) for name in others]
    return tuple((name, count) for name, count in uses if count)


def _read_iterations(told: Any, unpriced: list[str]) -> None:
    """Passes of the model itself are in the totals; compaction, advisor and fallback passes are billed beside."""
    if not isinstance(told, list):
        return
    for step in told:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind != "message" and _counts_something(step):
            unpriced.append(f"iterations.{kind}")


def _count(value: Any, name: str, unpriced: list[str]) -> int:
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    unpriced.append(name)
    return 0


def _counts_something(value: Any) -> bool:
    return any(number != 0 for number in _numbers(value))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
