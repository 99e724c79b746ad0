"""The service's limits: token buckets per model class that refill all the time.

A request gets in while its class has a whole request and any tokens left; a level may then go below zero and must
refill first. Pure: time comes in as an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from runner.simulator.config import SimulatorConfig
from runner.simulator.exchange import Headers
from runner.simulator.facts import ClassLimits, facts

MINUTE_S = 60.0
ROUNDED_TO = 1000  # token counts in headers


class Bucket:
    """One limit a minute, holding at most `burst_s` seconds of refill."""

    def __init__(self, limit: int, burst_s: float, now_s: float, *, least: float) -> None:
        self.limit = limit
        self.rate = limit / MINUTE_S
        self.capacity = max(least, self.rate * burst_s)
        self._level = self.capacity
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        if now_s > self._at_s:
            self._level = min(self.capacity, self._level + (now_s - self._at_s) * self.rate)
            self._at_s = now_s
        return self._level

    def take(self, amount: float, now_s: float) -> None:
        self._level = self.level(now_s) - amount

    def wait_s(self, wanted: float, now_s: float) -> float:
        """Until the level is above `wanted`."""
        return max(0.0, (wanted - self.level(now_s)) / self.rate)

    def full_in_s(self, now_s: float) -> float:
        return (self.capacity - self.level(now_s)) / self.rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Which limit said no, and when to come back."""

    limit: str
    retry_after_s: int


class ClassBuckets:
    """The buckets of one model class; a limit that is not set has none."""

    def __init__(self, requests: Bucket | None, input_tokens: Bucket | None, output_tokens: Bucket | None) -> None:
        self._requests = requests
        self._input = input_tokens
        self._output = output_tokens

    def admit(self, input_tokens: int, now_s: float) -> Refusal | None:
        """Take a request and its input, or say which limit is spent."""
        refusal = self._refusal(now_s)
        if refusal is None:
            _take(self._requests, 1, now_s)
            _take(self._input, input_tokens, now_s)
        return refusal

    def produced(self, output_tokens: int, now_s: float) -> None:
        _take(self._output, output_tokens, now_s)

    def _refusal(self, now_s: float) -> Refusal | None:
        if self._requests is not None and self._requests.level(now_s) < 1 - 1e-9:
            return Refusal(limit="requests", retry_after_s=_ceil(self._requests.wait_s(1, now_s)))
        for name, bucket in (("input tokens", self._input), ("output tokens", self._output)):
            if bucket is not None and bucket.level(now_s) <= 0:
                return Refusal(limit=name, retry_after_s=_ceil(bucket.wait_s(0, now_s)))
        return None

    def headers(self, now_s: float, now_us: int) -> Headers:
        """`anthropic-ratelimit-*` as of now."""
        lines: list[tuple[str, str]] = []
        add = partial(_family, lines, now_s=now_s, now_us=now_us)
        add("requests", [self._requests], rounded_to=1)
        add("input-tokens", [self._input], rounded_to=ROUNDED_TO)
        add("output-tokens", [self._output], rounded_to=ROUNDED_TO)
        add("tokens", [self._input, self._output], rounded_to=ROUNDED_TO)
        return tuple(lines)


def _family(
    lines: list[tuple[str, str]],
    name: str,
    buckets: list[Bucket | None],
    *,
    rounded_to: int,
    now_s: float,
    now_us: int,
) -> None:
    held = [bucket for bucket in buckets if bucket is not None]
    if len(held) < len(buckets):
        return
    left = sum(max(0.0, bucket.level(now_s)) for bucket in held)
    full_us = now_us + math.ceil(max(bucket.full_in_s(now_s) for bucket in held)) * 1_000_000
    prefix = f"anthropic-ratelimit-{name}-"
    lines.append((prefix + "limit", str(sum(bucket.limit for bucket in held))))
    lines.append((prefix + "remaining", str(_remaining(left, rounded_to))))
    lines.append((prefix + "reset", rfc3339(full_us)))


def _remaining(left: float, rounded_to: int) -> int:
    return int(left + 1e-9) if rounded_to == 1 else round(left / rounded_to) * rounded_to


def rfc3339(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _take(bucket: Bucket | None, amount: float, now_s: float) -> None:
    if bucket is not None:
        bucket.take(amount, now_s)


def _ceil(wait_s: float) -> int:
    return max(1, math.ceil(wait_s - 1e-9))


class Limits:
    """All buckets of the organization, made when a class is first asked for."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._classes: dict[str, ClassBuckets] = {}

    def of_class(self, name: str, now_s: float) -> ClassBuckets | None:
        """The buckets of a model class; None when no limit is on."""
        if not self._config.limited:
            return None
        return self._kept(name, self._class_limits(name), now_s)

    def of_counting(self, now_s: float) -> ClassBuckets | None:
        """Counting tokens has a request limit of its own."""
        if self._config.tier is None:
            return None
        return self._kept("count_tokens", (facts().count_tokens_rpm[self._config.tier], None, None), now_s)

    def of_batches(self, now_s: float) -> ClassBuckets | None:
        """All batch endpoints together have a request limit of their own."""
        limit = self._config.batch_rpm
        if limit is None and self._config.tier is not None:
            limit = facts().batch_limits[self._config.tier].rpm
        return None if limit is None else self._kept("batches", (limit, None, None), now_s)

    def _class_limits(self, name: str) -> tuple[int | None, int | None, int | None]:
        tier, told = self._config.tier, self._config
        base: ClassLimits | None = None if tier is None else facts().limits[name][tier]
        return (
            told.rpm if told.rpm is not None or base is None else base.rpm,
            told.itpm if told.itpm is not None or base is None else base.itpm,
            told.otpm if told.otpm is not None or base is None else base.otpm,
        )

    def _kept(self, name: str, limits: tuple[int | None, int | None, int | None], now_s: float) -> ClassBuckets:
        if name not in self._classes:
            make = partial(self._bucket, now_s=now_s)
            self._classes[name] = ClassBuckets(make(limits[0]), make(limits[1]), make(limits[2]))
        return self._classes[name]

    def _bucket(self, limit: int | None, *, now_s: float) -> Bucket | None:
        return None if limit is None else Bucket(limit, self._config.burst_s, now_s, least=1.0)
