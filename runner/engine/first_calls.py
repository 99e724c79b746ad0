"""Live calls that share a cached prefix: the first goes ahead, the others wait for it and then read what it wrote.

Most jobs mark nothing; for them a search through the body is all that happens here.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from runner.clock import SECOND, Clock
from runner.domain.prefix import MARK, Prefix, PrefixReader
from runner.domain.pricing import PriceBook
from runner.domain.priming import Prefixes, Wait
from runner.domain.request import MessagesRequest
from runner.engine.stop import Stop

MARK_BYTES = MARK.encode()


class FirstCalls:
    """Who of those that share a prefix may be called now."""

    def __init__(self, prices: PriceBook, clock: Clock, stop: Stop) -> None:
        self._prices, self._clock, self._stop = prices, clock, stop
        self._reader = PrefixReader()
        self._prefixes = Prefixes()
        self._ended = anyio.Event()

    async def turn_of(self, idx: int, request: MessagesRequest) -> Sequence[Prefix]:
        """Returns when the row may be called, with the prefixes that `ended` is to be told of."""
        if MARK_BYTES not in request.body:
            return ()
        prefixes = self._kept(request)
        while prefixes and not self._stop.is_asked():
            now_us = self._clock.now_us()
            turn = self._prefixes.turn(idx, prefixes, now_us)
            if not isinstance(turn, Wait):
                break
            await self._stop.sleep(self._clock, max(0.0, (turn.until_us - now_us) / SECOND), self._ended)
        return prefixes

    def _kept(self, request: MessagesRequest) -> Sequence[Prefix]:
        """Those that are long enough for their model to keep."""
        facts = self._prices.find(request.model)
        if facts is None:
            return ()
        found = self._reader.prefixes(msgspec.json.decode(request.body))
        return [prefix for prefix in found if prefix.tokens >= facts.min_cache_tokens]

    def ended(self, idx: int, prefixes: Sequence[Prefix], *, sent_us: int | None) -> None:
        """The call has ended; `sent_us` is when it was sent, None where it gave no answer: another goes first."""
        if not prefixes:
            return
        if sent_us is None:
            self._prefixes.failed(idx, prefixes)
        else:
            self._prefixes.answered(idx, prefixes, sent_us)
        self._ended.set()
        self._ended = anyio.Event()
