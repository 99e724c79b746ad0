"""The bill and the tallies: every call that the service would charge for, and everything that it was asked.

Tests hold a client's own books against it. With `totals` nothing is kept per call, so that a million calls take no
more memory than one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import msgspec

from runner.simulator.billing import pico_text

MINUTE_S = 60
MAX_WINDOWS = 10_000  # a week of minutes; older windows are dropped


@dataclass(kw_only=True, slots=True)
class Charge:
    """One line of the bill. `wire` is what became of the reply, written when its connection is done with it."""

    ordinal: int
    at_us: int
    body_sha256: str
    model: str
    usage: dict[str, Any]
    cost_usd: Fraction
    request_id: str
    stream: bool
    wire: str = "open"
    batch_id: str | None = None
    custom_id: str | None = None
    workspace_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"cost_usd": str(self.cost_usd), "pico": pico_text(self.cost_usd)}


class Bill(Protocol):
    """The bill of many calls at once, which writes its lines when they are read."""

    @property
    def billed(self) -> int: ...

    @property
    def tokens(self) -> Mapping[str, int]: ...

    @property
    def cost_usd(self) -> Fraction: ...

    def charges(self) -> Iterator[Charge]: ...


class Offer(NamedTuple):
    """One request as the limits saw it."""

    at_s: float
    kind: str  # accepted, or the limit that refused it
    limit_class: str
    input_tokens: int
    output_tokens: int


class Ledger:
    """Appended to by the doors, read by tests."""

    def __init__(self, *, keep_all: bool) -> None:
        self._keep_all = keep_all
        self.charges: list[Charge] = []  # of single calls
        self.batch_bills: list[Bill] = []
        self.offers: list[Offer] = []
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.wire: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.windows: dict[int, Counter[str]] = {}
        self.cost_usd = Fraction()

    def charge(self, charge: Charge) -> None:
        """Put an executed call on the bill."""
        self.counts["billed"] += 1
        self.cost_usd += charge.cost_usd
        for name in ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"):
            self.tokens[name] += charge.usage[name]
        if self._keep_all:
            self.charges.append(charge)

    def charge_batch(self, bill: Bill) -> None:
        """Put all of an ended batch on the bill."""
        self.counts["billed"] += bill.billed
        self.counts["batch_billed"] += bill.billed
        self.cost_usd += bill.cost_usd
        self.tokens.update(bill.tokens)
        if self._keep_all:
            self.batch_bills.append(bill)

    def all_charges(self) -> Iterator[Charge]:
        """Those of single calls, then those of batches."""
        yield from self.charges
        for bill in self.batch_bills:
            yield from bill.charges()

    def refuse(self, reason: str) -> None:
        self.refused[reason] += 1

    def offer(self, offer: Offer) -> None:
        """Note what was asked of the limits."""
        window = self.windows.setdefault(int(offer.at_s // MINUTE_S), Counter())
        window[offer.kind] += 1
        window["input_tokens"] += offer.input_tokens
        window["output_tokens"] += offer.output_tokens
        if len(self.windows) > MAX_WINDOWS:
            del self.windows[next(iter(self.windows))]
        if self._keep_all:
            self.offers.append(offer)

    def ended(self, how: str, charge: Charge | None) -> None:
        """What became of a reply: delivered, cut, reset, stalled or disconnected."""
        self.wire[how] += 1
        if charge is not None:
            charge.wire = how

    def lines(self, body_sha256: str | None = None) -> Iterator[bytes]:
        """The bill as JSON lines, all or those of one body."""
        for charge in self.all_charges():
            if body_sha256 in (None, charge.body_sha256):
                yield msgspec.json.encode(charge.as_json()) + b"\n"

    def tallies(self) -> dict[str, Any]:
        """The sums, as one JSON object."""
        return {
            **self.counts,
            "refused": dict(self.refused),
            "faults": dict(self.faults),
            "wire": dict(self.wire),
            "tokens": dict(self.tokens),
            "cost_usd": str(self.cost_usd),
            "pico": pico_text(self.cost_usd),
            "windows": {str(minute): dict(counts) for minute, counts in self.windows.items()},
            "offers": self.offers,
        }
