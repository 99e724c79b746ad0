"""Token buckets as arithmetic: how long a call must wait for room, and what is left after it. No clock, no lock."""

from __future__ import annotations

from dataclasses import dataclass

# A bucket holds this many seconds of its refill: a restart cannot fire a minute's worth at once.
BURST_S = 1.0


@dataclass(slots=True)
class Bucket:
    """One dimension of a limit. `level` may go negative: what is larger than the bucket passes and leaves a debt."""

    per_minute: float
    level: float
    at_s: float

    @staticmethod
    def full(per_minute: float, now_s: float) -> Bucket:
        return Bucket(per_minute, per_minute / 60 * BURST_S, now_s)

    def refill(self, now_s: float) -> None:
        rate = self.per_minute / 60
        capacity = max(rate * BURST_S, 1.0)
        self.level = min(capacity, self.level + rate * max(0.0, now_s - self.at_s))
        self.at_s = max(self.at_s, now_s)

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` may be taken: it must be there, or the bucket full if it is larger than that."""
        rate = self.per_minute / 60
        needed = min(amount, max(rate * BURST_S, 1.0))
        return 0.0 if self.level >= needed else (needed - self.level) / rate


@dataclass(slots=True)
class Buckets:
    """Requests, input tokens and output tokens of one scope; a dimension without a limit is None."""

    requests: Bucket | None
    input_tokens: Bucket | None
    output_tokens: Bucket | None

    @staticmethod
    def of(rpm: int | None, itpm: int | None, otpm: int | None, now_s: float) -> Buckets:
        made = [None if limit is None else Bucket.full(limit, now_s) for limit in (rpm, itpm, otpm)]
        return Buckets(*made)

    @property
    def unlimited(self) -> bool:
        return self.requests is None and self.input_tokens is None and self.output_tokens is None

    def take(self, input_tokens: float, output_tokens: float, now_s: float) -> float:
        """Take room for one call; 0.0 when it was there, else the seconds to wait (and nothing is taken)."""
        asked = ((self.requests, 1.0), (self.input_tokens, input_tokens), (self.output_tokens, output_tokens))
        wait = 0.0
        for bucket, amount in asked:
            if bucket is not None:
                bucket.refill(now_s)
                wait = max(wait, bucket.wait_s(amount))
        if wait == 0.0:
            for bucket, amount in asked:
                if bucket is not None:
                    bucket.level -= amount
        return wait

    def correct(self, input_tokens: float, output_tokens: float) -> None:
        """Add what an estimate took too much; negative amounts take what it took too little."""
        if self.input_tokens is not None:
            self.input_tokens.level += input_tokens
        if self.output_tokens is not None:
            self.output_tokens.level += output_tokens
