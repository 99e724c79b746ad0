"""Where rows wait for the limits: a short queue for each scope, so that one that must wait keeps no other waiting.

Whoever is free asks for the next row. Rows of one scope leave in the order in which they came, those that were tried
before first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from msgspec import Struct

from runner.clock import Clock
from runner.domain.limits import Amounts
from runner.domain.request import MessagesRequest
from runner.domain.share import RENEW_FIRST
from runner.engine.feeder import Feeder, Work, first_of
from runner.engine.keeper import Keeper
from runner.engine.scopes import Scope, Scopes
from runner.files.bad_row import BadRow

# Rows that may wait for one scope while those behind them are looked at, and what their requests may weigh together.
PARKED_ROWS = 256
PARKED_BYTES = 16 << 20
# A wait as short as this is slept through; in a longer one a row of another scope may come and go first.
NAP_S = 0.05
# Calls that leave within one tick leave together: a timer for each would cost more than the call's own share of it.
TICK_S = 0.002


class Ready(Struct, eq=False):
    """A row made into a request, with what it will probably take."""

    work: Work
    key: str | None
    request: MessagesRequest
    scope: Scope
    amounts: Amounts


class Unsendable(Struct):
    """A row that no request can be made of."""

    work: Work
    bad: BadRow


class Gate:
    """`next` gives out rows that may be sent now; `admit` is for a call that goes on with a row."""

    def __init__(
        self,
        feeder: Feeder,
        prepare: Callable[[Work], Ready | Unsendable],
        scopes: Scopes,
        keeper: Keeper,
        clock: Clock,
        *,
        one_scope: bool,
    ) -> None:
        self._feeder = feeder
        self._prepare = prepare
        self._scopes = scopes
        self._keeper = keeper
        self._clock = clock
        self._line = anyio.Lock(fast_acquire=True)
        self._lanes: dict[Scope, deque[Ready]] = {}
        self._most_parked = 1 if one_scope else PARKED_ROWS
        self._parked = 0
        self._parked_bytes = 0

    async def next(self) -> Ready | Unsendable | None:
        """The next row whose call may be made; None when there are no more."""
        async with self._line:
            while not self._feeder.is_over:
                news = self._feeder.news()
                # Rows that are due again come in front of what is parked already, however much that is.
                if (due := self._feeder.due()) is not None and (unsendable := self._park(due)):
                    return unsendable
                ready, wait_s = self._first_admitted()
                if ready is not None:
                    return ready
                if (fresh := self._feeder.fresh() if self._has_room() else None) is not None:
                    if unsendable := self._park(fresh):
                        return unsendable
                elif self._parked:
                    await self._wait(wait_s, news)
                else:
                    await self._feeder.more()
            return None

    async def admit(self, scope: Scope, amounts: Amounts) -> None:
        """Returns when such a call may be made."""
        while wait_s := self._wait_s(scope, amounts):
            await self._wait(wait_s)

    def give_back(self, scope: Scope, amounts: Amounts) -> None:
        """What an estimate took too much (negative: too little)."""
        self._scopes.give_back(scope, amounts)

    def _first_admitted(self) -> tuple[Ready | None, float]:
        """A row that may go, now taken out; else how long until one may."""
        shortest_s = math.inf
        for scope, lane in self._lanes.items():
            if lane:
                wait_s = self._wait_s(scope, lane[0].amounts)
                if wait_s == 0.0:
                    return self._unparked(lane), 0.0
                shortest_s = min(shortest_s, wait_s)
        return None, shortest_s

    def _wait_s(self, scope: Scope, amounts: Amounts) -> float:
        now_s = self._clock.monotonic()
        wait_s = self._scopes.wait_s(scope, amounts, now_s)
        if wait_s == RENEW_FIRST or self._scopes.want_renewal(scope, now_s):
            self._keeper.want(scope)
        return wait_s

    def _has_room(self) -> bool:
        return self._parked < self._most_parked and self._parked_bytes < PARKED_BYTES

    def _park(self, work: Work) -> Unsendable | None:
        ready = self._prepare(work)
        if isinstance(ready, Unsendable):
            return ready
        lane = self._lanes.setdefault(ready.scope, deque())
        if work.last_try:  # One that was due again goes soon, but never keeps a single slot from all others.
            lane.insert(1, ready)
        else:
            lane.append(ready)
        self._parked += 1
        self._parked_bytes += len(ready.request.body)
        return None

    def _unparked(self, lane: deque[Ready]) -> Ready:
        ready = lane.popleft()
        self._parked -= 1
        self._parked_bytes -= len(ready.request.body)
        return ready

    async def _wait(self, wait_s: float, news: anyio.Event | None = None) -> None:
        """So long, or until a slice is renewed or there is news, if that makes a difference."""
        if wait_s <= NAP_S:
            await self._clock.sleep(max(wait_s, TICK_S))
            return
        signs: list[Callable[[], Awaitable[None]]] = [self._keeper.renewed]
        if wait_s < RENEW_FIRST:
            signs.append(partial(self._clock.sleep, wait_s))
        if news is not None:
            signs.append(news.wait)
        await first_of(signs)
