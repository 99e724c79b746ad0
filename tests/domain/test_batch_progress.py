"""The batches of a run at one moment: counted, timed, and never promised more than is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.domain.batch import DAY_US, SECOND_US, BatchStatus
from runner.domain.batch_progress import SHOWN_BATCHES, BatchProgress, batch_progress
from runner.domain.states import BatchState
from runner.domain.submission import Intent, ServerTime, Timing

NOW_US = 1_800_000_000 * SECOND_US
MINUTE_US = 60 * SECOND_US


@dataclass(frozen=True, kw_only=True)
class One:
    """A submission, `age_min` old; read ones took `took_min`."""

    id: str
    n: int = 100
    state: BatchState = BatchState.ACCEPTED
    age_min: float = 10
    took_min: float | None = None
    provider_id: str | None = "msgbatch_1"
    counts: Mapping[str, int] = field(default_factory=dict)
    question: str | None = None
    provisional: tuple[str, ...] = ()

    @property
    def created_us(self) -> int:
        return NOW_US - round(self.age_min * MINUTE_US)

    @property
    def intent(self) -> Intent:
        asked = ServerTime(server_us=self.created_us, shared_us=self.created_us)
        return Intent(submission=self.id, n=self.n, asked=asked, intent_us=self.created_us)

    @property
    def expires_us(self) -> int:
        return self.created_us + DAY_US

    @property
    def ended_us(self) -> int | None:
        return None if self.took_min is None else self.created_us + round(self.took_min * MINUTE_US)

    @property
    def ingested_us(self) -> int | None:
        return self.ended_us if self.state is BatchState.INGESTED else None


def read(name: str, took_min: float, *, age_min: float = 60, n: int = 100, **counts: int) -> One:
    counts = counts or {"succeeded": n}
    return One(id=name, n=n, state=BatchState.INGESTED, age_min=age_min, took_min=took_min, counts=counts)


def told(*submissions: One, rows_total: int | None = 1_000, rows_ended: int = 0, **more: Any) -> BatchProgress:
    plain: dict[str, Any] = {"statuses": {}, "missing_since_us": {}, "next_poll_us": None, "max_queued": None}
    return batch_progress(
        submissions, Timing(), NOW_US, rows_total=rows_total, rows_ended=rows_ended, **{**plain, **more}
    )


def test_batches_are_counted_by_what_becomes_of_them() -> None:
    numbers = told(
        read("a", 5),
        One(id="b"),
        One(id="c", state=BatchState.SENDING, provider_id=None),
        One(id="d", state=BatchState.ENDED),
        One(id="e", state=BatchState.UNKNOWN, provider_id=None),
        One(id="f", state=BatchState.REFUSED),
        One(id="g", state=BatchState.ABSENT),
        rows_ended=100,
    )
    assert (numbers.ended, numbers.in_progress, numbers.ready, numbers.unknown) == (1, 2, 1, 1)
    assert (numbers.rows_with_api, numbers.rows_unknown, numbers.open) == (300, 100, 4)


def test_one_that_has_ended_since_it_was_stored_is_ready_to_read() -> None:
    ended = BatchStatus(id="msgbatch_1", status="ended")
    numbers = told(One(id="a"), statuses={"a": ended})
    assert (numbers.in_progress, numbers.ready) == (0, 1)
    assert numbers.first[0].state is BatchState.ENDED


def test_one_that_was_asked_to_end_early_says_so() -> None:
    numbers = told(One(id="a"), statuses={"a": BatchStatus(id="msgbatch_1", status="canceling")})
    assert numbers.first[0].canceling


def test_only_a_handful_is_named_and_what_needs_somebody_comes_first() -> None:
    many = [One(id=f"n{number}") for number in range(10)]
    numbers = told(
        *many,
        One(id="lost", state=BatchState.UNKNOWN),
        One(id="asked", state=BatchState.UNKNOWN, question="whose?"),
    )
    assert numbers.open == 12
    assert [one.submission for one in numbers.first] == ["asked", "lost", "n0", "n1", "n2"]
    assert [one.number for one in numbers.first] == [12, 11, 1, 2, 3]
    assert len(numbers.first) == SHOWN_BATCHES


def test_rows_that_a_batch_gave_back_are_to_be_redone_until_they_ride_again() -> None:
    expired = read("a", 5, succeeded=70, expired=30)
    assert told(expired, rows_ended=70).to_redo == 30
    assert told(expired, One(id="b", n=30, age_min=1), rows_ended=70).to_redo == 0
    assert told(expired, One(id="b", n=20, age_min=1), rows_ended=70).to_redo == 10


def test_errors_that_were_a_row_s_end_are_not_to_be_redone() -> None:
    assert told(read("a", 5, succeeded=95, errored=5), rows_ended=100).to_redo == 0
    assert told(read("a", 5, succeeded=95, errored=5), rows_ended=97).to_redo == 3


def test_there_are_never_more_rows_to_redo_than_rows_left() -> None:
    expired = read("a", 5, expired=100)
    assert told(expired, rows_total=100, rows_ended=0).to_redo == 100
    assert told(expired, One(id="b", n=100, age_min=1), rows_total=100).to_redo == 0


def test_the_pace_is_that_of_the_last_five_in_the_order_of_their_ends() -> None:
    batches = [read(f"b{number}", number, age_min=100 - number) for number in range(1, 8)]
    assert told(*batches).paces_s == tuple(60.0 * number for number in (3, 4, 5, 6, 7))


def test_a_cancelled_batch_says_nothing_about_the_pace() -> None:
    assert told(read("a", 1, canceled=40, succeeded=60)).paces_s == ()


def running(*paces_min: float, **changes: Any) -> BatchProgress:
    """A run whose last 100 rows ride in a batch that is 10 minutes old."""
    before = [read(f"b{number}", took_min) for number, took_min in enumerate(paces_min)]
    rows = 100 * len(before)
    return told(*before, One(id="last", age_min=10), **{"rows_total": rows + 100, "rows_ended": rows, **changes})


def test_a_time_is_given_once_three_batches_of_that_size_have_shown_theirs() -> None:
    numbers = running(34, 52, 39)
    assert numbers.eta_us == (NOW_US + 24 * MINUTE_US, NOW_US + 42 * MINUTE_US)
    assert running(34, 52).eta_us is None


def test_no_time_is_given_while_rows_wait_or_are_unknown() -> None:
    assert running(34, 52, 39, rows_total=500).eta_us is None
    assert running(34, 52, 39, rows_total=None).eta_us is None
    lost = One(id="lost", state=BatchState.UNKNOWN)
    before = [read(f"b{number}", 30) for number in range(3)]
    assert told(*before, One(id="last"), lost, rows_total=500, rows_ended=300).eta_us is None


def test_no_time_is_given_that_has_passed() -> None:
    assert running(5, 6, 7).eta_us is None
    soonest, _latest = running(5, 6, 12).eta_us or (0, 0)
    assert soonest == NOW_US, "it may end at any moment"


def test_small_batches_say_nothing_about_large_ones() -> None:
    small = [read(f"b{number}", 1, n=2) for number in range(4)]
    assert told(*small, One(id="last"), rows_total=108, rows_ended=8).eta_us is None


@pytest.mark.parametrize("seconds", [0.4, 22.0])
def test_the_next_poll_is_told(seconds: float) -> None:
    assert told(One(id="a"), next_poll_us=NOW_US + round(seconds * SECOND_US)).next_poll_s == seconds


def test_a_poll_that_is_due_is_now() -> None:
    assert told(One(id="a"), next_poll_us=NOW_US - 5 * SECOND_US).next_poll_s == 0.0


def test_a_batch_that_cannot_be_found_is_named_with_for_how_long() -> None:
    numbers = told(One(id="a"), One(id="b"), missing_since_us={"b": NOW_US - 12 * MINUTE_US})
    assert numbers.first[0].submission == "b"
    assert numbers.first[0].missing_s == 720.0
