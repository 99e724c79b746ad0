"""How many calls may be out at once: carefully at first, more while answers come quickly and well, half as many
when the service is overloaded. Of this process alone; the limits are another matter. Pure."""

from __future__ import annotations

# More at once than any service takes from one process.
MOST_CALLS = 4_096
# Where it begins while nobody knows the limits: each of these may be refused.
FIRST_CALLS = 8
# Where it goes on once the limits are known, or an answer has come that did not tell them.
NEXT_CALLS = 64
# A cut leaves this share; then it grows by about one a round of answers instead of doubling.
AFTER_CUT = 0.5
# Answers that take this many times as long as they used to say that there are calls enough.
SLOWER = 2.0
# How many rounds of answers are "used to".
ROUNDS_REMEMBERED = 16
# Never fewer, where the maximum allows: whether an overload is the service's or one row's own, another call tells.
FEWEST_CALLS = 2
# Only a number that is really in use has been tried.
IN_USE = 0.8


class Pace:
    """`allowed` calls at once, never more than `maximum`."""

    def __init__(self, maximum: int, *, first: int = FIRST_CALLS) -> None:
        self.maximum = maximum
        self._allowed = float(min(maximum, first))
        self._first = True
        self._cut = False
        self._now_s: float | None = None
        self._usual_s = 0.0
        self._began_with = self._allowed  # what the present round of answers began with,
        self._left = 0.0  # how many of them are still to come
        self._most_busy = 0  # and how many slots were in use at once

    @property
    def allowed(self) -> int:
        return int(self._allowed)

    def set_out(self) -> bool:
        """The limits are known, or as much as will be told; whether that allows more at once."""
        if not self._first:
            return False
        self._first = False
        before, self._allowed = self._allowed, max(self._allowed, float(min(self.maximum, NEXT_CALLS)))
        return self._allowed > before

    def answered(self, busy: int, latency_s: float) -> None:
        """A call went well; `busy` slots have a row in hand, its own among them."""
        self._note(latency_s)
        if self.set_out() or self._left <= 0:
            self._begin_round()
        self._left -= 1
        self._most_busy = max(self._most_busy, busy)
        if self._most_busy < self._began_with * IN_USE or self._is_slow():
            return
        step = 1 / self._allowed if self._cut else 1.0
        self._allowed = min(self._allowed + step, float(self.maximum))

    def overloaded(self, busy: int) -> None:
        """An episode of overload has begun, with so many slots busy."""
        self._cut, self._first = True, False
        cut = min(self._allowed, float(busy)) * AFTER_CUT
        self._allowed = min(max(cut, FEWEST_CALLS), float(self.maximum))
        self._begin_round()

    def _begin_round(self) -> None:
        """Answers that come together leave their slots together: whether a round's calls filled what was allowed is
        asked of the round, not of each answer."""
        self._began_with = self._left = self._allowed
        self._most_busy = 0

    def change_maximum(self, by_share: float) -> None:
        """More or fewer at once, by at least one."""
        changed = round(self.maximum * by_share)
        changed += (changed == self.maximum) * (1 if by_share > 1 else -1)
        self.maximum = max(1, min(changed, MOST_CALLS))
        self._allowed = min(self._allowed, float(self.maximum))

    def limit_to(self, maximum: int) -> None:
        """Another maximum from now on: others use what is left of the process."""
        self.maximum = maximum
        self._allowed = min(max(self._allowed, float(FEWEST_CALLS)), float(maximum))

    def _note(self, latency_s: float) -> None:
        """Two running means: of the last round of answers, and of the rounds before."""
        if self._now_s is None:
            self._now_s = self._usual_s = latency_s
        self._now_s += (latency_s - self._now_s) / max(self._allowed, 1.0)
        self._usual_s += (latency_s - self._usual_s) / (max(self._allowed, 1.0) * ROUNDS_REMEMBERED)

    def _is_slow(self) -> bool:
        return self._now_s is not None and self._now_s > SLOWER * self._usual_s
