"""What live calls have met of betas that the service does not take, one call after the other."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from runner.domain.outcome import Answer, Outcome
from runner.domain.own_betas import MOST_IN_A_ROW, is_of_rows, refusal_of_row


class OwnBetas(Struct):
    """`of_all` are the names that every row goes with."""

    of_all: Collection[str]
    _in_a_row: int = 0

    def seen(self, outcome: Outcome, betas: Collection[str]) -> Outcome:
        """The outcome of a call that went with these names, as the row's where it is."""
        if isinstance(outcome, Answer):
            self._in_a_row = 0
            return outcome
        if self._in_a_row == MOST_IN_A_ROW or not is_of_rows(outcome, set(betas).difference(self.of_all)):
            return outcome
        self._in_a_row += 1
        return refusal_of_row(outcome)
