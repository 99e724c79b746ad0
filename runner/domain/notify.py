"""Who is told of what: the rules of a job's `notify:` block, and what is said. Pure; `api/notify` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from runner.domain.states import PauseReason, RunState


class Occasion(StrEnum):
    """What somebody may want to hear of."""

    FINISHED = "finished"  # every row has ended, well or not
    FAILED = "failed"  # rows failed, or the run stopped for a reason that a person has to mend
    BUDGET = "budget"  # our budget, the provider's spend cap or the credit is used up
    DEADLINE = "deadline"  # a fire was missed or skipped
    RETENTION = "retention"  # results of a batch are about to be deleted at the provider


class NotifyRule(Struct, frozen=True, kw_only=True):
    """On these occasions: call `webhook`, whose `${NAME}` are of the environment, or run `command`."""

    on: tuple[Occasion, ...]
    webhook: str | None = None
    command: tuple[str, ...] | None = None


class Notice(Struct, frozen=True, kw_only=True):
    """What is told. `text` is a sentence for people, `facts` the rest of the document for machines."""

    occasions: frozenset[Occasion]
    job: str
    text: str
    facts: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """The body of a webhook, and what a command reads."""
        occasions = sorted(str(occasion) for occasion in self.occasions)
        return {"schema": 1, "text": self.text, "occasions": occasions, "job": self.job, **self.facts}


def wanted(rules: Iterable[NotifyRule], notice: Notice) -> list[NotifyRule]:
    """The rules that want to hear of it."""
    return [rule for rule in rules if notice.occasions.intersection(rule.on)]


_MONEY = frozenset({PauseReason.BUDGET, PauseReason.SPEND_CAP, PauseReason.BILLING})
# Of these a person or the run itself knows already, and the next start goes on.
_PASSING = frozenset({PauseReason.REQUESTED, PauseReason.SUBMITTED})


def occasions_of(state: RunState, reason: PauseReason | None) -> frozenset[Occasion]:
    """What the state in which a run was left is an occasion of; nothing, while it is to go on by itself."""
    if state is RunState.DONE:
        return frozenset({Occasion.FINISHED})
    if state is RunState.DONE_WITH_FAILURES:
        return frozenset({Occasion.FINISHED, Occasion.FAILED})
    if state is not RunState.PAUSED or reason is None or reason in _PASSING:
        return frozenset()
    return frozenset({Occasion.BUDGET} if reason in _MONEY else {Occasion.FAILED})


def rules_from(told: Sequence[Mapping[str, Any]]) -> tuple[NotifyRule, ...]:
    """The rules of a job's snapshot."""
    return tuple(
        NotifyRule(
            on=tuple(Occasion(word) for word in rule["on"]),
            webhook=rule["webhook"],
            command=None if rule["command"] is None else tuple(rule["command"]),
        )
        for rule in told
    )
