"""What is going on, measured in constant memory: rates of the last minute, latencies, counts."""

from __future__ import annotations

import random
from collections import Counter, deque

from runner.domain.outcome import Usage
from runner.domain.run import Tally

WINDOW_S = 60
# Latencies kept for percentiles: a uniform sample of the recent ones.
SAMPLES = 512


class Meter:
    """Fed by the slots, read by whoever draws. Times in seconds of a monotonic clock."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.done = 0
        self.failed = 0
        self.in_flight = 0
        self.rate_limited = 0
        self.overloaded = 0
        self.spent_pico = 0
        self.committed_pico = 0
        self.failures: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self._seconds: deque[list[float]] = deque()
        self._latencies: list[float] = []
        self._seen = 0
        self._chance = random.Random(0)

    def go_on_from(self, before: Tally, spent_pico: int, committed_pico: int) -> None:
        """What the run has behind it counts too."""
        self.done, self.failed = before.done, before.failed
        self.spent_pico, self.committed_pico = spent_pico, committed_pico

    def sent(self, now_s: float) -> None:
        self.in_flight += 1
        self._second(now_s)[1] += 1

    def answered(self, now_s: float, latency_s: float, usage: Usage) -> None:
        second = self._second(now_s)
        second[2] += usage.input_tokens + usage.cache_write_5m + usage.cache_write_1h
        second[3] += usage.output_tokens
        self.input_tokens += usage.prompt_tokens
        self.output_tokens += usage.output_tokens
        self._sample(latency_s)

    def ended(self, now_s: float, *, failure: str | None) -> None:
        self._second(now_s)[4] += 1
        if failure is None:
            self.done += 1
        else:
            self.failed += 1
            self.failures[failure] += 1

    def per_minute(self, now_s: float) -> tuple[float, float, float, float]:
        """Requests, input tokens, output tokens and ended rows a minute, over the last minute or since the start."""
        self._forget(now_s)
        span = max(1.0, min(WINDOW_S, now_s - self.started_s))
        sums = [sum(second[column] for second in self._seconds) * 60 / span for column in (1, 2, 3, 4)]
        return sums[0], sums[1], sums[2], sums[3]

    def percentile(self, share: float) -> float | None:
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def _second(self, now_s: float) -> list[float]:
        now = float(int(now_s))
        if not self._seconds or self._seconds[-1][0] != now:
            self._seconds.append([now, 0, 0, 0, 0])
            self._forget(now_s)
        return self._seconds[-1]

    def _forget(self, now_s: float) -> None:
        while self._seconds and self._seconds[0][0] < now_s - WINDOW_S:
            self._seconds.popleft()

    def _sample(self, latency_s: float) -> None:
        self._seen += 1
        if len(self._latencies) < SAMPLES:
            self._latencies.append(latency_s)
        else:
            self._latencies[self._chance.randrange(SAMPLES)] = latency_s
