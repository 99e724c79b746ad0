"""What to do about an outcome. The engines obey; nothing here waits, sends or writes.

The one retry owner of the program: the HTTP client never repeats a call by itself.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from runner.domain.betas import refusal
from runner.domain.explanations import with_code
from runner.domain.outcome import AccountTrouble, Answer, Failure, FailureKind, Outcome
from runner.domain.states import PauseReason, RowStatus

# A message that ends so has done what it could; everything else the API may invent counts as succeeded too,
# because the answer is whole (claude-api versioning: clients tolerate new values).
STATUS_OF_STOP = {
    "max_tokens": RowStatus.TRUNCATED,
    "model_context_window_exceeded": RowStatus.TRUNCATED,
    "refusal": RowStatus.REFUSED,
}
# The server stopped in the middle and wants its own content back to go on.
CONTINUED_STOPS = frozenset({"pause_turn", "compaction"})

PAUSE_OF_TROUBLE = {
    AccountTrouble.CREDENTIALS: PauseReason.CREDENTIALS,
    AccountTrouble.ADDRESS: PauseReason.ADDRESS,
    AccountTrouble.BILLING: PauseReason.BILLING,
    AccountTrouble.SPEND_CAP: PauseReason.SPEND_CAP,
    AccountTrouble.MODEL: PauseReason.MODEL,
    AccountTrouble.BETA: PauseReason.REFUSED,
}

# These say something about the service, not about the row.
SCOPE_FAILURES = frozenset({FailureKind.OVERLOADED, FailureKind.UNREACHABLE})
# Of one second's backoff; also the least that a server's word is taken for.
SHORTEST_WAIT_S = 0.05


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Bounds of trying again. Times in seconds.

    Ceilings: a minute is long enough for a broken request path, five for an overloaded service, and a
    `retry-after` beyond ten minutes is checked again every ten rather than believed for a day.
    """

    max_attempts: int = 5
    max_turns: int = 10
    base_s: float = 1.0
    ceiling_s: float = 60.0
    scope_ceiling_s: float = 300.0
    retry_after_cap_s: float = 600.0


class RowHistory(Struct, frozen=True, kw_only=True):
    """What the row has behind it. `counted` tries are those that used up an attempt, in this round."""

    counted: int = 0
    turns: int = 0
    last_try_us: int | None = None


class ScopeHistory(Struct, frozen=True, kw_only=True):
    """How the scope (organisation and model class) has been doing. `setbacks` counts failures in a row."""

    setbacks: int = 0
    last_success_us: int | None = None


class Finish(Struct, frozen=True, kw_only=True):
    """The row has ended."""

    status: RowStatus
    error_type: str | None = None
    error_message: str | None = None


class Continue(Struct, frozen=True, kw_only=True):
    """A paid turn that the next call takes up again."""


class TryAgain(Struct, frozen=True, kw_only=True):
    """The row goes again at `at_us`; `counted` says whether this try used up an attempt.

    `scope_until_us`, when set, holds back the whole scope until then.
    """

    at_us: int
    counted: bool
    scope_until_us: int | None = None


class PauseRun(Struct, frozen=True, kw_only=True):
    """Every row would meet the same end: the run pauses and this row waits."""

    reason: PauseReason
    message: str


Decision = Finish | Continue | TryAgain | PauseRun


def decide(
    outcome: Outcome,
    row: RowHistory,
    scope: ScopeHistory,
    policy: RetryPolicy,
    *,
    now_us: int,
    chance: float,
) -> Decision:
    """The decision for one try. `chance` in [0, 1) is the jitter of this try."""
    if isinstance(outcome, Answer):
        return _of_answer(outcome, row, policy)
    if outcome.kind is FailureKind.ROW:
        return _given_up(outcome)
    if outcome.kind is FailureKind.ACCOUNT:
        return pause_of(outcome)
    if outcome.kind is FailureKind.RATE_LIMITED:
        return _rate_limited(outcome, scope, policy, now_us, chance)
    return _try_again(outcome, row, scope, policy, now_us, chance)


def pause_of(failure: Failure) -> PauseRun:
    """The pause that a trouble of the account makes of the whole run."""
    trouble = failure.trouble or AccountTrouble.CREDENTIALS
    message = refusal(failure.message) if trouble is AccountTrouble.BETA else failure.message
    told = with_code(message, failure.code, failure.origin.request_id)
    return PauseRun(reason=PAUSE_OF_TROUBLE[trouble], message=told)


# A row that a batch ended without sending, for the last time that it may be tried.
STATUS_OF_UNSENT = {"expired": RowStatus.EXPIRED, "canceled": RowStatus.CANCELED}


def decide_line(outcome: Outcome, row: RowHistory, policy: RetryPolicy) -> Decision:
    """The decision for a line of a batch's results. What goes again rides in the next batch, so nothing waits here;
    every try counts, because a batch that fails whole says nothing about a passing state of the service."""
    if isinstance(outcome, Answer):
        return _of_answer(outcome, row, policy)
    if outcome.kind is FailureKind.ROW:
        return _given_up(outcome)
    if outcome.kind is FailureKind.ACCOUNT:
        return pause_of(outcome)
    if row.counted + 1 < policy.max_attempts:
        return TryAgain(at_us=0, counted=True)
    status = STATUS_OF_UNSENT.get(outcome.type, RowStatus.ERRORED)
    return replace(_given_up(outcome), status=status)


_SUCCEEDED = Finish(status=RowStatus.SUCCEEDED)
_FINISHED = {stop: Finish(status=status) for stop, status in STATUS_OF_STOP.items()}


def _of_answer(answer: Answer, row: RowHistory, policy: RetryPolicy) -> Decision:
    if answer.stop_reason not in CONTINUED_STOPS:
        return _FINISHED.get(answer.stop_reason, _SUCCEEDED)
    if row.turns + 1 < policy.max_turns:
        return Continue()
    return Finish(
        status=RowStatus.TRUNCATED,
        error_type="max_turns",
        error_message=f"still {answer.stop_reason} after {policy.max_turns} turns (limits.max_turns)",
    )


def _given_up(failure: Failure) -> Finish:
    told = with_code(failure.message, failure.code)
    return Finish(status=RowStatus.ERRORED, error_type=failure.type, error_message=told)


def _rate_limited(failure: Failure, scope: ScopeHistory, policy: RetryPolicy, now_us: int, chance: float) -> TryAgain:
    """The scope waits for the server's word; the row a little longer, so that no wave starts together."""
    wait_s = _told(failure, policy)
    if wait_s is None:
        wait_s = _backoff(scope.setbacks, policy.base_s, policy.ceiling_s, chance)
    until_us = now_us + round(wait_s * 1e6)
    return TryAgain(at_us=until_us + _spread_us(wait_s, chance), counted=False, scope_until_us=until_us)


def _try_again(
    failure: Failure, row: RowHistory, scope: ScopeHistory, policy: RetryPolicy, now_us: int, chance: float
) -> Decision:
    of_scope = failure.kind in SCOPE_FAILURES
    counted = not of_scope or _others_succeed(row, scope)
    if counted and row.counted + 1 >= policy.max_attempts:
        return _given_up(failure)
    told_s = _told(failure, policy)
    if told_s is not None:
        wait_s, spread_us = told_s, _spread_us(told_s, chance)
    elif of_scope:
        # Others go first: whether the trouble is the scope's or this row's own, only their answers can tell.
        wait_s = _backoff(scope.setbacks, policy.base_s, policy.scope_ceiling_s, chance)
        spread_us = _spread_us(wait_s, 1.0)
    else:
        wait_s, spread_us = _backoff(row.counted, policy.base_s, policy.ceiling_s, chance), 0
    until_us = now_us + round(wait_s * 1e6)
    return TryAgain(at_us=until_us + spread_us, counted=counted, scope_until_us=until_us if of_scope else None)


def _others_succeed(row: RowHistory, scope: ScopeHistory) -> bool:
    """Has the scope answered anybody since this row's last try? Then the trouble is this row's own."""
    if row.last_try_us is None or scope.last_success_us is None:
        return False
    return scope.last_success_us > row.last_try_us


def _told(failure: Failure, policy: RetryPolicy) -> float | None:
    """The wait that the server asked for. Zero is none: our own backoff keeps the service from being hammered."""
    if failure.retry_after_s is None or failure.retry_after_s <= 0:
        return None
    return max(SHORTEST_WAIT_S, min(failure.retry_after_s, policy.retry_after_cap_s))


def _spread_us(wait_s: float, chance: float) -> int:
    """How much later than the server's word this row goes, or all who heard it would go in the same instant."""
    return round(min(1.0, wait_s / 2) * chance * 1e6)


def _backoff(step: int, base_s: float, ceiling_s: float, chance: float) -> float:
    """Full jitter over an exponential ceiling; never nothing, so that a broken service is not hammered."""
    return max(SHORTEST_WAIT_S, chance) * min(ceiling_s, base_s * 2.0 ** min(step, 20))
