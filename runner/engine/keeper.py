"""Renews the slices of a run's scopes from the shared rows, beside the calls: about once a second, in one
transaction, and only while something is sent."""

from __future__ import annotations

from functools import partial

import anyio
from anyio import to_thread
from msgspec.structs import replace

from runner.clock import SECOND, Clock
from runner.domain.share import Share
from runner.domain.slices import NOTHING, SharedLevel, Take, Taken, looked
from runner.engine.feeder import first_of
from runner.engine.scopes import Scope, Scopes
from runner.store.store import Store

# A hold shorter than this is over before others could see it.
REMEMBER_HOLD_US = SECOND
# A wait shorter than this is none: no clock tells it apart.
TICK_S = 0.001


class Keeper:
    """`want` asks for renewals, `serve` makes them, `renewed` is when one has been made; `pause` tells the others."""

    def __init__(self, store: Store, scopes: Scopes, clock: Clock, writes: anyio.CapacityLimiter) -> None:
        self._store = store
        self._scopes = scopes
        self._clock = clock
        self._writes = writes
        self._wanted: set[Share] = set()
        self._wake = anyio.Event()
        self._done = anyio.Event()
        self._paused_until_us: dict[Scope, int] = {}

    def want(self, scope: Scope) -> None:
        """The slices of this scope and of the run are used up or too old, or will be soon."""
        for share in (scope.share, self._scopes.own):
            if share is not None and (share not in self._wanted or share.asks_at_once):
                self._wanted.add(share)
                self._wake.set()

    async def renewed(self) -> None:
        await self._done.wait()

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            while (wait_s := self._wait_s()) > TICK_S:
                self._wake = anyio.Event()
                await first_of([partial(self._clock.sleep, wait_s), self._wake.wait])
            self._wake = anyio.Event()
            wanted, self._wanted = self._wanted, set()
            await self._renew(wanted)
            self._done.set()
            self._done = anyio.Event()

    def _wait_s(self) -> float:
        """Until one of those that are wanted may be asked for."""
        return min(share.ask_again_s for share in self._wanted) - self._clock.monotonic()

    async def pause(self, scope: Scope, until_us: int) -> None:
        """Nobody sends in this scope until then: for other processes, and the next start. A crowd of calls that are
        told the same write it once."""
        wait_us = until_us - self._clock.now_us()
        if wait_us > REMEMBER_HOLD_US and until_us - self._paused_until_us.get(scope, 0) > SECOND:
            self._paused_until_us[scope] = until_us
            with anyio.CancelScope(shield=True):  # also when it is the last that this process hears
                await to_thread.run_sync(self._store.pause_scope, scope.name, until_us, limiter=self._writes)

    async def _renew(self, wanted: set[Share]) -> None:
        now_s, now_us = self._clock.monotonic(), self._clock.now_us()
        shares = {name: share for name, share in self._scopes.shares().items() if share in wanted}
        asked = {name: (share.ask(now_s, now_us), share.must_take) for name, share in shares.items()}
        taken = await to_thread.run_sync(_taken, self._store, asked, now_us, limiter=self._writes)
        now_s = self._clock.monotonic()
        paused_until_us = {}
        for name, share in shares.items():
            share.renewed(taken[name], now_s)
            paused_until_us[share] = taken[name].paused_until_us
        for scope in self._scopes:
            scope.hold_until(paused_until_us.get(scope.share))

    def give_back(self) -> None:
        """What was not used, for the others. Blocks."""
        now_s, now_us = self._clock.monotonic(), self._clock.now_us()
        shares = {name: share for name, share in self._scopes.shares().items() if not share.unlimited}
        takes = {name: replace(share.ask(now_s, now_us), wish=NOTHING) for name, share in shares.items()}
        if takes:
            self._store.take_slices(takes, now_us)


def _taken(store: Store, asked: dict[str, tuple[Take, bool]], now_us: int) -> dict[str, Taken]:
    """Where a scope has no limits there is nothing to take: whether others were told to wait is only looked at."""
    seen = store.look_at_limits([name for name, (_, must) in asked.items() if not must])
    taken = {name: looked(seen.get(name, SharedLevel())) for name in asked}
    takes = {name: take for name, (take, must) in asked.items() if must or any(taken[name].known.limits)}
    return {**taken, **store.take_slices(takes, now_us)} if takes else taken
