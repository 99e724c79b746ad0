"""The scopes of a run: for each model class what this process may use of its limits, until when nothing may be sent,
and what it has been through, which `decide` needs. One more scope is the run itself, with the limits of its job."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from runner.clock import SECOND, Clock
from runner.domain.decide import ScopeHistory
from runner.domain.limits import Amounts, KnownLimits, LimitSource, RateLimits
from runner.domain.pricing import PriceBook
from runner.domain.share import Share

# After a hold the first calls leave one by one over this long, so that a waiting crowd does not start as one wave.
RAMP_S = 1.0
UNKNOWN = "unknown"
# What a call may wait for, in the order of the dimensions; and the server's word to send nothing for a while.
LIMITS = ("requests", "input_tokens", "output_tokens")
HOLD = "retry_after"


class Scope:
    """One model class of one organisation. Holds are kept in the machine's own time: no wall clock moves them."""

    def __init__(self, name: str, clock: Clock, *, step_s: float) -> None:
        self.name = name
        self.share = Share()
        self._clock = clock
        self._step_s = step_s
        self._chance = random.Random()
        self._held_until_s = 0.0
        self._ramp_until_s = 0.0
        self._next_step_s = 0.0
        self._waits_since: tuple[str, float] | None = None  # what a call of this scope waits for, and since when
        self._setbacks = 0
        self._setback_us = 0
        self._last_success_us: int | None = None
        self._trouble_since_us: int | None = None

    # --- holds

    @property
    def held_s(self) -> float:
        """Seconds for which nothing may be sent, not even what has been admitted."""
        return max(0.0, self._held_until_s - self._clock.monotonic())

    @property
    def is_held(self) -> bool:
        return self._clock.monotonic() < self._held_until_s

    def hold(self, wait_s: float) -> None:
        """Nobody in this scope sends for so long; the later word wins."""
        now_s = self._clock.monotonic()
        if now_s + wait_s > self._held_until_s:
            self._held_until_s = now_s + wait_s
            self._ramp_until_s = self._held_until_s + RAMP_S
            self._next_step_s = self._held_until_s + self._step()
            self.share.pause()

    def hold_until(self, until_us: int | None) -> None:
        """Until a moment of shared time, as another process wrote it down."""
        wait_s = ((until_us or 0) - self._clock.now_us()) / SECOND
        if wait_s > 0:
            self.hold(wait_s)

    def hold_wait_s(self, now_s: float) -> float:
        """Until the hold is over, or the next step after it."""
        if now_s < self._held_until_s:
            return self._next_step_s - now_s
        return max(0.0, self._next_step_s - now_s) if now_s < self._ramp_until_s else 0.0

    def stepped(self, now_s: float) -> None:
        """A call leaves."""
        if now_s < self._ramp_until_s:
            self._next_step_s = now_s + self._step()

    def _step(self) -> float:
        """Other processes wait for the same moment: no two keep the same step."""
        return self._step_s * (0.5 + self._chance.random())

    # --- what is waited for

    def waits(self, what: str | None, now_s: float) -> tuple[str, float] | None:
        """A call waits for this now, or for nothing any more; what it has waited for until now, and how long."""
        before, self._waits_since = self._waits_since, None if what is None else (what, now_s)
        return None if before is None else (before[0], now_s - before[1])

    @property
    def is_waited_for(self) -> bool:
        return self._waits_since is not None

    # --- what it has been through

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

    def stalled(self, now_us: int, stall_s: float) -> bool:
        """Has there been trouble, and no success, for this long?"""
        since = self._trouble_since_us
        return since is not None and now_us - since >= stall_s * SECOND


class Scopes:
    """The scopes that a run's calls count against, made when they are first needed."""

    def __init__(
        self,
        clock: Clock,
        prices: PriceBook,
        *,
        run: int,
        own: RateLimits,
        organization: str | None,
        known: Mapping[str, KnownLimits],
        concurrency: int,
    ) -> None:
        self._clock = clock
        self._prices = prices
        self._organization = organization
        self._known = known
        self._step_s = RAMP_S / concurrency
        self._scopes: dict[tuple[str, str | None], Scope] = {}
        # By limit, how long calls of some scope have waited for it.
        self.waited_s: dict[str, float] = {}
        self.own_name = f"run:{run}"
        self.own: Share | None = None
        if any(own):
            self.own = Share()
            self.own.begin(KnownLimits(limits=own, source=LimitSource.RUN))

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._scopes.values())

    def of(self, model: str, speed: str | None = None) -> Scope:
        """The scope of a call; fast ones have limits of their own."""
        key = (model, speed)
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = self._same_class(model, speed) or self._new(model, speed)
        return scope

    def _same_class(self, model: str, speed: str | None) -> Scope | None:
        name = self._name(model, speed)
        return next((scope for scope in self._scopes.values() if scope.name == name), None)

    def _new(self, model: str, speed: str | None) -> Scope:
        scope = Scope(self._name(model, speed), self._clock, step_s=self._step_s)
        if speed != "fast":
            scope.share.begin(self._known.get(self._prices.limit_class(model)))
        return scope

    def belong_to(self, organization: str) -> None:
        """Whose limits these are is known with the first answer."""
        if organization != self._organization:
            self._organization = organization
            for (model, speed), scope in self._scopes.items():
                scope.name = self._name(model, speed)
                scope.share.move()

    def shares(self) -> dict[str, Share]:
        """By the name of their row."""
        named = {scope.name: scope.share for scope in self._scopes.values()}
        return named if self.own is None else {**named, self.own_name: self.own}

    def wait_s(self, scope: Scope, amounts: Amounts, now_s: float) -> float:
        """Seconds until a call may go; taken where that is now. `RENEW_FIRST` when a slice has to come first."""
        held_s = scope.hold_wait_s(now_s)
        if held_s > 0.0:
            self._count_wait(scope, HOLD, now_s)
            return held_s
        wait_s = scope.share.wait_s(amounts, now_s)
        if self.own is not None:
            wait_s = max(wait_s, self.own.wait_s(amounts, now_s))
        if wait_s > 0.0:
            self._count_wait(scope, self._limit_of(scope, amounts, now_s), now_s)
            return wait_s
        if scope.is_waited_for:
            self._count_wait(scope, None, now_s)
        scope.stepped(now_s)
        scope.share.take(amounts)
        if self.own is not None:
            self.own.take(amounts)
        return 0.0

    def _limit_of(self, scope: Scope, amounts: Amounts, now_s: float) -> str | None:
        for share in (scope.share, self.own):
            dimension = None if share is None else share.waits_for(amounts, now_s)
            if dimension is not None:
                return LIMITS[dimension]
        return None

    def _count_wait(self, scope: Scope, what: str | None, now_s: float) -> None:
        waited = scope.waits(what, now_s)
        if waited is not None:
            self.waited_s[waited[0]] = self.waited_s.get(waited[0], 0.0) + waited[1]

    def want_renewal(self, scope: Scope, now_s: float) -> bool:
        """Will a slice of this scope's calls soon be used up or too old?"""
        return scope.share.wants_renewal(now_s) or (self.own is not None and self.own.wants_renewal(now_s))

    def give_back(self, scope: Scope, amounts: Amounts) -> None:
        """What an estimate took too much (negative: too little)."""
        scope.share.give_back(amounts)
        if self.own is not None:
            self.own.give_back(amounts)

    def _name(self, model: str, speed: str | None) -> str:
        name = f"{self._organization or UNKNOWN}/{self._prices.limit_class(model)}"
        return f"{name}/fast" if speed == "fast" else name
