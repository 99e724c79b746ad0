"""What is decided about every outcome: a table, and the laws that hold between its rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runner.domain.decide import (
    PAUSE_OF_TROUBLE,
    SCOPE_FAILURES,
    Continue,
    Decision,
    Finish,
    PauseRun,
    RetryPolicy,
    RowHistory,
    ScopeHistory,
    TryAgain,
    decide,
)
from runner.domain.outcome import AccountTrouble, Answer, Failure, FailureKind, Outcome, Usage
from runner.domain.states import PauseReason, RowStatus

NOW = 1_000_000_000_000
POLICY = RetryPolicy()
EARLIER, LATER = NOW - 20_000_000, NOW - 10_000_000
NEVER_TRIED, NEW_SCOPE = RowHistory(), ScopeHistory()
# This row has been tried, and somebody was answered after that: what meets it now is its own trouble.
OTHERS_FINE = (RowHistory(last_try_us=EARLIER), ScopeHistory(last_success_us=LATER))
NOBODY_SINCE = (RowHistory(last_try_us=LATER), ScopeHistory(last_success_us=EARLIER))


def answer(stop_reason: str) -> Answer:
    return Answer(message=b"{}", message_id="msg_1", model="m", stop_reason=stop_reason, usage=Usage())


def failure(kind: FailureKind, **told: object) -> Failure:
    plain = Failure(kind=kind, type=f"{kind}_error", message=f"it was {kind}")
    return replace(plain, **told)


def decided(
    outcome: Outcome,
    row: RowHistory = NEVER_TRIED,
    scope: ScopeHistory = NEW_SCOPE,
    policy: RetryPolicy = POLICY,
    chance: float = 0.5,
) -> Decision:
    return decide(outcome, row, scope, policy, now_us=NOW, chance=chance)


def again(outcome: Outcome, *args: object, **named: object) -> TryAgain:
    decision = decided(outcome, *args, **named)
    assert isinstance(decision, TryAgain)
    return decision


def test_unless_told_otherwise_a_row_has_five_attempts_and_ten_turns() -> None:
    assert (POLICY.max_attempts, POLICY.max_turns) == (5, 10)
    assert (NEVER_TRIED.counted, NEVER_TRIED.turns, NEW_SCOPE.setbacks) == (0, 0, 0)


# -- answers


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [
        ("end_turn", RowStatus.SUCCEEDED),
        ("stop_sequence", RowStatus.SUCCEEDED),
        ("tool_use", RowStatus.SUCCEEDED),
        ("a_reason_invented_next_year", RowStatus.SUCCEEDED),
        ("max_tokens", RowStatus.TRUNCATED),
        ("model_context_window_exceeded", RowStatus.TRUNCATED),
        ("refusal", RowStatus.REFUSED),
    ],
)
def test_a_whole_answer_finishes_the_row_by_its_stop_reason(stop_reason: str, status: RowStatus) -> None:
    used_up = RowHistory(counted=POLICY.max_attempts, turns=POLICY.max_turns)
    for row in (NEVER_TRIED, used_up):
        assert decided(answer(stop_reason), row) == Finish(status=status)


@pytest.mark.parametrize("stop_reason", ["pause_turn", "compaction"])
def test_an_interrupted_turn_goes_on_until_the_turns_are_used_up(stop_reason: str) -> None:
    paid = [decided(answer(stop_reason), RowHistory(turns=turns)) for turns in range(POLICY.max_turns)]
    assert paid[:-1] == [Continue()] * (POLICY.max_turns - 1)
    last = paid[-1]
    assert isinstance(last, Finish)
    assert (last.status, last.error_type) == (RowStatus.TRUNCATED, "max_turns")
    assert "limits.max_turns" in str(last.error_message)


# -- failures that no second try mends


def test_a_wrong_request_is_given_up_at_once_with_the_services_words() -> None:
    wrong = failure(FailureKind.ROW, type="invalid_request_error", message="max_tokens: too large")
    assert decided(wrong) == Finish(
        status=RowStatus.ERRORED, error_type="invalid_request_error", error_message="max_tokens: too large"
    )


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (AccountTrouble.CREDENTIALS, PauseReason.CREDENTIALS),
        (AccountTrouble.ADDRESS, PauseReason.ADDRESS),
        (AccountTrouble.BILLING, PauseReason.BILLING),
        (AccountTrouble.SPEND_CAP, PauseReason.SPEND_CAP),
        (AccountTrouble.MODEL, PauseReason.MODEL),
        (None, PauseReason.CREDENTIALS),
    ],
)
def test_account_trouble_pauses_the_run_and_never_ends_a_row(
    trouble: AccountTrouble | None, reason: PauseReason
) -> None:
    asked = failure(FailureKind.ACCOUNT, trouble=trouble, message="credit balance is too low")
    for counted in range(POLICY.max_attempts + 1):
        decision = decided(asked, RowHistory(counted=counted))
        assert decision == PauseRun(reason=reason, message="credit balance is too low")


def test_every_account_trouble_has_a_reason_to_pause() -> None:
    assert set(PAUSE_OF_TROUBLE) == set(AccountTrouble)


# -- which tries use up an attempt


@pytest.mark.parametrize(
    ("kind", "histories", "counted", "holds_scope"),
    [
        (FailureKind.TRANSIENT, (NEVER_TRIED, NEW_SCOPE), True, False),
        (FailureKind.TRANSIENT, OTHERS_FINE, True, False),
        (FailureKind.TRANSIENT, NOBODY_SINCE, True, False),
        (FailureKind.RATE_LIMITED, (NEVER_TRIED, NEW_SCOPE), False, True),
        (FailureKind.RATE_LIMITED, OTHERS_FINE, False, True),
        (FailureKind.RATE_LIMITED, NOBODY_SINCE, False, True),
        (FailureKind.OVERLOADED, (NEVER_TRIED, NEW_SCOPE), False, True),
        (FailureKind.OVERLOADED, OTHERS_FINE, True, True),
        (FailureKind.OVERLOADED, NOBODY_SINCE, False, True),
        (FailureKind.UNREACHABLE, (NEVER_TRIED, NEW_SCOPE), False, True),
        (FailureKind.UNREACHABLE, OTHERS_FINE, True, True),
        (FailureKind.UNREACHABLE, NOBODY_SINCE, False, True),
    ],
)
def test_only_the_rows_own_trouble_uses_up_an_attempt(
    kind: FailureKind, histories: tuple[RowHistory, ScopeHistory], counted: bool, holds_scope: bool
) -> None:
    decision = again(failure(kind), *histories)
    assert decision.counted is counted
    assert (decision.scope_until_us is not None) is holds_scope


@pytest.mark.parametrize(
    ("last_try_us", "last_success_us", "counted"),
    [
        (None, LATER, False),  # the row's first try says nothing about the row
        (EARLIER, None, False),  # nobody has ever been answered
        (EARLIER, EARLIER, False),  # not after, only at the same moment
        (EARLIER, EARLIER + 1, True),
    ],
)
def test_an_overload_counts_only_when_the_scope_has_answered_somebody_since(
    last_try_us: int | None, last_success_us: int | None, counted: bool
) -> None:
    decision = again(
        failure(FailureKind.OVERLOADED),
        RowHistory(last_try_us=last_try_us),
        ScopeHistory(last_success_us=last_success_us),
    )
    assert decision.counted is counted


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, *sorted(SCOPE_FAILURES)])
def test_a_troubled_service_fails_no_row_however_long_it_lasts(kind: FailureKind) -> None:
    """Half an hour of nothing but this: every row still waits."""
    row, scope = RowHistory(counted=POLICY.max_attempts - 1, last_try_us=NOW), ScopeHistory(last_success_us=EARLIER)
    for setbacks in range(200):
        decision = again(failure(kind), row, replace(scope, setbacks=setbacks))
        assert not decision.counted


@given(
    kinds=st.lists(st.sampled_from([FailureKind.TRANSIENT, FailureKind.RATE_LIMITED, FailureKind.OVERLOADED])),
    max_attempts=st.integers(1, 8),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_exactly_max_attempts_of_the_rows_own_failures_end_it(
    kinds: list[FailureKind], max_attempts: int, chance: float
) -> None:
    """Whatever 429s and overloads come between, and in whatever order."""
    policy, row, own = RetryPolicy(max_attempts=max_attempts), NEVER_TRIED, 0
    for kind in [*kinds, *[FailureKind.TRANSIENT] * max_attempts]:
        own += kind is FailureKind.TRANSIENT
        decision = decided(failure(kind), row, NEW_SCOPE, policy, chance)
        if isinstance(decision, Finish):
            break
        assert isinstance(decision, TryAgain)
        row = replace(row, counted=row.counted + decision.counted, last_try_us=NOW)
    assert own == max_attempts
    assert isinstance(decision, Finish)
    assert decision.status is RowStatus.ERRORED


# -- when the row goes again


@pytest.mark.parametrize(
    ("kind", "step", "longest_s"),
    [
        (FailureKind.TRANSIENT, 0, 1.0),
        (FailureKind.TRANSIENT, 3, 8.0),
        (FailureKind.RATE_LIMITED, 0, 1.0),
        (FailureKind.RATE_LIMITED, 5, 32.0),
        (FailureKind.RATE_LIMITED, 6, 60.0),
        (FailureKind.RATE_LIMITED, 10_000, 60.0),
        (FailureKind.OVERLOADED, 0, 1.0),
        (FailureKind.OVERLOADED, 8, 256.0),
        (FailureKind.OVERLOADED, 9, 300.0),
        (FailureKind.UNREACHABLE, 10_000, 300.0),
    ],
)
def test_backoff_doubles_up_to_its_ceiling(kind: FailureKind, step: int, longest_s: float) -> None:
    row, scope = RowHistory(counted=step), ScopeHistory(setbacks=step)
    decision = again(failure(kind), row, scope, RetryPolicy(max_attempts=20_000), 1.0)
    until_us = decision.scope_until_us or decision.at_us
    assert until_us == NOW + round(longest_s * 1e6)


TRIED_AGAIN = st.sampled_from([FailureKind.TRANSIENT, FailureKind.RATE_LIMITED, *sorted(SCOPE_FAILURES)])


@given(
    kind=TRIED_AGAIN,
    step=st.integers(0, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
    told_s=st.none() | st.just(0.0),
)
def test_our_own_backoff_is_jittered_between_a_twentieth_and_the_whole(
    kind: FailureKind, step: int, chance: float, told_s: float | None
) -> None:
    """A `retry-after` of zero is no licence to hammer: a service that says so for ever is met with backoff."""
    row, scope = RowHistory(counted=step), ScopeHistory(setbacks=step)
    policy = RetryPolicy(max_attempts=20_000)
    decision = again(failure(kind, retry_after_s=told_s), row, scope, policy, chance)
    ceiling_s = policy.scope_ceiling_s if kind in SCOPE_FAILURES else policy.ceiling_s
    whole_s = min(ceiling_s, 2.0 ** min(step, 20))
    spread_s = 0.0 if kind is FailureKind.TRANSIENT else min(1.0, whole_s / 2)
    assert whole_s * 0.05 <= (decision.at_us - NOW) / 1e6 <= whole_s + spread_s


@given(kind=st.sampled_from(sorted(SCOPE_FAILURES)), chance=st.floats(0, 1, exclude_max=True))
def test_after_an_overload_other_rows_go_first(kind: FailureKind, chance: float) -> None:
    """Only their answers can tell whether the trouble is the service's or this row's own."""
    decision = again(failure(kind), chance=chance)
    assert decision.scope_until_us is not None
    assert decision.at_us > decision.scope_until_us


@given(kind=TRIED_AGAIN, chance=st.floats(0, 1, exclude_max=True), told_s=st.floats(0.05, 1e9))
def test_nothing_goes_before_the_servers_word_nor_much_after_it(
    kind: FailureKind, chance: float, told_s: float
) -> None:
    decision = again(failure(kind, retry_after_s=told_s), chance=chance)
    capped_us = round(min(told_s, POLICY.retry_after_cap_s) * 1e6)
    assert capped_us <= decision.at_us - NOW <= capped_us + min(1_000_000, capped_us // 2 + 1)
    if decision.scope_until_us is not None:
        assert decision.scope_until_us == NOW + capped_us


@pytest.mark.parametrize("kind", sorted({FailureKind.RATE_LIMITED, FailureKind.TRANSIENT, *SCOPE_FAILURES}))
def test_rows_that_heard_the_same_word_do_not_return_in_one_wave(kind: FailureKind) -> None:
    told = failure(kind, retry_after_s=30.0)
    times = {again(told, chance=number / 100).at_us for number in range(100)}
    assert len(times) == 100


@pytest.mark.parametrize("told_s", [601.0, 86_400.0, 4_294_967.0])
def test_a_very_long_retry_after_is_asked_again_after_ten_minutes(told_s: float) -> None:
    decision = again(failure(FailureKind.RATE_LIMITED, retry_after_s=told_s), chance=0.0)
    assert decision.at_us == decision.scope_until_us == NOW + 600_000_000


def test_every_kind_of_failure_has_a_decision() -> None:
    for kind in FailureKind:
        assert isinstance(decided(failure(kind)), Finish | TryAgain | PauseRun)
