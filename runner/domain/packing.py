"""Which rows ride together in one batch: by number, by measured bytes, and by what the budget admits. Pure.

One packer builds one submission. Rows are offered in their order; the first that does not fit any more closes it and
is offered again to the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from runner.domain.sum_bound import WorstHeld

# The API's own limits. It does not say which megabytes, so the smaller ones; ours leaves room for surprises.
API_MAX_REQUESTS = 100_000
API_MAX_BYTES = 256_000_000
DEFAULT_MAX_BYTES = 200_000_000

BODY_HEAD = b'{"requests":['
BODY_SEPARATOR = b","
BODY_TAIL = b"]}"


def entry(custom_id: str, params: bytes) -> bytes:
    """One request of a batch's body; `params` is the Messages body as JSON, the id needs no escapes."""
    return b'{"custom_id":"%b","params":%b}' % (custom_id.encode("ascii"), params)


class Limit(StrEnum):
    """What a row is too large for, even alone."""

    BYTES = "bytes"
    BUDGET = "budget"
    UNPRICED = "unpriced"  # there is a budget, and no bound for what this row may cost


class Fits(Struct, frozen=True, kw_only=True):
    """Taken: it is now one of the packer's rows."""


class Full(Struct, frozen=True, kw_only=True):
    """Not taken, for the next submission. `limit` says what has run out, None: the number of requests."""

    limit: Limit | None


class TooLarge(Struct, frozen=True, kw_only=True):
    """Not taken, and no empty submission of these bounds would take it. `reason` is for people."""

    limit: Limit
    reason: str


FITS = Fits()


class Packer:
    """Rows of one submission. `max_pico` is what the budget admits for it, None without a budget; `held` says how
    much of it the rows hold back, their worst costs where nothing else is told."""

    def __init__(
        self,
        max_requests: int = API_MAX_REQUESTS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_pico: int | None = None,
        held: WorstHeld | None = None,
    ) -> None:
        if not 1 <= max_requests <= API_MAX_REQUESTS:
            raise ValueError(f"a batch holds 1 to {API_MAX_REQUESTS} requests, not {max_requests}")
        if not 1 <= max_bytes <= API_MAX_BYTES:
            raise ValueError(f"a batch holds at most {API_MAX_BYTES} bytes, not {max_bytes}")
        self.max_requests, self.max_bytes, self.max_pico = max_requests, max_bytes, max_pico
        self.idxs: list[int] = []
        self.size_bytes = len(BODY_HEAD) + len(BODY_TAIL)
        self.worst_pico: int | None = 0
        self.held = held or WorstHeld()

    def __len__(self) -> int:
        return len(self.idxs)

    def offer(
        self, idx: int, size_bytes: int, worst_pico: int | None, shape: str | None = None
    ) -> Fits | TooLarge | Full:
        """Take the row if there is room. `size_bytes` is that of its `entry`; rows come in ascending order. What it
        holds back may depend on its `shape`."""
        if self.idxs and idx <= self.idxs[-1]:
            raise ValueError(f"row {idx} after row {self.idxs[-1]}")
        held_pico = self.held.with_row(worst_pico or 0, shape)
        refusal = self._too_large(size_bytes, worst_pico) or self._full(size_bytes, held_pico)
        if refusal is not None:
            return refusal
        self.size_bytes = self._size_with(size_bytes)
        self.worst_pico = None if self.worst_pico is None or worst_pico is None else self.worst_pico + worst_pico
        self.held.take(worst_pico or 0, shape, held_pico)
        self.idxs.append(idx)
        return FITS

    def _too_large(self, size_bytes: int, worst_pico: int | None) -> TooLarge | None:
        alone = size_bytes + len(BODY_HEAD) + len(BODY_TAIL)
        if alone > self.max_bytes:
            reason = f"the request has {alone} bytes, and a batch holds at most {self.max_bytes}"
            return TooLarge(limit=Limit.BYTES, reason=reason)
        if self.max_pico is None:
            return None
        if worst_pico is None:
            return TooLarge(
                limit=Limit.UNPRICED, reason="the run has a budget, and nothing bounds what the request may cost"
            )
        if worst_pico > self.max_pico:
            return TooLarge(limit=Limit.BUDGET, reason="the request may cost more than what is left of the budget")
        return None

    def _full(self, size_bytes: int, held_pico: int) -> Full | None:
        if len(self.idxs) >= self.max_requests:
            return Full(limit=None)
        if self._size_with(size_bytes) > self.max_bytes:
            return Full(limit=Limit.BYTES)
        if self.max_pico is not None and held_pico > self.max_pico:
            return Full(limit=Limit.BUDGET)
        return None

    def _size_with(self, size_bytes: int) -> int:
        return self.size_bytes + size_bytes + (len(BODY_SEPARATOR) if self.idxs else 0)


# --- the rows of a chunk that ride in a submission, as the store keeps them


def bitmap(first_idx: int, n: int, idxs: Iterable[int]) -> bytes:
    """One bit for each of a chunk's `n` rows, the first in the lowest bit of the first byte."""
    bits = bytearray((n + 7) // 8)
    for idx in idxs:
        offset = idx - first_idx
        if not 0 <= offset < n:
            raise ValueError(f"row {idx} is not among {n} rows from {first_idx} on")
        bits[offset >> 3] |= 1 << (offset & 7)
    return bytes(bits)


def rows_of(first_idx: int, n: int, bits: bytes) -> list[int]:
    """The rows of a bitmap, ascending."""
    if len(bits) != (n + 7) // 8:
        raise ValueError(f"{len(bits)} bytes are no bitmap of {n} rows")
    number = int.from_bytes(bits, "little")
    if number >> n:
        raise ValueError(f"the bitmap has rows beyond its {n}")
    return [first_idx + offset for offset in range(n) if bits[offset >> 3] >> (offset & 7) & 1]
