"""Names, times and the classes of answers of a submission: tables, one for each step."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.batch import DAY_US, BatchStatus, Retention, next_poll_s, retention
from runner.domain.outcome import Origin
from runner.domain.states import BATCH_MOVES, BatchState, after
from runner.domain.submission import (
    EVENT_OF_END,
    CreateReply,
    Intent,
    ServerTime,
    Timing,
    Whose,
    classify_create,
    custom_id,
    named_request,
    new_submission_id,
    parse_custom_id,
    read_first_line,
    us,
    verify_first_line,
)
from runner.domain.sweep import SweepTargets, sweep_targets

OURS = "abcdefgh27"
SERVER_US, SHARED_US = 1_800_000_000_000_000, 1_700_000_000_000_000


# --- names


@given(st.integers(0, 2**50 - 1), st.integers(0, 10**18))
def test_a_custom_id_is_legal_and_names_its_row(bits: int, idx: int) -> None:
    submission = new_submission_id(lambda _: bits)
    name = custom_id(submission, idx)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    assert parse_custom_id(name) == (submission, idx)


def test_submission_ids_use_all_their_bits() -> None:
    rng = random.Random(1)
    ids = {new_submission_id(rng.getrandbits) for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len({one[place] for one in ids}) == 32 for place in range(10))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "row-1",
            "abcdefghij",
            "abcdefghij-",
            "abcdefghij-01",
            "abcdefghij--1",
            "abcdefghij-1\n",
            "ABCDEFGHIJ-1",
        ),
        *(
            "abcdefghi1-1",
            "abcdefghijk-1",
            "abcdefghij-١",
            " abcdefghij-1",
            "abcdefghij-" + "9" * 20,
            "abcdefghij-1.0",
        ),
    ],
)
def test_names_of_others_are_not_taken_for_ours(text: str) -> None:
    assert parse_custom_id(text) is None


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        (b'{"custom_id":"abcdefgh27-5","result":{"type":"expired"}}', Whose.OURS),
        (b'{"result":{"custom_id":"x"},"custom_id":"abcdefgh27-0"}\r', Whose.OURS),
        (b'{"custom_id":"abcdefgh72-5","result":{"type":"expired"}}', Whose.FOREIGN),
        (b'{"custom_id":"row-5","result":{"type":"expired"}}', Whose.FOREIGN),
        (b'{"custom_id":7}', Whose.UNVERIFIABLE),
        (b'{"result":{}}', Whose.UNVERIFIABLE),
        (b"[]", Whose.UNVERIFIABLE),
        (b'{"custom_id":"abcdefgh27-5","res', Whose.UNVERIFIABLE),
        (b"\xff", Whose.UNVERIFIABLE),
        (b"[" * 100_000, Whose.UNVERIFIABLE),
        (b"", Whose.UNVERIFIABLE),
        (None, Whose.UNVERIFIABLE),
    ],
)
def test_one_line_tells_whose_a_batch_is(line: bytes | None, whose: Whose) -> None:
    assert verify_first_line(line, OURS) is whose


def test_a_line_of_another_submission_of_ours_names_it() -> None:
    assert read_first_line(b'{"custom_id":"zzzzzzzzzz-5"}').submission == "zzzzzzzzzz"


@pytest.mark.parametrize(
    ("message", "position"),
    [
        ("requests.0.custom_id: String should have at most 64 characters", 0),
        ("requests.99999.params.max_tokens: required", 99_999),
        ("requests[17].params: Extra inputs", 17),
        ("requests: List should have at least 1 item", None),
        ("myrequests.3.custom_id", None),
        ("", None),
    ],
)
def test_an_error_for_the_whole_create_names_its_row(message: str, position: int | None) -> None:
    assert named_request(message) == position


# --- what the answer to the POST means


def reply(
    status: int | None = None, error_type: str = "", request_id: str | None = "req_1", **told: object
) -> CreateReply:
    shaped = bool(error_type)
    return CreateReply(
        status=status, error_type=error_type or None, shaped=shaped, origin=Origin(request_id=request_id), **told
    )


BATCH = BatchStatus(id="msgbatch_1", status="in_progress", counts={"processing": 2})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (reply(200, batch=BATCH), BatchState.ACCEPTED),
        (reply(200), BatchState.UNKNOWN),
        (reply(200, "api_error"), BatchState.UNKNOWN),
        (reply(201, batch=BATCH), BatchState.UNKNOWN),
        (reply(307), BatchState.UNKNOWN),
        (reply(400, "invalid_request_error"), BatchState.REFUSED),
        (reply(401, "authentication_error"), BatchState.REFUSED),
        (reply(403, "permission_error"), BatchState.REFUSED),
        (reply(404, "not_found_error"), BatchState.REFUSED),
        (reply(413, "request_too_large"), BatchState.REFUSED),
        (reply(429, "rate_limit_error"), BatchState.REFUSED),
        (reply(529, "overloaded_error"), BatchState.REFUSED),
        (reply(529, "api_error"), BatchState.UNKNOWN),
        (reply(413), BatchState.UNKNOWN),
        (reply(429), BatchState.UNKNOWN),
        (reply(400, "invalid_request_error", request_id=None), BatchState.UNKNOWN),
        (reply(529, "overloaded_error", request_id=None), BatchState.UNKNOWN),
        (reply(408, "timeout_error"), BatchState.UNKNOWN),
        (reply(409, "conflict_error"), BatchState.UNKNOWN),
        (reply(500, "api_error"), BatchState.UNKNOWN),
        (reply(500, "overloaded_error"), BatchState.UNKNOWN),
        (reply(502), BatchState.UNKNOWN),
        (reply(504, "timeout_error"), BatchState.UNKNOWN),
        (reply(), BatchState.UNKNOWN),
        (reply(nothing_sent=True), BatchState.NOT_SENT),
        (reply(502, nothing_sent=True), BatchState.UNKNOWN),
    ],
)
def test_only_what_is_certain_is_more_than_unknown(told: CreateReply, state: BatchState) -> None:
    assert classify_create(told) is state
    assert after(BATCH_MOVES, BatchState.SENDING, EVENT_OF_END[state]) is state


def test_strictly_an_overload_is_no_refusal() -> None:
    assert classify_create(reply(529, "overloaded_error"), strict=True) is BatchState.UNKNOWN
    assert classify_create(reply(429, "rate_limit_error"), strict=True) is BatchState.REFUSED


# --- times


def test_the_times_are_those_of_the_documentation() -> None:
    timing = Timing()
    assert (timing.send_within_s, timing.create_limit_s, timing.listing_gap_s) == (60, 600, 60)
    assert timing.settle_after_intent_s == 60 + 600 + 600 + 900
    assert (timing.missing_patience_s, timing.overdue_after_s) == (1800, 3600)
    assert timing.sweep_after_s == 86_400 + 900


def test_short_times_keep_their_proportions() -> None:
    timing = Timing(window_s=2, settle_s=3, poll_s=0.1)
    assert (timing.send_within_s, timing.create_limit_s, timing.listing_gap_s) == (0.5, 2, 0.75)
    assert timing.settle_after_intent_s == pytest.approx(7.5)


def test_a_very_short_window_still_leaves_time_to_send() -> None:
    timing = Timing(window_s=0.1, settle_s=0.1, poll_s=0.1)
    assert timing.may_send(monotonic_s=0.4, shared_s=0.4)
    assert not timing.may_send(monotonic_s=0.6, shared_s=0.4)
    assert timing.settle_after_intent_s == pytest.approx(0.8), "and it is reckoned in"


@pytest.mark.parametrize("told", [{"window_s": 0}, {"settle_s": -1}, {"poll_s": 0}])
def test_times_of_nothing_are_refused(told: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Timing(**told)


@pytest.mark.parametrize(
    ("monotonic_s", "shared_s", "may"),
    [(0, 0, True), (59.9, 59.9, True), (60, 10, False), (10, 60, False), (1, 1500, False), (1, -30, False)],
)
def test_a_machine_that_slept_does_not_send(monotonic_s: float, shared_s: float, may: bool) -> None:
    assert Timing().may_send(monotonic_s=monotonic_s, shared_s=shared_s) is may


def test_settling_is_counted_in_the_servers_time() -> None:
    """Twelve seconds passed between the last answer and the intent, and `Date` may lag by one."""
    asked = ServerTime(server_us=SERVER_US, shared_us=SHARED_US)
    intent = Intent(submission=OURS, n=2, asked=asked, intent_us=SHARED_US + us(12))
    assert intent.settled_us(Timing()) == SERVER_US + us(12 + 1 + 2160)
    assert intent.settled_shared_us(Timing()) == SHARED_US + us(12 + 1 + 2160)


@pytest.mark.parametrize(
    ("created_s", "total", "could"),
    [
        (0, 2, True),
        (0, 3, False),
        (-60, 2, True),
        (-61, 2, False),
        (2161, 2, True),
        (2162, 2, False),
        (None, 2, True),
    ],
)
def test_a_candidate_has_the_right_number_and_time(created_s: int | None, total: int, could: bool) -> None:
    asked = ServerTime(server_us=SERVER_US, shared_us=SHARED_US)
    intent = Intent(submission=OURS, n=2, asked=asked, intent_us=SHARED_US)
    created_us = None if created_s is None else SERVER_US + us(created_s)
    batch = BatchStatus(id="b", status="new_word", counts={"processing": total - 1, "new": 1}, created_us=created_us)
    assert intent.could_own(batch, Timing()) is could


# --- the life of a batch


@pytest.mark.parametrize(
    ("day", "state"),
    [(0, "fresh"), (19.9, "fresh"), (20, "warn"), (28.9, "warn"), (29, "gone"), (400, "gone")],
)
def test_results_age_from_the_batchs_creation(day: float, state: str) -> None:
    assert retention(SERVER_US, SERVER_US + round(day * DAY_US)) is Retention(state)


@pytest.mark.parametrize(("late_s", "overdue"), [(-1, False), (3599, False), (3600, True)])
def test_an_hour_after_its_end_a_batch_is_overdue(late_s: float, overdue: bool) -> None:
    assert Timing().is_overdue(SERVER_US, SERVER_US + us(late_s)) is overdue
    assert not Timing().is_overdue(None, SERVER_US)


@pytest.mark.parametrize(
    ("minutes", "unlisted", "gone"), [(5, True, False), (29, True, False), (30, True, True), (600, False, False)]
)
def test_a_404_alone_never_makes_a_batch_gone(minutes: float, unlisted: bool, gone: bool) -> None:
    told = Timing().is_gone(SERVER_US, SERVER_US + us(60 * minutes), missing_from_full_listing=unlisted)
    assert told is gone


@pytest.mark.parametrize(
    ("age_s", "n", "wait_s"),
    [(0, 1, 60), (600, 1, 60), (1200, 1, 120), (3000, 1, 300), (80_000, 1, 300), (0, 50_000, 120), (0, 100_000, 180)],
)
def test_polling_slows_down_to_a_ceiling(age_s: float, n: int, wait_s: float) -> None:
    assert next_poll_s(age_s, n, 60.0) == pytest.approx(wait_s, rel=0.01)


def test_the_sweep_looks_at_what_nobody_owns_and_might_be_ours() -> None:
    def batch(name: str, total: int, status: str = "ended", *, archived: bool = False) -> BatchStatus:
        return BatchStatus(id=name, status=status, counts={"succeeded": total}, archived=archived)

    listed = [
        batch("owned", 2),
        batch("foreign", 2),
        batch("match", 2),
        batch("other", 9),
        batch("running", 2, "in_progress"),
        batch("old", 2, archived=True),
    ]
    known = {"owned": frozenset({"owned"}), "foreign": frozenset({"foreign"})}
    assert sweep_targets(listed, {2, 3}, **known) == SweepTargets(
        read=("match",), later=("running",), unreadable=("old",)
    )
    assert sweep_targets(listed, {2, 3}, **known, exclusive=True).read == ("match", "other")
