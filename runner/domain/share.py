"""What one process may use of one limit: the slice that it holds, given out evenly. Pure: time is an argument.

The slice is the shared permission, and says how much; the buckets are the process's own, and say when: a slice for a
second is not sent in one wave. Each call takes its estimate from both and gives back the difference when it is known.
"""

from __future__ import annotations

import math

from runner.domain.limits import NOT_KNOWN, Amounts, Bucket, KnownLimits, LimitSource, RateWord, used_rate
from runner.domain.slices import EVERYTHING, SLICE_S, Take, Taken

# A slice is renewed before it is used up or too old, so that no call waits for that, and not more often.
LOW_SHARE = 0.2
RENEW_AFTER_S = 0.8 * SLICE_S
# One that was small, because the row had little, is followed by the next as soon as it is used up or a little later:
# so they grow, for what flows in meanwhile is kept for who asks less often.
SOON_S = 0.1
LONGER = 1.5
# Beyond this age nothing is sent by it: others may have been told to wait meanwhile.
VALID_S = 1.5 * SLICE_S
# One of several processes sends this much faster than its share, for what the others leave.
ELBOW_ROOM = 1.25
# The next slice may be this many times what was used of the last one, and a few calls more.
MORE_THAN_USED = 2.0
SPARE_CALLS = 3.0
# The wait of a call for which the slice has to be renewed first.
RENEW_FIRST = math.inf


class _Flow:
    """One dimension: what is left of the slice, and the pace at which it is used."""

    __slots__ = ("began", "full", "last", "least", "left", "low", "pace")

    def __init__(self, rate: float, now_s: float, *, least: float) -> None:
        self.least = least  # what must be left for a call to go: a whole request, any token
        self.left = 0.0
        self.began = 0.0  # what the slice was when it was renewed
        self.low = 0.0
        self.full = least  # what a slice is at most
        self.last = least  # what the last call took
        self.pace = Bucket(rate, now_s)

    def wish(self) -> float:
        """For the next second, by what was used in this one: the rest is left to others."""
        return MORE_THAN_USED * (self.began - self.left) + SPARE_CALLS * self.last


class Share:
    """A process's part of a scope's limits. A dimension without a limit has no flow and costs nothing."""

    def __init__(self) -> None:
        self.known = NOT_KNOWN
        self.is_low = True
        self._wish = EVERYTHING
        self._valid_until_s = -math.inf
        self._asked_s = -math.inf
        self.ask_again_s = -math.inf
        self._last_us = 0
        self._told: KnownLimits | None = None
        self._word_us = 0
        self._flows: tuple[_Flow | None, ...] = (None, None, None)
        self._limited: tuple[tuple[int, _Flow], ...] = ()

    @property
    def unlimited(self) -> bool:
        return not self._limited

    @property
    def asks_at_once(self) -> bool:
        """There is something to tell the row, or nothing to go by."""
        return self.ask_again_s == -math.inf

    # --- calls

    def wait_s(self, amounts: Amounts, now_s: float) -> float:
        """Seconds until a call of this size may go; `RENEW_FIRST` when that takes a renewal."""
        if now_s > self._valid_until_s:
            return RENEW_FIRST
        wait_s = 0.0
        for dimension, flow in self._limited:
            if flow.left < flow.least:
                return RENEW_FIRST
            own_s = flow.pace.wait_s(amounts[dimension], now_s)
            if own_s > wait_s:
                wait_s = own_s
        return wait_s

    def waits_for(self, amounts: Amounts, now_s: float) -> int | None:
        """Which dimension a call of this size waits for longest; None where it is only for the renewal itself."""
        waits = {
            dimension: math.inf if flow.left < flow.least else flow.pace.wait_s(amounts[dimension], now_s)
            for dimension, flow in self._limited
        }
        longest = max(waits, key=waits.__getitem__, default=None)
        return longest if longest is not None and waits[longest] > 0.0 else None

    def take(self, amounts: Amounts) -> None:
        """The call goes."""
        for dimension, flow in self._limited:
            amount = flow.last = amounts[dimension]
            flow.pace.level -= amount
            flow.left -= amount
            if flow.left < flow.low:
                self.is_low = True

    def give_back(self, amounts: Amounts) -> None:
        """What a call has taken too much (negative: too little). It fills the slice at most: when the call began the
        service, whose bucket overflows like ours, had as much."""
        for dimension, flow in self._limited:
            amount = amounts[dimension]
            flow.pace.level += amount
            if amount <= 0 or flow.left + amount <= flow.full:
                flow.left += amount
            else:
                flow.left = max(flow.full, flow.left)

    def pause(self) -> None:
        """Nothing gathers during a hold: what is sent after it begins with one call."""
        for _, flow in self._limited:
            flow.pace.level = min(flow.pace.level, flow.least)

    # --- the row

    def begin(self, told: KnownLimits | None) -> None:
        """With what is known of the limits before anything was sent."""
        self._told = told

    def move(self) -> None:
        """Another row from now on: what the old one gave does not count there."""
        for _, flow in self._limited:
            flow.left = min(0.0, flow.left)
        self._renew_first()

    def _renew_first(self) -> None:
        """Nothing more goes by the slice at hand."""
        self._valid_until_s = -math.inf
        self._ask_at_once()

    def _ask_at_once(self) -> None:
        self.ask_again_s = -math.inf
        self.is_low = True

    @property
    def held(self) -> Amounts:
        """What is left of the slice, negative where more was used."""
        return Amounts(*(flow.left if flow else 0.0 for flow in self._flows))

    @property
    def must_take(self) -> bool:
        """Is there anything to take or to tell? Else a look at the row is enough."""
        return self._told is not None or not self.unlimited

    def wants_renewal(self, now_s: float) -> bool:
        return self.is_low or now_s - self._asked_s > RENEW_AFTER_S

    def ask(self, now_s: float, now_us: int) -> Take:
        """What to ask of the row now."""
        wish = Amounts(*(flow.wish() if flow else math.inf for flow in self._flows))
        if self.is_low:  # with more it would have used more
            wish = Amounts(*map(max, wish, self._wish))
        self._wish = wish
        take = Take(held=self.held, wish=wish, last_us=self._last_us, told=self._told)
        self._last_us = now_us
        self._asked_s = now_s
        self.ask_again_s = now_s + RENEW_AFTER_S
        return take

    def renewed(self, taken: Taken, now_s: float) -> None:
        """What the row gave; calls that went meanwhile stay subtracted."""
        self._told = None
        if taken.known.source is None and self.known.source is not None:  # nobody has told this row yet
            self._told = self.known
            self._renew_first()
            return
        self._adopt(taken.known, taken.share, now_s)
        self._valid_until_s = self._asked_s + VALID_S
        self.is_low = False
        lasts_s = SLICE_S
        for dimension, flow in self._limited:
            flow.left += taken.more[dimension]
            lasts_s = min(lasts_s, flow.left / flow.full * SLICE_S)
            flow.began = flow.left
            flow.low = flow.left * LOW_SHARE
            self.is_low = self.is_low or flow.left < max(flow.least, flow.low)
        again_s = min(RENEW_AFTER_S, max(SOON_S, LONGER * lasts_s))
        self.ask_again_s = max(self._asked_s + again_s, now_s + min(taken.wait_s, SLICE_S))

    # --- the server's word

    def heed(self, word: RateWord, server_time_us: int | None) -> None:
        """What the newest reply says: its limits go to the row with the next renewal, and what it says is left holds
        at once. Replies overtake one another; an older word than one that was heard says nothing new."""
        if server_time_us is not None:
            if server_time_us < self._word_us:
                return
            self._word_us = server_time_us
        if word.limits != self.known.limits or self.known.source is not LimitSource.HEADERS:
            self._note(word.known())
        for dimension, flow in self._limited:
            left = word.left[dimension]
            if left is not None and left < flow.pace.level:
                flow.pace.level = left

    def _note(self, told: KnownLimits) -> None:
        if self.known.heeding(told) != self.known:
            self._told = told
            self._ask_at_once()
            if self.unlimited:  # what went freely waits for its slice from now on
                self._renew_first()

    def _adopt(self, known: KnownLimits, share: float, now_s: float) -> None:
        if known.limits != self.known.limits:
            self._flows = tuple(
                None if limit is None else flow or _Flow(used_rate(limit), now_s, least=1.0 if number == 0 else 1e-9)
                for number, (limit, flow) in enumerate(zip(known.limits, self._flows, strict=True))
            )
            self._limited = tuple((number, flow) for number, flow in enumerate(self._flows) if flow is not None)
        self.known = known
        for dimension, flow in self._limited:
            rate = used_rate(known.limits[dimension] or 0)
            flow.pace.set_rate(rate * min(1.0, share * ELBOW_ROOM), now_s)
            flow.full = math.ceil(rate * share * SLICE_S)
