"""How many calls at once: carefully, more, half after an overload, never more than the maximum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.domain.pace import FEWEST_CALLS, FIRST_CALLS, MOST_CALLS, NEXT_CALLS, Pace


def rounds(pace: Pace, count: int, latency_s: float = 1.0) -> list[int]:
    seen = []
    for _ in range(count):
        for _ in range(pace.allowed):
            pace.answered(pace.allowed, latency_s)
        seen.append(pace.allowed)
    return seen


def out(maximum: int) -> Pace:
    """One whose service has answered."""
    pace = Pace(maximum)
    assert pace.set_out()
    return pace


def test_few_calls_are_out_until_the_first_answer_or_until_the_limits_are_known() -> None:
    pace = Pace(1_000)
    assert pace.allowed == FIRST_CALLS
    pace.answered(FIRST_CALLS, 1.0)
    assert pace.allowed == NEXT_CALLS
    assert out(1_000).allowed == NEXT_CALLS
    assert not pace.set_out()


def test_an_overload_before_the_first_answer_is_heeded_after_it_too() -> None:
    pace = Pace(1_000)
    pace.overloaded(FIRST_CALLS)
    assert not pace.set_out()
    assert rounds(pace, 2) == [FIRST_CALLS // 2, FIRST_CALLS // 2 + 1]


def test_it_doubles_with_each_round_of_answers_up_to_the_maximum() -> None:
    assert rounds(out(500), 4) == [2 * NEXT_CALLS, 4 * NEXT_CALLS, 500, 500]


def test_it_does_not_grow_while_fewer_are_out_than_it_allows() -> None:
    pace = out(100)
    for _ in range(1_000):
        pace.answered(3, 1.0)
    assert pace.allowed == NEXT_CALLS


def test_answers_that_come_together_and_free_their_slots_double_it_too() -> None:
    pace = out(1_000)
    for left in reversed(range(NEXT_CALLS)):
        pace.answered(left + 1, 1.0)
    assert pace.allowed == 2 * NEXT_CALLS


def test_an_overload_halves_what_was_out_and_then_it_grows_by_one_a_round() -> None:
    pace = Pace(1_000, first=200)
    pace.overloaded(80)
    assert pace.allowed == 40
    assert rounds(pace, 5) == [40, 41, 42, 43, 44]


def test_it_stops_growing_while_answers_take_much_longer_than_they_used_to() -> None:
    pace = Pace(1_000)
    rounds(pace, 4)
    before = pace.allowed
    rounds(pace, 2, latency_s=10.0)
    slow = pace.allowed
    assert slow <= before * 1.7
    rounds(pace, 1, latency_s=10.0)
    assert pace.allowed == slow


def test_two_calls_stay_so_that_one_row_s_own_trouble_is_told_from_the_service_s() -> None:
    pace = Pace(100)
    for _ in range(20):
        pace.overloaded(pace.allowed)
    assert pace.allowed == FEWEST_CALLS
    assert Pace(1).allowed == 1


def test_the_maximum_can_be_changed_meanwhile() -> None:
    pace = Pace(8)
    pace.change_maximum(1.25)
    assert pace.maximum == 10
    pace.change_maximum(0.8)
    assert (pace.maximum, pace.allowed) == (8, 8)
    for _ in range(100):
        pace.change_maximum(0.8)
    assert (pace.maximum, pace.allowed) == (1, 1)
    for _ in range(100):
        pace.change_maximum(1.25)
    assert pace.maximum == MOST_CALLS


@given(st.integers(1, 300), st.lists(st.sampled_from(["good", "slow", "over", "more", "less"]), max_size=200))
def test_it_stays_within_one_and_the_maximum(maximum: int, events: list[str]) -> None:
    pace = Pace(maximum)
    for event in events:
        if event == "over":
            pace.overloaded(pace.allowed)
        elif event in ("more", "less"):
            pace.change_maximum(1.25 if event == "more" else 0.8)
        else:
            pace.answered(pace.allowed, 1.0 if event == "good" else 9.0)
        assert 1 <= pace.allowed <= pace.maximum
