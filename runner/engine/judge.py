"""What an answer is worth beyond having come: does it follow its schema, is another variant to answer?

Everything is worked out from the row and the turns that were paid for, which are stored: a process that goes on after
a crash comes to the same request as the one before it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from runner.domain.decide import CONTINUED_STOPS, STATUS_OF_STOP, Continue, Decision, Finish
from runner.domain.job import Job
from runner.domain.outcome import Answer, Outcome
from runner.domain.request import MessagesRequest
from runner.domain.states import RowStatus
from runner.engine.feeder import Work
from runner.engine.turns import continued, grown, joined
from runner.files.answer_check import AnswerCheck, Checked, stop_reason_of
from runner.files.bad_row import BadRow
from runner.files.message_parts import message_parts, raw_text
from runner.files.render import Renderer, ways_to_ask
from runner.store.claims import StoredTurn

INVALID_OUTPUT = "invalid_output"
# The model reads it, so it is plain and short.
AGAIN = "Your last answer does not follow the schema: {problem}. Answer again, with JSON that follows the schema."


class _Standing(Struct):
    """Where a row stands: the variant that it is asked by, what was said since that began to be asked, how often it
    was asked again, and the paused turns of the answer that is being made."""

    variant: int
    said: list[dict[str, Any]] = field(default_factory=list)
    asked_again: int = 0
    paused: list[bytes] = field(default_factory=list)


class Judge:
    """Of one job."""

    def __init__(self, job: Job, renderer: Renderer) -> None:
        self._renderer = renderer
        self._reask = job.answer.reask
        self._max_turns = job.limits.max_turns
        self._checks = [AnswerCheck(one.request) for one in ways_to_ask(job)]
        # Where there is nothing to judge by, answers are not even looked into.
        self.judges = renderer.chooses or any(check.looks for check in self._checks)

    def request(self, row: Mapping[str, Any], work: Work) -> MessagesRequest:
        """The next request of a row, after the turns that were paid for. Notes its variant in `work`; raises
        BadRow."""
        at = self._standing(row, work)
        request = self._renderer.request(row, variant=at.variant)
        return continued(grown(request, at.said), at.paused)

    def place(self, row: Mapping[str, Any], work: Work) -> None:
        """Note in `work` which variant its row is asked by; the row is looked at only where this judges. Raises
        BadRow."""
        self._standing(row, work)

    def judged(self, decision: Decision, outcome: Outcome, row: Mapping[str, Any], work: Work) -> Decision:
        """The decision, where the answer is whole: another turn when it breaks its schema, or when another variant
        is to answer."""
        if not self.judges or not isinstance(decision, Finish) or not isinstance(outcome, Answer):
            return decision
        at = self._standing(row, work)
        check = self._checks[at.variant]
        message = joined(at.paused, outcome.message)
        checked = check.checked(message) if check.looks and decision.status is RowStatus.SUCCEEDED else None
        may_go_on = len(work.turns) + 1 < self._max_turns
        if checked is not None and checked.problem is not None:
            decision = Finish(
                status=RowStatus.INVALID_OUTPUT, error_type=INVALID_OUTPUT, error_message=checked.problem
            )
            if at.asked_again < self._reask and may_go_on:
                return Continue()
        after = self._variant_after(row, at.variant, decision, outcome, message, checked)
        return Continue() if after is not None and may_go_on else decision

    def _standing(self, row: Mapping[str, Any], work: Work) -> _Standing:
        """Every turn of the past says by itself why it was not the end."""
        at = _Standing(variant=self._renderer.variant_at(row, work.idx))
        for turn in work.turns:
            at = self._after(at, row, turn)
        work.variant, work.paused = at.variant, len(at.paused)
        return at

    def _after(self, at: _Standing, row: Mapping[str, Any], turn: StoredTurn) -> _Standing:
        if stop_reason_of(turn.message) in CONTINUED_STOPS:
            at.paused.append(turn.message)
            return at
        message = joined(at.paused, turn.message)
        checked = self._checks[at.variant].checked(message) if self._checks[at.variant].looks else None
        if checked is not None and checked.problem is not None and at.asked_again < self._reask:
            at.said += _said_back(message, checked.problem)
            at.asked_again += 1
            at.paused = []
            return at
        return _Standing(variant=self._escalated(row, at.variant, message, checked))

    def _escalated(self, row: Mapping[str, Any], variant: int, message: bytes, checked: Checked | None) -> int:
        told = _told(message)
        status = _status_of(told, checked)
        after = self._renderer.variant_after(row, variant, _result(status, told, message, checked))
        return variant if after is None else after

    def _variant_after(
        self,
        row: Mapping[str, Any],
        variant: int,
        decision: Finish,
        answer: Answer,
        message: bytes,
        checked: Checked | None,
    ) -> int | None:
        told = _told(answer.message)
        try:
            return self._renderer.variant_after(row, variant, _result(decision.status, told, message, checked))
        except BadRow:
            return None  # nothing calls for another variant: the answer stands


class _Told(msgspec.Struct):
    stop_reason: str | None = None
    model: str | None = None
    usage: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Told).decode


def _told(message: bytes) -> _Told:
    return _decode(message)


def _status_of(told: _Told, checked: Checked | None) -> RowStatus:
    if checked is not None and checked.problem is not None:
        return RowStatus.INVALID_OUTPUT
    return STATUS_OF_STOP.get(told.stop_reason or "", RowStatus.SUCCEEDED)


def _result(status: RowStatus, told: _Told, message: bytes, checked: Checked | None) -> dict[str, Any]:
    """What a `when` may look at."""
    text = msgspec.json.decode(raw_text(message_parts(message)))
    return {
        "status": str(status),
        "text": text,
        "output": None if checked is None else checked.value,
        "stop_reason": told.stop_reason,
        "model": told.model,
        "usage": told.usage,
        "error": None if checked is None else checked.problem,
    }


def _said_back(message: bytes, problem: str) -> list[dict[str, Any]]:
    """The answer as it was, and what is wrong with it: as the result of its tool calls where it made some."""
    content = msgspec.json.decode(message)["content"]
    words = AGAIN.format(problem=problem)
    calls: Sequence[dict[str, Any]] = [block for block in content if block.get("type") == "tool_use"]
    if not calls:
        return [{"role": "assistant", "content": content}, {"role": "user", "content": words}]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "is_error": True, "content": words} for call in calls
    ]
    return [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
