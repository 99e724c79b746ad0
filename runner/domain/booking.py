"""A line of the books: what one call cost, or the most that it can have cost, or a correction of an earlier line."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from runner.domain.outcome import Usage
from runner.domain.pricing import Price

DAY_US = 86_400 * 10**6


class BookingKind(StrEnum):
    SPEND = "spend"
    DUPLICATE = "duplicate"  # paid for an answer that another one beat
    UNKNOWN = "unknown"  # nobody knows whether the call was billed; `bound_pico` is the most it can be
    CORRECTION = "correction"  # what a corrected table of prices makes of an earlier line


class Booking(Struct, frozen=True, kw_only=True):
    """A line of the ledger for one call. `price` is None when it is not known exactly.

    `key` names the call where row, epoch, try and turn do not: a line of a batch is named by its custom id. `at_us`
    is when it was billed, where that was earlier than now: when its batch ended.
    """

    kind: BookingKind
    model: str
    price: Price | None
    bound_pico: int | None
    usage: Usage | None
    price_version: str
    request_id: str | None
    batch: str | None = None
    key: str | None = None
    at_us: int | None = None

    @property
    def cost_pico(self) -> int | None:
        return None if self.price is None else self.price.cost_pico


def day_number(at_us: int) -> int:
    """The UTC day of a moment, counted from 1970-01-01."""
    return at_us // DAY_US
