"""What a row of a run will use, going by a sampled one: the prompt cache is another one by then. Pure.

The first rows of a sample write what all the others will read, and rows that were asked live say nothing of how many
rows of a batch find what was kept. So what a sampled row shares with others is taken out of what it used, and put
back as what is expected of it: read, written, or asked in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.marking import BATCH_HIT_SHARE
from runner.domain.outcome import Usage


class Part(NamedTuple):
    """A usage that is expected with this probability."""

    share: float
    usage: Usage


class Caching(Struct, frozen=True, kw_only=True):
    """Whether what rows share will be kept, `live` and in a `batch`. `ours`: the mark is placed by us, and where it
    is not, nothing is written either; else the job has placed marks of its own."""

    ours: bool
    live: bool
    batch: bool

    def kept(self, *, batch: bool) -> bool:
        return self.batch if batch else self.live


def shared_size(usages: Iterable[Usage]) -> int:
    """Tokens that most of those who read a cache have read; 0 where nobody has."""
    sizes = Counter(usage.cache_read for usage in usages if usage.cache_read)
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else 0


def expected(
    usage: Usage, shared: int, caching: Caching, *, batch: bool, hit_share: float = BATCH_HIT_SHARE
) -> Sequence[Part]:
    """What is used in a run, with the chance of each; `shared` of the prompt tokens begin like the others'."""
    if not shared:
        return (Part(1.0, usage),)
    rest = _without(usage, min(shared, usage.prompt_tokens))
    read = replace(rest, cache_read=rest.cache_read + shared)
    if caching.kept(batch=batch):
        if not batch:
            return (Part(1.0, read),)
        written = replace(rest, cache_write_1h=rest.cache_write_1h + shared)
        return (Part(hit_share, read), Part(1 - hit_share, written))
    if caching.ours:
        return (Part(1.0, replace(rest, input_tokens=rest.input_tokens + shared)),)
    return (Part(1.0, replace(rest, cache_write_5m=rest.cache_write_5m + shared)),)


def first_one(usage: Usage, shared: int, *, batch: bool) -> Usage:
    """What the row uses that goes ahead."""
    rest = _without(usage, min(shared, usage.prompt_tokens))
    if batch:
        return replace(rest, cache_write_1h=rest.cache_write_1h + shared)
    return replace(rest, cache_write_5m=rest.cache_write_5m + shared)


def _without(usage: Usage, tokens: int) -> Usage:
    """Taken from what was read first, then from what was written, then from what was neither."""
    left: dict[str, int] = {}
    for kind in ("cache_read", "cache_write_1h", "cache_write_5m", "input_tokens"):
        taken = min(tokens, getattr(usage, kind))
        left[kind] = getattr(usage, kind) - taken
        tokens -= taken
    return replace(usage, **left)
