"""Where calls of one scope wait: for the end of a hold, and for room in the limits.

A scope is an organisation and a model class. What the scope has been through lives here too, because `decide`
needs it: setbacks in a row, the last success, how long there has been none.
"""

from __future__ import annotations

import anyio

from runner.clock import SECOND, Clock
from runner.domain.decide import ScopeHistory
from runner.domain.limits import Buckets

# After a hold the first calls leave one by one over this long, so that a waiting crowd does not start as one wave.
RAMP_S = 1.0
# Arithmetic may leave a wait of less than a clock can tell; asking again at once would spin.
SHORTEST_SLEEP_S = 0.001


class Gate:
    """Admits calls in the order in which they came."""

    def __init__(self, clock: Clock, buckets: Buckets, *, concurrency: int, held_until_us: int = 0) -> None:
        self._clock = clock
        self._buckets = buckets
        self._line = anyio.Lock()
        self._step_s = RAMP_S / concurrency
        self.held_until_us = held_until_us
        self._ramp_until_us = 0
        self._setbacks = 0
        self._setback_us = 0
        self._last_success_us: int | None = None
        self._trouble_since_us: int | None = None

    async def admit(self, input_tokens: float, output_tokens: float) -> None:
        """Returns when a call of about this size may be sent."""
        if self._buckets.unlimited and self._clock.now_us() >= max(self.held_until_us, self._ramp_until_us):
            return
        async with self._line:
            await self._wait_out_hold()
            while wait_s := self._buckets.take(input_tokens, output_tokens, self._clock.monotonic()):
                await self._clock.sleep(max(wait_s, SHORTEST_SLEEP_S))
                await self._wait_out_hold()

    async def _wait_out_hold(self) -> None:
        stepped = False
        while True:
            wait_us = self.held_until_us - self._clock.now_us()
            if wait_us > 0:
                await self._clock.sleep(wait_us / SECOND)
            elif not stepped and self._clock.now_us() < self._ramp_until_us:
                stepped = True
                await self._clock.sleep(self._step_s)  # in which a new hold may begin
            else:
                return

    @property
    def is_held(self) -> bool:
        """Must nothing be sent now, not even what has been admitted?"""
        return self._clock.now_us() < self.held_until_us

    def correct(self, input_tokens: float, output_tokens: float) -> None:
        """Give back what an estimate took too much (negative: take the rest)."""
        self._buckets.correct(input_tokens, output_tokens)

    def history(self) -> ScopeHistory:
        return ScopeHistory(setbacks=self._setbacks, last_success_us=self._last_success_us)

    def succeeded(self, now_us: int) -> None:
        self._setbacks = 0
        self._last_success_us = now_us
        self._trouble_since_us = None

    def set_back(self, *, sent_us: int, now_us: int) -> bool:
        """Note a failure of the scope; True when it begins a new episode.

        Calls that were already on their way when the last setback was noted belong to the same episode: a crowd
        of slots that fail together is one setback, not a crowd of them.
        """
        if self._trouble_since_us is None:
            self._trouble_since_us = now_us
        if sent_us < self._setback_us:
            return False
        self._setbacks += 1
        self._setback_us = now_us
        return True

    def hold(self, until_us: int) -> None:
        """Nobody in this scope sends before `until_us`; the later word wins."""
        if until_us > self.held_until_us:
            self.held_until_us = until_us
            self._ramp_until_us = until_us + round(RAMP_S * SECOND)

    def stalled(self, now_us: int, stall_s: float) -> bool:
        """Has there been trouble, and no success, for this long?"""
        since = self._trouble_since_us
        return since is not None and now_us - since >= stall_s * SECOND
