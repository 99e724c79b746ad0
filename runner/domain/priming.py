"""Who goes first where rows share a prefix that the API caches, and who waits until it is kept. Pure.

The rows of a batch that finds nothing kept share nothing: each pays for keeping the prefix itself, which makes the
batch dearer than one without marks. So one row of them goes ahead in a batch of its own, asking that the prefix be
kept for an hour; the others ask for the same, are submitted when it has ended, and read what it left. Measured on
one such batch: $0.0816 cold, $0.0744 without marks, $0.0484 primed. Of live calls that begin together the same
holds on a smaller scale: the first goes ahead, the others wait for its answer.

`prefix.py` reads prefixes. Those that end at a mark of ours (`marking.py`) are primed where it pays by the share of
hits that is expected, and where it does not the rows go without.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from runner.domain.marking import BATCH_HIT_SHARE, kept_in_batch
from runner.domain.outcome import Usage
from runner.domain.prefix import LONG, SHORT, TTL_S, Prefix
from runner.domain.pricing import PriceBook

SECOND_US = 1_000_000

# The rest goes when the first row's batch has ended, and after this time in any case.
MAX_WAIT_S = 1_800
# Of one parcel, those that save most. Each takes a row ahead, and beyond some dozens little is left to save.
MOST_PRIMED = 100
# Different prefixes that are counted in one parcel. A prefix that is shared by many shows up early.
MOST_COUNTED = 20_000

# -- batches: does it pay


class Priming(Struct, frozen=True, kw_only=True):
    """A prefix worth a row ahead. What its `rows` pay for it at batch prices, each by itself and primed; `cold` is
    without any mark, where the mark is ours."""

    rows: int
    tokens: int
    cold_pico: int
    primed_pico: int

    @property
    def saved_pico(self) -> int:
        return self.cold_pico - self.primed_pico


def worth_priming(
    prices: PriceBook, model: str, prefix_tokens: int, rows: int, ttl: str, *, read_anyway: int = 0
) -> Priming | None:
    """What priming saves for `rows` rows that share the prefix and ask for `ttl`; None where it does not pay.

    Primed, the first row pays for keeping it an hour and the others for reading it. That has to cost less than each
    keeping it by itself, and less than a batch that keeps nothing: hits are best effort, and some cold batches
    have them. `read_anyway` tokens at its beginning are a shorter prefix that is primed already.
    """
    facts = prices.find(model)
    if facts is None or rows < 2 or prefix_tokens < facts.min_cache_tokens:
        return None
    own = prefix_tokens - read_anyway
    cold = _pico(prices, model, _writing(ttl, own, read_anyway))
    unmarked = _pico(prices, model, Usage(input_tokens=own, cache_read=read_anyway))
    first = _pico(prices, model, _writing(LONG, prefix_tokens, 0))
    read = _pico(prices, model, Usage(cache_read=prefix_tokens))
    primed_pico = first + (rows - 1) * read
    if primed_pico >= rows * min(cold, unmarked):
        return None
    return Priming(rows=rows, tokens=prefix_tokens, cold_pico=rows * cold, primed_pico=primed_pico)


def _writing(ttl: str, written: int, read: int) -> Usage:
    if ttl == LONG:
        return Usage(cache_write_1h=written, cache_read=read)
    return Usage(cache_write_5m=written, cache_read=read)


def _pico(prices: PriceBook, model: str, usage: Usage) -> int:
    """Of a known model and kinds that every model has a price for."""
    cost = prices.cost_pico(model, usage, batch=True)
    if cost is None:
        raise ValueError(f"{model} has no price")
    return cost


# -- batches: who goes ahead


class _Group:
    """The rows of one prefix. `outer` is the key of the next shorter one."""

    __slots__ = ("first", "ours", "outer", "prefix", "rows")

    def __init__(self, prefix: Prefix, first: int, outer: bytes | None, *, ours: bool) -> None:
        self.prefix, self.ours = prefix, ours
        self.first = first
        self.outer = outer
        self.rows = 0


class Groups:
    """Counts which prefixes the rows of a parcel share. Rows are named by their idx."""

    def __init__(self) -> None:
        self._groups: dict[bytes, _Group] = {}

    def add(self, idx: int, prefixes: Sequence[Prefix], *, ours: bool = False) -> None:
        """One row; its prefixes with the shortest first, as the reader gives them. `ours`: the mark is of our own."""
        outer = None
        for prefix in prefixes:
            group = self._groups.get(prefix.key)
            if group is None:
                if len(self._groups) >= MOST_COUNTED:
                    return
                group = self._groups[prefix.key] = _Group(prefix, idx, outer, ours=ours)
            group.rows += 1
            outer = prefix.key

    def plan(self, prices: PriceBook, warm: Collection[bytes] = (), hit_share: float | None = None) -> Plan:
        """Which prefixes to prime. Those in `warm` are kept for an hour already, and need nobody ahead. `hit_share`
        decides about marks of our own."""
        kept = frozenset(key for key in self._groups if key in warm)
        worth: dict[bytes, Priming] = {}
        # A longer prefix has to pay beside the shorter ones, which come first.
        for key in sorted(self._groups.keys() - kept, key=lambda key: self._groups[key].prefix.depth):
            priming = self._worth(prices, key, worth.keys() | kept, hit_share)
            if priming is not None:
                worth[key] = priming
        best = sorted(worth, key=lambda key: (-worth[key].saved_pico, key))[:MOST_PRIMED]
        return Plan(
            primings={key: worth[key] for key in best},
            leaders={key: self._groups[key].first for key in best},
            warm=kept,
        )

    def _worth(
        self, prices: PriceBook, key: bytes, primed: Collection[bytes], hit_share: float | None
    ) -> Priming | None:
        group = self._groups[key]
        if group.ours:
            share = BATCH_HIT_SHARE if hit_share is None else hit_share
            kept = kept_in_batch(prices, group.prefix.model, group.prefix.tokens, group.rows, share)
            return (
                None
                if kept is None
                else Priming(
                    rows=kept.rows, tokens=kept.tokens, cold_pico=kept.plain_pico, primed_pico=kept.kept_pico
                )
            )
        told, outer = group.prefix, group.outer
        while outer is not None and outer not in primed:
            outer = self._groups[outer].outer
        read_anyway = 0 if outer is None else self._groups[outer].prefix.tokens
        return worth_priming(prices, told.model, told.tokens, group.rows, told.ttl, read_anyway=read_anyway)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which rows of a parcel go ahead, and how the bodies are to be sent. By the keys of prefixes.

    `leaders` names the row of each primed prefix that goes first; one row may lead several. All that go `ahead` may
    ride in one batch; where nobody does, nobody waits.
    """

    primings: Mapping[bytes, Priming]
    leaders: Mapping[bytes, int]
    warm: frozenset[bytes] = frozenset()
    ahead: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ahead", frozenset(self.leaders.values()))

    @property
    def saved_pico(self) -> int:
        return sum(priming.saved_pico for priming in self.primings.values())

    def depth(self, prefixes: Sequence[Prefix]) -> int:
        """How many marks of a row's body must ask for an hour (`prefix.kept_longer`); 0: it is sent as it is."""
        return max((prefix.depth for prefix in prefixes if self._is_kept(prefix.key)), default=0)

    def after(self, usages: Mapping[int, Usage]) -> Plan:
        """The plan for the rest, once those ahead have ended or the wait is over.

        `usages` holds what the rows ahead were answered with; one that failed or has not ended is left out. A prefix
        counts as kept where its leader's usage shows it, else its rows are sent as they are: without a hit the
        longer time would cost them more than it saves.
        """
        kept = {key for key, idx in self.leaders.items() if idx in usages and shows_cache(usages[idx])}
        primings = {key: priming for key, priming in self.primings.items() if key in kept}
        return Plan(primings=primings, leaders={}, warm=self.warm | kept)

    def _is_kept(self, key: bytes) -> bool:
        return key in self.leaders or key in self.warm


def shows_cache(usage: Usage) -> bool:
    """Whether an answer's usage proves that a prefix is kept for an hour: it was written, or read."""
    return usage.cache_write_1h > 0 or usage.cache_read > 0


def warm_until_us(used_us: int, ttl: str) -> int:
    """Until when what was written or read at `used_us` can be read again."""
    return used_us + TTL_S[ttl] * SECOND_US


# -- live calls

# A first call that takes longer has begun to answer, so that its prefix can be read; waiting on costs more.
FIRST_WAIT_S = 60
# Prefixes that are known at once. One that is forgotten is written once more.
MOST_KNOWN = 1_024


class First(Struct, frozen=True, kw_only=True):
    """Go: no call with this prefix is known, and others will wait for this one."""


class Wait(Struct, frozen=True, kw_only=True):
    """Ask again when a call has ended, at `until_us` at the latest."""

    until_us: int


class Go(Struct, frozen=True, kw_only=True):
    """Go: all is kept until `warm_until_us`."""

    warm_until_us: int


Turn = First | Wait | Go


class _Known:
    """`warm_until_us` 0: never answered. `leader` is the call that is on its way to write it, since `led_us`."""

    __slots__ = ("leader", "led_us", "ttl", "warm_until_us")

    def __init__(self) -> None:
        self.warm_until_us = 0
        self.leader: int | None = None
        self.led_us = 0
        self.ttl = SHORT


class Prefixes:
    """Which prefixes live calls may expect to be kept. Calls are named by the idx of their row.

    Prefixes shorter than the model's minimum are never kept and are better not asked about.
    """

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def turn(self, idx: int, prefixes: Sequence[Prefix], now_us: int) -> Turn:
        """Whether the call may be made now. After First and Go it is to be told how it ended."""
        known = [(prefix, self._touched(prefix.key)) for prefix in prefixes]
        cold = [(prefix, one) for prefix, one in known if not _is_warm(one, now_us)]
        led = [one.led_us for _, one in cold if one.leader not in (None, idx)]
        if led:
            return Wait(until_us=max(led) + FIRST_WAIT_S * SECOND_US)
        for prefix, one in cold:
            one.leader, one.led_us, one.ttl = idx, now_us, prefix.ttl
        if cold:
            return First()
        return Go(warm_until_us=min((one.warm_until_us for _, one in known), default=now_us))

    def answered(self, idx: int, prefixes: Sequence[Prefix], sent_us: int) -> None:
        """The call that began at `sent_us` was answered: what it wrote or read is kept from that moment on.

        Whether or not its usage shows it: a prefix that the API does not keep must not make calls queue up.
        """
        for prefix, one in self._of(prefixes):
            one.warm_until_us = max(one.warm_until_us, warm_until_us(sent_us, prefix.ttl))
            if one.leader == idx:
                one.leader = None

    def failed(self, idx: int, prefixes: Sequence[Prefix]) -> None:
        """The call gave no answer: another goes first."""
        for _, one in self._of(prefixes):
            if one.leader == idx:
                one.leader = None

    def _of(self, prefixes: Sequence[Prefix]) -> Iterator[tuple[Prefix, _Known]]:
        return ((prefix, self._known[prefix.key]) for prefix in prefixes if prefix.key in self._known)

    def _touched(self, key: bytes) -> _Known:
        known = self._known.setdefault(key, _Known())
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return known


def _is_warm(known: _Known, now_us: int) -> bool:
    """Kept, or on its way for so long that it surely is."""
    if known.leader is not None and now_us >= known.led_us + FIRST_WAIT_S * SECOND_US:
        known.warm_until_us = max(known.warm_until_us, warm_until_us(known.led_us, known.ttl))
        known.leader = None
    return now_us < known.warm_until_us
