"""Limits a minute: what they are, who says so, and one of them as a token bucket. No clock, no lock.

A limit has three dimensions, always in this order: requests, input tokens (cache reads are not counted), output
tokens (as produced). Values of all three are plain tuples.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

# What is used of a limit. The rest is for what no arithmetic of ours sees: calls that the network delivers closer
# together than they were sent, and counts that the service rounds.
USED_SHARE = 0.98
# A process sends at most this much of its pace at once. The service may enforce a limit over a second.
BURST_S = 0.5


class Amounts(NamedTuple):
    """So many requests, input tokens and output tokens."""

    requests: float
    input_tokens: float
    output_tokens: float

    def less(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
        )


class RateLimits(NamedTuple):
    """The limits a minute; None where there is none, or none is known."""

    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None


NO_LIMITS = RateLimits()


class LimitSource(StrEnum):
    """Who says what the limits of a scope are, the least authority first. A run has the last word on its own."""

    TIER = "tier"
    ADMIN = "admin"
    HEADERS = "headers"
    RUN = "run"


_RANKS = {source: rank for rank, source in enumerate(LimitSource)}


class KnownLimits(Struct, frozen=True, kw_only=True):
    """Limits of a scope and whose word that is; the word is None where nobody has said anything."""

    limits: RateLimits = NO_LIMITS
    source: LimitSource | None = None

    def heeding(self, told: KnownLimits | None) -> KnownLimits:
        """These, or what has just been told if its source has at least their authority."""
        if told is None or told.source is None or told == self:
            return self
        if self.source is not None and _RANKS[told.source] < _RANKS[self.source]:
            return self
        if told.source is LimitSource.RUN:
            return told
        merged = (new if new is not None else old for new, old in zip(told.limits, self.limits, strict=True))
        return KnownLimits(limits=RateLimits(*merged), source=told.source)


class RateWord(Struct, frozen=True, kw_only=True):
    """What the headers of one reply say: the limits, and how much of each is left where that is worth heeding."""

    limits: RateLimits
    left: tuple[float | None, float | None, float | None]

    def known(self) -> KnownLimits:
        return KnownLimits(limits=self.limits, source=LimitSource.HEADERS)


NOT_KNOWN = KnownLimits()


def used_rate(per_minute: int) -> float:
    """How much of a limit a second is used."""
    return per_minute * USED_SHARE / 60


class Bucket:
    """A token bucket. `level` may go negative: what is larger than the bucket passes and leaves a debt."""

    __slots__ = ("at_s", "capacity", "level", "rate")

    def __init__(self, rate: float, now_s: float) -> None:
        self.rate = rate
        self.capacity = self.level = max(rate * BURST_S, 1.0)
        self.at_s = now_s

    def set_rate(self, rate: float, now_s: float) -> None:
        """From now on it fills at this many a second."""
        self.refill(now_s)
        self.rate = rate
        self.capacity = max(rate * BURST_S, 1.0)

    def refill(self, now_s: float) -> None:
        level = self.level
        if now_s > self.at_s:
            level += self.rate * (now_s - self.at_s)
            self.at_s = now_s
        self.level = min(self.capacity, level)

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until `amount` may be taken: it must be there, or the bucket full if it is larger than that."""
        self.refill(now_s)
        missing = min(self.capacity, amount) - self.level
        return missing / self.rate if missing > 0 else 0.0
