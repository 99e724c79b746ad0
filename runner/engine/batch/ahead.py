"""Which rows of a parcel go ahead of the others: one of each shape of parameters, and one for each prefix that they
share in the prompt cache. Sees every body while it is packed; decides nothing but who, `domain` says whether."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from runner.clock import SECOND
from runner.domain.job import BatchSpec, WarmCache
from runner.domain.marking import pays_behind
from runner.domain.outcome import Usage
from runner.domain.prefix import LONG, PrefixReader, kept_longer, may_have_marks
from runner.domain.pricing import PriceBook
from runner.domain.priming import Groups, Plan, warm_until_us
from runner.domain.probe import PROBE_FROM, ROWS_A_SHAPE, Probing, shape_of
from runner.domain.result import RowResult
from runner.domain.states import RowStatus

NOBODY = Plan(primings={}, leaders={})
# A batch that is submitted now may be worked on a while later: what is about to go cold is not counted on.
STILL_WARM_US = 600 * SECOND


class Scout:
    """Knows what this process has tried and what it has primed."""

    def __init__(self, batch: BatchSpec, prices: PriceBook) -> None:
        self._probes = batch.probe
        self._primes = batch.warm_cache is WarmCache.AUTO
        self._prices = prices
        self._probing = Probing()
        self._of_shape: dict[str, list[int]] = defaultdict(list)
        self._reader = PrefixReader()
        self._groups = Groups()
        self._plan = NOBODY
        self._primed = False  # the present rows have been looked at for prefixes, and those ahead have gone
        self._warm: dict[bytes, int] = {}
        self._hit_share: float | None = None

    def begin_parcel(self, now_us: int, hit_share: float | None = None) -> None:
        """Rows are about to be packed. `hit_share` is what the run's batches have shown of the cache so far."""
        self._hit_share = hit_share
        self._of_shape.clear()
        self._groups = Groups()
        if not self._primed:
            warm = frozenset(key for key, until_us in self._warm.items() if until_us > now_us + STILL_WARM_US)
            self._plan = Plan(primings={}, leaders={}, warm=warm)

    def forget_parcel(self) -> None:
        """It was sent: the next rows may share other prefixes."""
        self._primed = False

    def look(self, idx: int, body: dict[str, Any], marked: dict[str, Any]) -> dict[str, Any]:
        """A body that is about to ride, and how it is to be sent. `marked` is it with a mark of ours, where it may
        have one: it goes so only behind a row that filled the cache."""
        if self._probes:
            rows = self._of_shape[shape_of(body)]
            if len(rows) < ROWS_A_SHAPE:
                rows.append(idx)
        if not self._primes or (marked is body and not may_have_marks(body)):
            return body
        prefixes = self._reader.prefixes(marked)
        if marked is not body and not self._pays_behind(prefixes[-1].model):
            return body
        self._groups.add(idx, prefixes, ours=marked is not body)
        return self._kept(body, marked, self._plan.depth(prefixes))

    def look_again(self, _idx: int, body: dict[str, Any], marked: dict[str, Any]) -> dict[str, Any]:
        """A body that goes ahead for its prefix."""
        return self._kept(body, marked, self._plan.depth(self._reader.prefixes(marked)))

    def _pays_behind(self, model: str) -> bool:
        return self._hit_share is None or pays_behind(self._prices, model, self._hit_share)

    @staticmethod
    def _kept(body: dict[str, Any], marked: dict[str, Any], depth: int) -> dict[str, Any]:
        return kept_longer(marked, depth) if depth else body

    # --- shapes of parameters

    def probes(self, idxs: Sequence[int]) -> frozenset[int]:
        """Rows to be asked live before so many others ride; none where nothing new is to be tried."""
        if not self._probes or (len(idxs) < PROBE_FROM and not self._probing.undecided):
            return frozenset()
        ahead: set[int] = set()
        for shape, rows in self._of_shape.items():
            if self._probing.wants(shape):
                self._probing = self._probing.sent(shape, rows[0])
                ahead.add(rows[0])
        return frozenset(ahead)

    def probed(self, idx: int, result: RowResult | None) -> None:
        """How a row that went ahead has ended; None: it has not."""
        if result is None:
            self._probing = self._probing.given_up(idx)
        elif result.status is RowStatus.ERRORED:
            self._probing = self._probing.refused(idx, f"{result.error_type}: {result.error_message}")
        else:
            self._probing = self._probing.answered(idx)

    @property
    def verdict(self) -> str | None:
        """Why the others should not ride either."""
        return self._probing.verdict()

    # --- shared prefixes

    def primers(self) -> frozenset[int]:
        """Rows that write what the others read; none where that does not pay or has been done."""
        if not self._primes or self._primed:
            return frozenset()
        self._primed = True
        self._plan = self._groups.plan(self._prices, self._plan.warm, self._hit_share)
        return self._plan.ahead

    def primed(self, usages: Mapping[int, Usage], now_us: int) -> None:
        """What those ahead were answered with, as far as they were: only what they show is counted on."""
        self._plan = self._plan.after(usages)
        for key in self._plan.primings:
            self._warm[key] = warm_until_us(now_us, LONG)
