"""What prompt caches hold, and what a request finds in them.

A prefix that one request writes is found by those that come after its answer has begun, for five minutes or an hour
from its last use. The requests of a batch find what was there when the batch was created, and what they write
themselves is there when it has ended: among each other they share nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runner.simulator.breakpoints import Breakpoint, MarkedPrompt, marked_prompt
from runner.simulator.facts import find_model
from runner.simulator.prompt import MARK

MARK_BYTES = f'"{MARK}"'.encode()
SECOND_US = 1_000_000
TTL_US = {"5m": 300 * SECOND_US, "1h": 3600 * SECOND_US}
# A breakpoint finds a prefix that ends at its own block or at one of those before it, so many in all.
LOOKBACK_BLOCKS = 20
# The service has no such bound; here memory has, and a client that fills it shares little.
MAX_ENTRIES = 10_000


class Entry(NamedTuple):
    """The name of a cached prefix. One that was written for an hour is not found by those who ask for less."""

    ttl: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUse:
    """What a request reads and writes, in tokens, and the entries that are fresh after it."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0
    entries: tuple[Entry, ...] = ()

    @property
    def tokens(self) -> int:
        return self.read + self.written_5m + self.written_1h


NO_CACHE = CacheUse()
NOTHING_WARM: frozenset[Entry] = frozenset()


def cache_use(params: Mapping[str, Any], workspace_id: str, warm: Container[Entry]) -> CacheUse:
    """What a valid request finds among the entries that are warm, and what it writes."""
    model = find_model(params["model"])
    marked = marked_prompt(params, f"{workspace_id}:{model.id}") if model else None
    if model is None or marked is None:
        return NO_CACHE
    kept = [point for point in marked.breakpoints if marked.tokens[point.place] >= model.min_cache_tokens]
    found = _found(marked, kept, warm)
    read = marked.tokens[found.place] if found else 0
    written = _written(marked, kept, read)
    fresh = kept if found is None or found in kept else [found, *kept]
    return CacheUse(
        read=read,
        written_5m=written["5m"],
        written_1h=written["1h"],
        entries=tuple(_entry(marked, point) for point in fresh),
    )


def _found(marked: MarkedPrompt, kept: list[Breakpoint], warm: Container[Entry]) -> Breakpoint | None:
    """The longest prefix that is there, as the breakpoint that it was once written at."""
    for point in reversed(kept):
        for place in range(point.place, max(-1, point.place - LOOKBACK_BLOCKS), -1):
            there = Breakpoint(place, point.ttl)
            if _entry(marked, there) in warm:
                return there
    return None


def _written(marked: MarkedPrompt, kept: list[Breakpoint], read: int) -> dict[str, int]:
    """Tokens by ttl: what lies between what is read, or one breakpoint, and the next."""
    written = dict.fromkeys(TTL_US, 0)
    upto = read
    for point in kept:
        tokens = marked.tokens[point.place]
        written[point.ttl] += max(0, tokens - upto)
        upto = max(upto, tokens)
    return written


def _entry(marked: MarkedPrompt, point: Breakpoint) -> Entry:
    return Entry(point.ttl, marked.digests[point.place])


class PromptCaches:
    """Entries and the times between which each is found; the one used last is at the end."""

    def __init__(self) -> None:
        self._times: dict[Entry, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._times)

    def now(self, now_us: int) -> Container[Entry]:
        """What a call finds that is made now."""
        return _Now(self._times, now_us)

    def all_now(self, now_us: int) -> frozenset[Entry]:
        """The same, to be looked into later: what the requests of a batch find that is created now."""
        found = self.now(now_us)
        return frozenset(entry for entry in self._times if entry in found)

    def use(self, entries: Iterable[Entry], *, began_us: int, readable_us: int) -> None:
        """A request that began at `began_us` used these. What was not there is found from `readable_us` on."""
        for entry in entries:
            times = (readable_us, began_us + TTL_US[entry.ttl])
            self._times[entry] = _joined(self._times.pop(entry, times), times)
            if len(self._times) > MAX_ENTRIES:
                del self._times[next(iter(self._times))]


class _Now(Container[Entry]):
    def __init__(self, times: Mapping[Entry, tuple[int, int]], now_us: int) -> None:
        self._times = times
        self._now_us = now_us

    def __contains__(self, entry: object) -> bool:
        times = self._times.get(entry)  # type: ignore[call-overload]
        return times is not None and times[0] <= self._now_us < times[1]


def _joined(known: tuple[int, int], more: tuple[int, int]) -> tuple[int, int]:
    """One span where the two meet, else the later one: batches that have ended may come in any order."""
    if known[0] < more[1] and more[0] < known[1]:
        return min(known[0], more[0]), max(known[1], more[1])
    return max(known, more)
