"""What only a person can decide about a submission: said once, kept in the store, taken back when it is answered."""

from __future__ import annotations

from collections.abc import Collection

from runner.domain.quantity import of_rows
from runner.engine.batch.common import Common
from runner.store.submissions import Submission

# How often a question is asked again that only a person or another key can answer.
QUESTION_PACE_S = 300.0

ELSEWHERE = "the key now belongs to another workspace than the one the batch was sent to"
NOT_THERE = "the service no longer shows the batch: it was deleted, or the key is another workspace's by now"


class Questions:
    """The open ones of this process, by submission."""

    def __init__(self, common: Common) -> None:
        self._c = common
        self.open: dict[str, str] = {}

    def keep(self, submissions: Collection[str]) -> None:
        """Forget those of all others: they have come to an end that is known."""
        self.open = {one: why for one, why in self.open.items() if one in submissions}

    async def ask(self, submission: Submission, why: str) -> None:
        """A person has to decide."""
        c = self._c
        if self.open.get(submission.id) == why:
            return
        self.open[submission.id] = why
        await c.write(c.store.ask_about, submission.id, why)
        c.note(
            "batch_unknown",
            f"what became of a batch of {of_rows(submission.n)} has to be decided by a person: {why}",
            warning=True,
            batch=submission.id,
        )
        c.wake()

    async def take_back(self, submission: Submission) -> None:
        """Nobody has to decide any more."""
        if self.open.pop(submission.id, None) is not None or submission.question is not None:
            await self._c.write(self._c.store.ask_about, submission.id, None)
